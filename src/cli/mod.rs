//! The command line: flags become a request, `ops` does it, `render` shows what came of it.
//!
//! One file a verb. Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 exists, busy or not
//! running, 5 the host lacks something (root's rights too), 6 bad configuration, 7 timed out;
//! `attach` gives the command's own.

mod attach;
mod console;
mod restart;
mod start;
mod stop;
mod supervise;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::error::{Error, Result};
use crate::store::Layout;
use crate::types::ContainerName;

/// Full operating systems in containers, treated like small virtual machines.
#[derive(Debug, Parser)]
#[command(name = "lxm", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// Directory of the containers [default: /var/lib/lxm]
    #[arg(short = 'P', long, global = true, value_name = "DIR")]
    path: Option<PathBuf>,

    /// How to show data
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    format: Format,

    /// Say nothing but errors
    #[arg(short, long, global = true)]
    quiet: bool,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Start(start::Start),
    Stop(stop::Stop),
    Restart(restart::Restart),
    #[command(visible_alias = "exec")]
    Attach(attach::Attach),
    Console(console::Console),
    #[command(hide = true)]
    Supervise(supervise::Supervise),
}

/// What every verb works with.
#[derive(Debug)]
pub struct Context {
    pub layout: Layout,
    pub format: Format,
    pub quiet: bool,
}

/// A container's name, given as `NAME` or as LXC users do with `-n NAME`.
#[derive(Debug, clap::Args)]
pub struct NameArg {
    /// The container
    #[arg(value_name = "NAME", required_unless_present = "name_option")]
    name: Option<ContainerName>,

    /// The container, as an option
    #[arg(short = 'n', long = "name", value_name = "NAME", conflicts_with = "name", id = "name_option")]
    name_option: Option<ContainerName>,
}

impl NameArg {
    pub fn get(self) -> Result<ContainerName> {
        self.name.or(self.name_option).ok_or_else(|| Error::usage("a container's name is missing"))
    }
}

impl Context {
    /// Says something to the person at the terminal.
    pub fn say(&self, message: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{message}");
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

/// Parses the command line and runs it. Every error of the program is reported here.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    match run(cli) {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            report(&e);
            ExitCode::from(e.kind().exit_status())
        }
    }
}

fn report(e: &Error) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "error: {e}");
    if let Some(hint) = e.hint_text() {
        let _ = writeln!(stderr, "hint: {hint}");
    }
}

fn run(cli: Cli) -> Result<u8> {
    let mut layout = Layout::from_env()?;
    if let Some(dir) = cli.path.or(layout.host_config()?.path) {
        layout = layout.with_containers(dir);
    }
    let context = Context { layout, format: cli.format, quiet: cli.quiet };
    match cli.verb {
        Verb::Start(verb) => verb.run(&context),
        Verb::Stop(verb) => verb.run(&context),
        Verb::Restart(verb) => verb.run(&context),
        Verb::Attach(verb) => verb.run(&context),
        Verb::Console(verb) => verb.run(&context),
        Verb::Supervise(verb) => verb.run(&context),
    }
}
