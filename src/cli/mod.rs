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
mod facts;
mod freeze;
mod gc;
mod generate;
mod image;
mod import;
mod info;
mod kill;
mod list;
mod logs;
mod mount;
mod name;
mod network;
mod publish;
mod quick;
mod rename;
pub mod render;
mod restart;
pub(crate) mod safe;
mod several;
mod snapshot;
mod ssh;
mod start;
mod stop;
mod supervise;
mod transfer;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

pub use name::{NameAndWords, NameArg, NamesArg};

use crate::error::{Error, Kind, Result};
use crate::store::Layout;
use crate::{sys, terminal};

/// Full operating systems in containers, treated like small virtual machines
#[derive(Debug, Parser)]
#[command(name = "lxm", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "\
Exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 exists, busy or not running,
5 the host lacks something (root's rights too), 6 bad configuration, 7 timed out.")]
pub struct Cli {
    #[command(flatten)]
    global: Global,

    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, clap::Args)]
struct Global {
    /// Directory of the containers [default: `path` of lxm.toml, or /var/lib/lxm]
    #[arg(short = 'P', long, global = true, value_name = "DIR")]
    path: Option<PathBuf>,

    /// How to show data
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    format: Format,

    /// Say nothing but errors
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// In the order of `lxm --help`: the life of a container, then the rest.
#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::Create),
    Start(start::Start),
    Stop(stop::Stop),
    Restart(restart::Restart),
    #[command(visible_alias = "exec")]
    Attach(attach::Attach),
    Console(console::Console),
    Ssh(ssh::Ssh),
    Logs(logs::Logs),
    Info(info::Info),
    #[command(visible_aliases = ["ls", "ps"])]
    List(list::List),
    Wait(wait::Wait),
    Config(config::Config),
    #[command(visible_alias = "pause")]
    Freeze(freeze::Freeze),
    #[command(visible_alias = "unpause")]
    Unfreeze(freeze::Unfreeze),
    Kill(kill::Kill),
    Rename(rename::Rename),
    Adopt(adopt::Adopt),
    #[command(visible_alias = "clone")]
    Copy(copy::Copy),
    Destroy(destroy::Destroy),
    Push(transfer::Push),
    Pull(transfer::Pull),
    Mount(mount::Mount),
    #[command(visible_alias = "unmount")]
    Umount(mount::Umount),
    Snapshot(snapshot::Snapshot),
    Diff(diff::Diff),
    Export(export::Export),
    Import(import::Import),
    Publish(publish::Publish),
    Image(image::Image),
    Network(network::Network),
    SshConfig(ssh::SshConfig),
    Enable(autostart::Enable),
    Disable(autostart::Disable),
    Autostart(autostart::Autostart),
    BootReport(autostart::BootReport),
    Check(check::Check),
    Gc(gc::Gc),
    #[command(hide = true)]
    SshProxy(ssh::SshProxy),
    #[command(hide = true)]
    SshKeys(ssh::SshKeys),
    #[command(hide = true)]
    Generate(generate::Generate),
}

fn run(cli: Cli) -> Result<u8> {
    let Global { path, format, quiet } = cli.global;
    let context = Context::new(path, format, quiet)?;
    match cli.verb {
        Verb::Create(verb) => verb.run(&context),
        Verb::Start(verb) => verb.run(&context),
        Verb::Stop(verb) => verb.run(&context),
        Verb::Restart(verb) => verb.run(&context),
        Verb::Attach(verb) => verb.run(&context),
        Verb::Console(verb) => verb.run(&context),
        Verb::Ssh(verb) => verb.run(&context),
        Verb::Logs(verb) => verb.run(&context),
        Verb::Info(verb) => verb.run(&context),
        Verb::List(verb) => verb.run(&context),
        Verb::Wait(verb) => verb.run(&context),
        Verb::Config(verb) => verb.run(&context),
        Verb::Freeze(verb) => verb.run(&context),
        Verb::Unfreeze(verb) => verb.run(&context),
        Verb::Kill(verb) => verb.run(&context),
        Verb::Adopt(verb) => verb.run(&context),
        Verb::Rename(verb) => verb.run(&context),
        Verb::Copy(verb) => verb.run(&context),
        Verb::Destroy(verb) => verb.run(&context),
        Verb::Push(verb) => verb.run(&context),
        Verb::Pull(verb) => verb.run(&context),
        Verb::Mount(verb) => verb.run(&context),
        Verb::Umount(verb) => verb.run(&context),
        Verb::Snapshot(verb) => verb.run(&context),
        Verb::Diff(verb) => verb.run(&context),
        Verb::Export(verb) => verb.run(&context),
        Verb::Import(verb) => verb.run(&context),
        Verb::Publish(verb) => verb.run(&context),
        Verb::Image(verb) => verb.run(&context),
        Verb::Network(verb) => verb.run(&context),
        Verb::SshConfig(verb) => verb.run(&context),
        Verb::Enable(verb) => verb.run(&context),
        Verb::Disable(verb) => verb.run(&context),
        Verb::Autostart(verb) => verb.run(&context),
        Verb::BootReport(verb) => verb.run(&context),
        Verb::Check(verb) => verb.run(&context),
        Verb::Gc(verb) => verb.run(&context),
        Verb::SshProxy(verb) => verb.run(&context),
        Verb::SshKeys(verb) => verb.run(&context),
        Verb::Generate(verb) => verb.run(&context),
    }
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
    clap_complete::CompleteEnv::with_factory(Cli::command).complete();
    let words: Vec<_> = std::env::args_os().collect();
    finish(quick::parse(&words).map_or_else(|| Cli::try_parse_from(&words), Ok), run)
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
