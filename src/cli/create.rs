//! `lxm create`

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use super::{Context, NameArg, require_root};
use crate::error::{Context as _, Error, Result};
use crate::ops::create::{Access, BuildRequest, CreateRequest, create};
use crate::ops::login;
use crate::sys;
use crate::terminal;
use crate::types::Arch;

/// Create a container from a template or image
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Templates are TOML files in /etc/lxm/templates and in lxm's own directory.
debian, ubuntu, busybox and archive are built on this host; alma, alpine, archlinux,
fedora, gentoo, opensuse, rocky, ubuntu-cloud and void are downloaded. The result
is cached as an image, which the next `lxm create` with the same options copies.

Examples:
  lxm create -t debian -n web                      Debian stable
  lxm create -t ubuntu -r noble db --packages postgresql
  lxm create -t archive old -- --file rootfs.tar.zst
  lxm create -t debian small -- --init runit")]
pub(super) struct Create {
    #[command(flatten)]
    name: NameArg,

    /// Template, or image that `lxm publish` made [default: `template` in lxm.toml, or debian]
    #[arg(short, long, value_name = "TEMPLATE")]
    template: Option<String>,

    /// Release of the distribution, such as trixie [default: the template's]
    #[arg(short, long, value_name = "RELEASE")]
    release: Option<String>,

    /// Architecture: amd64 or x86_64, arm64 or aarch64, ... [default: the host's]
    #[arg(short, long, value_name = "ARCH")]
    arch: Option<Arch>,

    /// Package mirror [default: `mirror` in lxm.toml, or the bootstrap tool's]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,

    /// Accept unsigned images over plain http: anyone on the network path can replace them
    #[arg(long)]
    insecure: bool,

    /// Additional packages, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    packages: Vec<String>,

    /// File with ssh public keys for the default user; repeatable [default: your ~/.ssh/*.pub]
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<PathBuf>,

    /// Password of the default user; without a value you are asked for it
    #[arg(long, value_name = "PASSWORD", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    password: Option<String>,

    /// No user namespace: root in the container is root on the host
    #[arg(long)]
    privileged: bool,

    /// How many ids the guest has, for files of owners above 65535 [default: 65536]
    #[arg(long, value_name = "COUNT")]
    id_range_size: Option<u32>,

    /// Destroy the container when it stops
    #[arg(long)]
    ephemeral: bool,

    /// Storage backend: auto, dir, overlay or btrfs [default: `storage` in lxm.toml, or auto]
    #[arg(long, value_name = "BACKEND")]
    storage: Option<String>,

    /// Connect eth0 to this bridge; or none, or host [default: `network.default` in lxm.toml, or lxmbr0]
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,

    /// Arguments for the template
    #[arg(last = true, value_name = "TEMPLATE-ARGS")]
    args: Vec<String>,
}

impl Create {
    pub(super) fn run(self, ctx: &Context) -> Result<u8> {
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
        let build = BuildRequest {
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
            build,
            ssh_keys,
            password,
            privileged: self.privileged,
            id_range_size: self.id_range_size,
            ephemeral: self.ephemeral,
            storage: self.storage.or(host.storage).unwrap_or_else(|| "auto".into()),
            network: self.network.unwrap_or(host.network.default),
        };
        let created = create(&ctx.layout, &request)?;
        let name = &request.name;
        created.remarks.iter().for_each(|remark| ctx.say(remark));
        ctx.say(&format!("created `{name}` (storage {}: {})", created.storage.backend, created.storage.why));
        match created.login {
            Some((user, Access::OwnKey)) => {
                let ssh = ctx.layout.command(format_args!("ssh {name}"));
                ctx.say(&format!("`{ssh}` logs in as `{user}`, with this host's own key"));
            }
            Some((user, Access::Locked)) => {
                let passwd = ctx.layout.command(format_args!("attach {name} -- passwd {user}"));
                ctx.say(&format!("no login works yet: set a password with `{passwd}`"));
            }
            Some((_, Access::Given)) | None => {}
        }
        let [start, attach, console] =
            ["start", "attach", "console"].map(|verb| ctx.layout.command(format_args!("{verb} {name}")));
        ctx.say(&format!("start it with `{start}`, then `{attach}` or `{console}`"));
        ctx.done(name, serde_json::json!({ "template": request.template, "storage": created.storage.backend }))
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
        _ => Err(Error::usage("the two passwords differ")),
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
