//! What every verb works with, and how its failure is reported.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::error::{Error, Kind, Result};
use crate::store::Layout;
use crate::terminal;

/// What every verb takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Directory that holds the containers [default: `path` in lxm.toml, or /var/lib/lxm]
    #[arg(short = 'P', long, global = true, value_name = "DIR")]
    pub path: Option<PathBuf>,

    /// Output format
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub format: Format,

    /// Print no progress and no notes, only errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// What every verb works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub layout: Layout,
    pub format: Format,
    pub quiet: bool,
    /// The whole command line, for what is made of it.
    pub command: fn() -> clap::Command,
}

impl Context {
    pub(crate) fn new(
        path: Option<PathBuf>,
        format: Format,
        quiet: bool,
        command: fn() -> clap::Command,
    ) -> Result<Self> {
        if quiet {
            crate::progress::be_quiet();
        }
        Ok(Context { layout: layout(path)?, format, quiet, command })
    }

    /// Writes a note for the user.
    pub(crate) fn say(&self, message: &str) {
        if !self.quiet {
            terminal::say(message);
        }
    }
}

/// Where everything is, with the containers in `path` where that is given.
pub(super) fn layout(path: Option<PathBuf>) -> Result<Layout> {
    let layout = Layout::from_env()?;
    let containers = match path {
        Some(dir) => Some(std::path::absolute(dir)?),
        None => layout.host_config()?.path,
    };
    Ok(match containers {
        Some(dir) => layout.with_containers(dir),
        None => layout,
    })
}

/// Fails with `Kind::HostLacks` unless the process has root's rights.
pub(crate) fn require_root(what: &str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::host_lacks(format!("only root can {what}")).hint("run it with `sudo`"))
}

/// Says what is missing where a file is root's: verbs that only look are for whoever may look.
pub(super) fn with_rights(e: Error) -> Error {
    match e.errno() {
        Some(libc::EACCES | libc::EPERM) if !nix::unistd::geteuid().is_root() => {
            e.with_kind(Kind::HostLacks).hint("run it with `sudo`")
        }
        _ => e,
    }
}

/// Tells the user what went wrong and what to do about it.
pub(super) fn report(e: &Error) {
    terminal::say(format_args!("error: {e}"));
    if let Some(hint) = e.hint_text() {
        terminal::say(format_args!("hint: {hint}"));
    }
}
