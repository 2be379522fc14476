//! `lxm attach`.

use super::{Context, NameArg, require_root};
use crate::attach;
use crate::error::Result;

/// Run a command or a shell in a running container
///
/// With a terminal here, the command gets a terminal of the container's own, otherwise pipes.
/// Signals are passed on to a command with pipes; a second SIGTERM, at least a second after the
/// first, ends lxm with status 143 and closes the command's streams.
///
/// Exit status: the command's own; 128 plus the signal's number if a signal killed it; 127 if the
/// command was not found; 126 if it cannot be executed; 125 if lxm itself failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lxm attach web
  lxm attach --user www-data web ls -l /srv
  tar c site | lxm attach web -- tar x -C /var/www")]
pub(super) struct Attach {
    #[command(flatten)]
    name: NameArg,

    /// User in the container: USER or UID, optionally with :GROUP or :GID [default: root]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,

    /// Set an environment variable; KEY alone passes on its value from here; repeatable
    #[arg(short, long, short_alias = 'v', alias = "set-var", value_name = "KEY=VALUE")]
    env: Vec<String>,

    /// Working directory in the container [default: the user's home]
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,

    /// Start with an empty environment
    #[arg(long)]
    clear_env: bool,

    /// Allocate a terminal; -T never does [default: if standard input and output are terminals]
    #[arg(short = 't', long, overrides_with = "no_tty")]
    tty: bool,

    /// As in docker: what lxm does anyway
    #[arg(short, long, hide = true)]
    interactive: bool,

    #[arg(short = 'T', long, overrides_with = "tty", hide = true)]
    no_tty: bool,

    /// Command and its arguments; what follows it is the command's [default: the user's login shell]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Attach {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("attach to a container")?;
        let terminal = match (self.tty, self.no_tty) {
            (true, _) => attach::TerminalMode::Always,
            (_, true) => attach::TerminalMode::Never,
            _ => attach::TerminalMode::IfHere,
        };
        let request = attach::Command {
            command: self.command,
            user: self.user,
            env: self.env,
            cwd: self.cwd,
            clear_env: self.clear_env,
            terminal,
        };
        attach::run(&context.layout, &self.name.name, request).or_else(|e| {
            context.report(&e, attach::OUR_FAILURE);
            Ok(attach::OUR_FAILURE)
        })
    }
}
