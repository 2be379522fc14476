//! What every verb works with, and how its failure is reported.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;

use super::done::Done;
use crate::error::{Error, Kind, Result};
use crate::store::Layout;
use crate::terminal;

/// What every verb takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Directory that holds the containers [default: `path` in lxm.toml, or /var/lib/lxm]
    #[arg(short = 'P', long, global = true, value_name = "DIR")]
    pub path: Option<PathBuf>,

    /// Output format; with `json` every command prints its result, and its error, as one JSON document
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

impl Format {
    /// What the words ask for, as far as it can be known of a command line that is not understood.
    pub(super) fn of_words(words: &[OsString]) -> Self {
        let ours = || words.iter().take_while(|word| *word != "--");
        let of_two = ours().zip(ours().skip(1)).any(|(option, value)| option == "--format" && value == "json");
        if of_two || ours().any(|word| word == "--format=json") { Format::Json } else { Format::Text }
    }
}

/// What every verb works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// As it was called, without aliases: `start`, `snapshot create`.
    pub verb: String,
    pub layout: Layout,
    pub format: Format,
    pub quiet: bool,
    /// The whole command line, for what is made of it.
    pub command: fn() -> clap::Command,
}

impl Context {
    pub(crate) fn new(verb: String, global: Global, command: fn() -> clap::Command) -> Result<Self> {
        let Global { path, format, quiet } = global;
        if quiet || format == Format::Json {
            crate::progress::be_quiet();
        }
        Ok(Context { verb, layout: layout(path)?, format, quiet, command })
    }

    /// Writes a note for the user.
    pub(crate) fn say(&self, message: &str) {
        if !self.quiet {
            terminal::say(message);
        }
    }

    /// Shows in the machine's form what was done to `name`, with what `facts` says of it. In text a
    /// verb that succeeds says only what it has to say.
    pub(crate) fn done(&self, name: impl std::fmt::Display, facts: impl serde::Serialize) -> Result<u8> {
        if self.format == Format::Json {
            super::render::json(&Done::of(name, Ok(facts))?.entry(&self.verb))?;
        }
        Ok(0)
    }

    /// Tells the user what went wrong beside the error that the verb fails with.
    pub(super) fn report_too(&self, e: &Error) {
        match self.format {
            Format::Text => self.report(e, e.kind().exit_status()),
            Format::Json => terminal::say(e),
        }
    }

    /// Tells the user what went wrong; `status` is the exit status that follows from it.
    pub(super) fn report(&self, e: &Error, status: u8) {
        report(self.format, e, status);
    }
}
/// Where everything is, with the containers in `path` where that is given.
pub(super) fn layout(path: Option<PathBuf>) -> Result<Layout> {
    let layout = Layout::from_env()?;
    let containers = match path {
        Some(dir) => Some(std::path::absolute(dir)?),
        None => configured(&layout)?,
    };
    Ok(match containers {
        Some(dir) => layout.with_containers(dir),
        None => layout,
    })
}

/// The directory of containers that `lxm.toml` names. A mistake in that file is told and keeps nothing from
/// being done that does without it, but for one in this very line.
fn configured(layout: &Layout) -> Result<Option<PathBuf>> {
    let error = match layout.host_config() {
        Ok(host) => return Ok(host.path),
        Err(error) => error,
    };
    let path = layout.host_settings().path;
    if path.is_none() && layout.names_directory() {
        return Err(error);
    }
    terminal::say(format_args!("warning: {error}"));
    Ok(path)
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
pub(super) fn report(format: Format, e: &Error, status: u8) {
    if format == Format::Json {
        return super::done::report(e, status);
    }
    terminal::say(format_args!("error: {e}"));
    if let Some(hint) = e.hint_text() {
        terminal::say(format_args!("hint: {hint}"));
    }
}
