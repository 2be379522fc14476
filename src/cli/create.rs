//! `lxm create`

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use super::{Context, NameArg, require_root};
use crate::error::{Context as _, Error, Result};
use crate::ops::create::{Access, CreateRequest, create};
use crate::ops::login;
use crate::sys;
use crate::template::Order;
use crate::terminal;
use crate::types::Arch;

/// Make a container from a template
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Templates are TOML files in /etc/lxm/templates and in lxm's own directory.
debian, ubuntu, busybox and archive are built here; alma, alpine, archlinux,
fedora, gentoo, opensuse, rocky, ubuntu-cloud and void are downloaded. The made
system is kept as an image: the next create of the same kind copies it.

Examples:
  lxm create -t debian -n web                      Debian stable
  lxm create -t ubuntu -r noble db --packages postgresql
  lxm create -t archive old -- --file rootfs.tar.zst
  lxm create -t debian small -- --init runit")]
pub struct Create {
    #[command(flatten)]
    name: NameArg,

    /// What to make it from [default: `template` of lxm.toml, or debian]
    #[arg(short, long, value_name = "NAME")]
    template: Option<String>,

    /// Release of the template's system
    #[arg(short, long, value_name = "RELEASE")]
    release: Option<String>,

    /// Architecture, by Debian's name or the kernel's [default: the host's]
    #[arg(short, long, value_name = "ARCH")]
    arch: Option<Arch>,

    /// Archive to get packages from [default: the bootstrap tool's own]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,

    /// Believe an image server that sends unsigned lists by http: who is on the way chooses the system
    #[arg(long)]
    insecure: bool,

    /// More packages to install, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    packages: Vec<String>,

    /// Public key for the default user; repeatable [default: your ~/.ssh/*.pub]
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<PathBuf>,

    /// Password for the default user; without a value it is asked for
    #[arg(long, value_name = "PASSWORD", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    password: Option<String>,

    /// Root in the container is root of the host
    #[arg(long)]
    privileged: bool,

    /// Remove it when it stops
    #[arg(long)]
    ephemeral: bool,

    /// Where its root file system is kept: auto, dir, overlay or btrfs [default: `storage` of lxm.toml, or auto]
    #[arg(long, value_name = "BACKEND")]
    storage: Option<String>,

    /// What its eth0 is wired to: none, host or a bridge [default: `network.default` of lxm.toml, or lxmbr0]
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,

    /// Arguments of the template
    #[arg(last = true, value_name = "TEMPLATE-ARGS")]
    args: Vec<String>,
}

impl Create {
    pub fn run(self, ctx: &Context) -> Result<u8> {
        require_root("create containers")?;
        let name = self.name.name;
        let host = ctx.layout.host_config()?;
        let template = self.template.or(host.template).unwrap_or_else(|| "debian".into());
        let ssh_keys = match self.ssh_key.as_slice() {
            [] => login::keys_of_caller(),
            files => files.iter().map(|file| login::keys_of(file)).collect::<Result<Vec<_>>>()?.concat(),
        };
        let password = match self.password.as_deref() {
            None => None,
            Some("") => Some(login::hash_password(&ask_password()?)?),
            Some(password) => Some(login::hash_password(password)?),
        };
        let order = Order {
            release: self.release,
            arch: self.arch,
            mirror: self.mirror.or_else(|| host.mirror.get(&template).cloned()),
            packages: self.packages,
            args: self.args,
            insecure: self.insecure,
        };
        let request = CreateRequest {
            name,
            template,
            order,
            ssh_keys,
            password,
            privileged: self.privileged,
            ephemeral: self.ephemeral,
            storage: self.storage.or(host.storage).unwrap_or_else(|| "auto".into()),
            network: self.network.unwrap_or(host.network.default),
        };
        let created = create(&ctx.layout, &request)?;
        let name = &request.name;
        ctx.say(&format!("created `{name}` (storage {}: {})", created.storage.backend, created.storage.why));
        match created.login {
            Some((user, Access::OwnKey)) => {
                let ssh = ctx.layout.command(format_args!("ssh {name}"));
                ctx.say(&format!("`{ssh}` logs in as `{user}`, with this host's own key"));
            }
            Some((user, Access::Locked)) => {
                let passwd = ctx.layout.command(format_args!("attach {name} -- passwd {user}"));
                ctx.say(&format!("nobody can log in yet: `{passwd}` sets a password"));
            }
            Some((_, Access::Given)) | None => {}
        }
        let [start, attach, console] =
            ["start", "attach", "console"].map(|verb| ctx.layout.command(format_args!("{verb} {name}")));
        ctx.say(&format!("start it with `{start}`, then `{attach}` or `{console}`"));
        Ok(0)
    }
}

/// Asks twice on a terminal; elsewhere takes the first line of standard input.
fn ask_password() -> Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let mut line = String::new();
        stdin.lock().read_line(&mut line).context(|| "read the password")?;
        return Ok(line.trim_end_matches('\n').to_owned());
    }
    let first = ask_hidden("password: ")?;
    match ask_hidden("again: ")? {
        second if second == first => Ok(first),
        _ => Err(Error::usage("the passwords differ")),
    }
}

fn ask_hidden(prompt: &str) -> Result<String> {
    let stdin = std::io::stdin();
    let mut line = String::new();
    let read = {
        let _hidden = sys::tty::HiddenInput::on(&stdin)?;
        terminal::ask(prompt).and_then(|()| stdin.lock().read_line(&mut line))
    };
    // The newline typed was not shown.
    terminal::say("");
    read.context(|| "read the password")?;
    Ok(line.trim_end_matches('\n').to_owned())
}
