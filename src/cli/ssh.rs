//! `lxm ssh`, `ssh-config`, and what ssh itself calls.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::{Context, Format, NameArg, render, require_root};
use crate::error::{Error, Result};
use crate::ops::ssh;

/// Log in to a container over ssh, or run a command in it
///
/// Needs neither DNS nor a route to the container. Its host keys are read from its files, so that ssh
/// does not ask to confirm them.
#[derive(Debug, clap::Args)]
pub(super) struct Ssh {
    #[command(flatten)]
    name: NameArg,

    /// User to log in as [default: the first ordinary user with authorized keys, else root]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,

    /// Option for ssh(1), as its -o takes it; repeatable
    #[arg(short, long = "option", value_name = "OPTION")]
    option: Vec<String>,

    /// Private key to log in with
    #[arg(short, long, value_name = "FILE")]
    identity: Option<std::path::PathBuf>,

    /// Command and its arguments; what follows it is the command's [default: a shell]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Ssh {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("connect to a container from inside")?;
        let layout = &context.layout;
        let name = self.name.name;
        let known_hosts = ssh::known_hosts(layout, &name)?;
        let ssh::Login { user, identity } = ssh::login(layout, &name, self.user)?;
        let identity = self.identity.or(identity);
        let program = std::env::current_exe()?;
        let mut command = Command::new("ssh");
        let proxy =
            format!("ProxyCommand={} --path {} ssh-proxy {name} %p", program.display(), layout.containers().display());
        let known = format!("UserKnownHostsFile={}", known_hosts.display());
        let fixed =
            [proxy.as_str(), &known, "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes", "CheckHostIP=no"];
        for option in fixed.into_iter().chain(self.option.iter().map(String::as_str)) {
            command.args(["-o", option]);
        }
        if let Some(identity) = identity {
            command.arg("-i").arg(identity);
        }
        command
            .env("LXM_ROOT", layout.root())
            .args(["-l", &user, "--"])
            .arg(ssh::host_name(layout, &name))
            .args(self.command);
        let e = command.exec();
        Err(match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::host_lacks("`ssh` not found in PATH").hint("install the package openssh-client")
            }
            _ => Error::from(e).step("run `ssh`"),
        })
    }
}

/// Print or install the ssh configuration for `ssh USER@NAME.lxm`
#[derive(Debug, clap::Args)]
pub(super) struct SshConfig {
    /// Install it as /etc/ssh/ssh_config.d/50-lxm.conf
    #[arg(long)]
    install: bool,
}

impl SshConfig {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        if self.install {
            require_root("write to /etc/ssh")?;
            let file = ssh::install_config(&context.layout)?;
            context.say(&format!("wrote `{}`", file.display()));
            return context.done(file.display(), ());
        }
        let config = ssh::config(&context.layout)?;
        match context.format {
            Format::Text => render::text(&config)?,
            Format::Json => render::json(&serde_json::json!({ "config": config }))?,
        }
        Ok(0)
    }
}

/// Join standard input and output to a port of a container (ssh's ProxyCommand)
#[derive(Debug, clap::Args)]
pub(super) struct SshProxy {
    host: String,
    #[arg(default_value_t = 22)]
    port: u16,
}

impl SshProxy {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let name = ssh::container_of(&self.host)?;
        ssh::proxy(&context.layout, &name, self.port).map(|()| 0)
    }
}

/// Print the host keys of a container (ssh's KnownHostsCommand)
#[derive(Debug, clap::Args)]
pub(super) struct SshKeys {
    host: String,
}

impl SshKeys {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let name = ssh::container_of(&self.host)?;
        let keys =
            ssh::host_keys(&context.layout, &name).or_else(|e| ssh::noted_keys(&context.layout, &name).ok_or(e))?;
        keys.iter().try_for_each(|key| render::line(format!("{} {key}", self.host))).map(|()| 0)
    }
}
