//! The command line: flags become a request, `ops` does it, `render` shows what came of it.
//!
//! One file a verb. Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 exists, busy or not
//! running, 5 the host lacks something (root's rights too), 6 bad configuration, 7 timed out;
//! `attach` gives the command's own.

mod adopt;
mod attach;
mod autostart;
mod check;
mod config;
mod console;
mod copy;
mod create;
mod destroy;
mod diff;
mod export;
mod for_each;
mod freeze;
mod gc;
mod generate;
mod image;
mod import;
mod info;
mod json;
mod kill;
mod list;
mod logs;
mod mount;
mod name;
mod network;
mod publish;
mod rename;
pub mod render;
mod restart;
pub(crate) mod sanitize;
mod snapshot;
mod ssh;
mod start;
mod stop;
mod supervise;
mod transfer;
mod tree;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

pub use tree::command;

use name::{NameArg, NamesArg};
use tree::{Group, Parsed, Verb, verb};

use crate::error::{Error, Kind, Result};
use crate::store::Layout;
use crate::{sys, terminal};

/// What every verb takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Directory that holds the containers [default: `path` in lxm.toml, or /var/lib/lxm]
    #[arg(short = 'P', long, global = true, value_name = "DIR")]
    path: Option<PathBuf>,

    /// Output format
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    format: Format,

    /// Print no progress and no notes, only errors
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// All verbs that people type, in the order of `lxm --help`. A new one is a file and a line here.
const GROUPS: &[Group] = &[
    Group {
        heading: "Life cycle",
        verbs: &[
            verb!("create" => create::Create),
            verb!("start" => start::Start),
            verb!("stop" => stop::Stop),
            verb!("restart" => restart::Restart),
            verb!("freeze" | "pause" => freeze::Freeze),
            verb!("unfreeze" | "unpause" => freeze::Unfreeze),
            verb!("kill" => kill::Kill),
            verb!("wait" => wait::Wait),
            verb!("rename" => rename::Rename),
            verb!("copy" | "clone" => copy::Copy),
            verb!("destroy" => destroy::Destroy),
        ],
    },
    Group {
        heading: "Work inside a container",
        verbs: &[
            verb!("attach" | "exec" => attach::Attach),
            verb!("console" => console::Console),
            verb!("ssh" => ssh::Ssh),
            verb!("ssh-config" => ssh::SshConfig),
        ],
    },
    Group {
        heading: "Inspect and configure",
        verbs: &[
            verb!("list" | "ls" | "ps" => list::List),
            verb!("info" => info::Info),
            verb!("logs" => logs::Logs),
            verb!("diff" => diff::Diff),
            verb!("config" => config::Config),
        ],
    },
    Group {
        heading: "Files, snapshots and images",
        verbs: &[
            verb!("push" => transfer::Push),
            verb!("pull" => transfer::Pull),
            verb!("mount" => mount::Mount),
            verb!("umount" | "unmount" => mount::Umount),
            verb!("snapshot" => snapshot::Snapshot),
            verb!("export" => export::Export),
            verb!("import" => import::Import),
            verb!("publish" => publish::Publish),
            verb!("image" => image::Image),
        ],
    },
    Group { heading: "Network", verbs: &[verb!("network" => network::Network)] },
    Group {
        heading: "Host",
        verbs: &[
            verb!("enable" => autostart::Enable),
            verb!("disable" => autostart::Disable),
            verb!("autostart" => autostart::Autostart),
            verb!("boot-report" => autostart::BootReport),
            verb!("adopt" => adopt::Adopt),
            verb!("gc" => gc::Gc),
            verb!("check" => check::Check),
        ],
    },
];

/// Verbs that programs call: ssh, and what builds the package.
const HIDDEN: &[Verb] =
    &[verb!("ssh-proxy" => ssh::SshProxy), verb!("ssh-keys" => ssh::SshKeys), verb!("generate" => generate::Generate)];

fn run(parsed: Parsed) -> Result<u8> {
    let Global { path, format, quiet } = parsed.global;
    let context = Context::new(path, format, quiet)?;
    (parsed.verb.run)(&parsed.matches, &context)
}

/// What every verb works with.
#[derive(Debug)]
pub struct Context {
    pub layout: Layout,
    pub format: Format,
    pub quiet: bool,
}

impl Context {
    fn new(path: Option<PathBuf>, format: Format, quiet: bool) -> Result<Self> {
        if quiet {
            crate::progress::be_quiet();
        }
        let layout = Layout::from_env()?;
        let containers = match path {
            Some(dir) => Some(std::path::absolute(dir)?),
            None => layout.host_config()?.path,
        };
        let layout = match containers {
            Some(dir) => layout.with_containers(dir),
            None => layout,
        };
        Ok(Context { layout, format, quiet })
    }

    /// Says something to the person at the terminal.
    pub fn say(&self, message: &str) {
        if !self.quiet {
            terminal::say(message);
        }
    }
}

/// Fails with `Kind::HostLacks` unless the process has root's rights.
pub fn require_root(what: &str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::host_lacks(format!("only root can {what}")).hint("run it with `sudo`"))
}

/// Says what is missing where a file is root's: verbs that only look are for whoever may look.
fn with_rights(e: Error) -> Error {
    match e.errno() {
        Some(libc::EACCES | libc::EPERM) if !nix::unistd::geteuid().is_root() => {
            e.with_kind(Kind::HostLacks).hint("run it with `sudo`")
        }
        _ => e,
    }
}

/// Parses the command line and runs it. Every error of the program is reported here.
pub fn main() -> ExitCode {
    // Executed by its magic link the kernel calls it `exe`, and so would those who name the holder of
    // a port.
    let _ = rustix::thread::set_name(c"lxm");
    sys::umask::take_own();
    sys::birth::wait_for_children();
    if let Some(asked) = supervise::Supervise::asked() {
        return finish(asked, supervise::Supervise::run);
    }
    // Answers a shell's question for completions, if `COMPLETE` says that this is one.
    clap_complete::CompleteEnv::with_factory(command).complete();
    let words: Vec<_> = std::env::args_os().collect();
    finish(tree::parse(&words), run)
}

/// Runs what was parsed, or says why it could not be; gives the exit status.
fn finish<T>(parsed: clap::error::Result<T>, run: impl FnOnce(T) -> Result<u8>) -> ExitCode {
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(e) => {
            // A closed pipe is the reader's decision.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    match run(parsed).map_err(with_rights) {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            report(&e);
            ExitCode::from(e.kind().exit_status())
        }
    }
}

/// Tells the person at the terminal what went wrong and what to do about it.
fn report(e: &Error) {
    terminal::say(format_args!("error: {e}"));
    if let Some(hint) = e.hint_text() {
        terminal::say(format_args!("hint: {hint}"));
    }
}
