use super::{Context, NameArg, require_root};
use crate::attach;
use crate::error::Result;

/// Run a command, or a shell, in a running container
///
/// The exit status is the command's own, 128 plus the number of the signal that ended it, 127 if
/// it was not found, 126 if it cannot be executed, 125 if lxm failed or a stream could not be read
/// or written. Signals are passed on to a command that has pipes; a SIGTERM a second or more after
/// the first ends lxm itself with 143, and the command is hung up on.
///
/// The command has pipes, or a terminal of the guest's own, and lxm carries what is in them.
#[derive(Debug, clap::Args)]
pub struct Attach {
    #[command(flatten)]
    name: NameArg,

    /// User of the guest, by name or number, with `:GROUP` if wanted [default: root]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,

    /// Set a variable; `KEY` alone takes it from here
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,

    /// Directory to run in [default: the user's home]
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,

    /// Start from an empty environment
    #[arg(long)]
    clear_env: bool,

    /// Give the command a terminal, or none [default: if there is one here]
    #[arg(short = 't', long, overrides_with = "no_tty")]
    tty: bool,

    #[arg(short = 'T', long, overrides_with = "tty", hide = true)]
    no_tty: bool,

    /// The command and its arguments [default: the user's shell]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Attach {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("attach to a container")?;
        let terminal = match (self.tty, self.no_tty) {
            (true, _) => attach::Terminal::Always,
            (_, true) => attach::Terminal::Never,
            _ => attach::Terminal::IfHere,
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
            super::report(&e);
            Ok(attach::OUR_FAILURE)
        })
    }
}
