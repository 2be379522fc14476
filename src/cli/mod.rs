//! The command line: flags become a request, `ops` does it, `render` shows what came of it.
//!
//! One file a verb. Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 exists, busy or not
//! running, 5 the host lacks something (root's rights too), 6 bad configuration, 7 timed out;
//! `attach` gives the command's own.
//!
//! It reaches the world through `ops`, `container` and `attach`; else it names values alone. Start reading at `verbs`.

mod adopt;
mod attach;
mod autostart;
mod check;
mod config;
mod console;
mod context;
mod copy;
mod create;
mod destroy;
mod diff;
mod done;
mod export;
mod for_each;
mod foreign;
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
pub(crate) mod render;
mod restart;
mod snapshot;
mod ssh;
mod start;
mod stop;
mod supervise;
mod transfer;
mod tree;
mod verb;
mod verbs;
mod wait;

use std::process::ExitCode;

pub(crate) use context::{Context, Format, require_root};
pub use tree::command;

use context::{report, with_rights};
pub(crate) use name::{NameArg, NamesArg, NamesOrAllArg};
use tree::Parsed;

use crate::error::Result;
use crate::{sys, terminal};

fn run(parsed: Parsed) -> Result<u8> {
    let verb = parsed.path();
    if parsed.global.format == Format::Json && !verbs::STREAMS.contains(&verb.as_str()) {
        terminal::keep_notes();
    }
    let context = Context::new(verb, parsed.global, command)?;
    let status = (parsed.verb.run)(&parsed.matches, &context)?;
    done::report_notes();
    Ok(status)
}

/// Parses the command line and runs it. Every error of the program is reported here.
pub fn main() -> ExitCode {
    // Executed by its magic link the kernel calls it `exe`, and so would messages that name the
    // holder of a port.
    let _ = rustix::thread::set_name(c"lxm");
    sys::umask::take_own();
    sys::birth::wait_for_children();
    if let Some(asked) = supervise::Supervise::from_args() {
        return finish(asked, Format::Text, supervise::Supervise::run);
    }
    // Answers a shell's question for completions, if `COMPLETE` says that this is one.
    clap_complete::CompleteEnv::with_factory(command).complete();
    let words: Vec<_> = std::env::args_os().collect();
    finish(tree::parse(&words), Format::of_words(&words), run)
}

/// Runs what was parsed, or says why it could not be; returns the exit status.
fn finish<T>(parsed: clap::error::Result<T>, format: Format, run: impl FnOnce(T) -> Result<u8>) -> ExitCode {
    let outcome = match parsed {
        Ok(parsed) => run(parsed).map_err(with_rights),
        Err(e) if format == Format::Json && e.use_stderr() => Err(done::of_clap(&e)),
        Err(e) => {
            // A closed pipe is the reader's decision.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let status = outcome.unwrap_or_else(|e| {
        let status = e.kind().exit_status();
        report(format, &e, status);
        status
    });
    ExitCode::from(status)
}
