//! A helper process of ours that outlives the command which starts it: started, ready, ended.
//!
//! It says that it is ready, or why it cannot be, on its standard output, and closes that. It holds a lock
//! for as long as it lives.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::process;
use crate::error::{Context, Error, Result};
use crate::types::Generation;

/// How long a helper may take until it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to end, before it is killed and after.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Poll interval of a lock.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
const READY: &str = "ready\n";

/// Runs `command`, this program as a helper, and waits until [`report`] says that it is ready. Its standard
/// input is null, or a descriptor that it [takes](take_stdin).
///
/// Fails with the helper's own error; `Kind::TimedOut` after ten seconds, and then it is killed.
pub(crate) fn start(command: &mut Command) -> Result<()> {
    let mut child = command.current_dir("/").stdout(Stdio::piped()).spawn()?;
    let mut pipe = child.stdout.take().expect("it is piped");
    let mut answer = String::new();
    let answered = read_answer(&mut pipe, &mut answer);
    if answered.is_ok() && answer == READY {
        return Ok(());
    }
    let _ = child.kill();
    let _ = child.wait();
    answered?;
    Err(serde_json::from_str(&answer).unwrap_or_else(|_| Error::failed("the process ended before it was ready")))
}

fn read_answer(pipe: &mut std::process::ChildStdout, answer: &mut String) -> Result<()> {
    if !super::poll::wait_readable(&*pipe, START_TIMEOUT)? {
        return Err(Error::timed_out(format!("it is not ready after {} s", START_TIMEOUT.as_secs())));
    }
    pipe.read_to_string(answer)?;
    Ok(())
}

/// In the helper: takes what it was given as standard input.
pub(crate) fn take_stdin() -> Result<OwnedFd> {
    let take = || -> Result<OwnedFd> {
        let given = std::io::stdin().as_fd().try_clone_to_owned()?;
        nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
        Ok(given)
    };
    take().context(|| "take the descriptor at standard input")
}

/// In the helper: says to who started it that it is ready, or why it is not, and closes standard output.
pub(crate) fn report(failure: Option<&Error>) -> Result<()> {
    let text = failure.map_or_else(|| READY.to_owned(), |e| serde_json::to_string(e).unwrap_or_default());
    let write = || -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        nix::unistd::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        Ok(())
    };
    write().context(|| "report to the process that started this one")
}

/// Ends a helper in order, else by force; `is_running` looks at its lock.
///
/// Fails with `Kind::TimedOut` where it holds the lock still.
pub(crate) fn end(helper: &Generation, is_running: impl Fn() -> Result<bool>) -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if process::is_same(helper) {
            let _ = nix::sys::signal::kill(Pid::from_raw(helper.pid), signal);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            if !is_running()? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
    Err(Error::timed_out(format!("process {} does not end", helper.pid)))
}
