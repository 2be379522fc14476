//! Running a piece of work in a child of its own.

use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::clone::{Child, SingleThreaded, clone};
use super::pidfd;
use super::socket::Packets;
use crate::error::{Context, Error, Result};

/// A piece of work in a child process.
#[derive(Debug)]
pub struct Work<T> {
    child: Child,
    answer: Packets,
    result: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> Work<T> {
    /// Begins it; fails in a process that has threads.
    pub fn begin(work: impl FnOnce() -> Result<T>) -> Result<Self> {
        let (answer, theirs) = Packets::pair()?;
        let child = clone(SingleThreaded::check()?, 0, None, || u8::from(theirs.send(&work(), &[]).is_err()))?;
        Ok(Work { child, answer, result: PhantomData })
    }

    /// Waits for its result.
    pub fn finish(self) -> Result<T> {
        let answer = self.answer.recv::<Result<T>>();
        // It ends after its one message; a child that never sends it has ended too.
        pidfd::wait_exit(&self.child.pidfd, Duration::from_secs(60))?;
        pidfd::try_reap(&self.child.pidfd)?;
        match answer? {
            Some((result, _)) => result,
            None => Err(Error::failed("the child doing it died")),
        }
    }
}

/// Waits, at most `patience`, until at least one of `works` is done; says of each whether it is.
pub fn wait_any<'a, T: 'a>(works: impl Iterator<Item = &'a Work<T>>, patience: Duration) -> Result<Vec<bool>> {
    let mut fds: Vec<_> = works.map(|work| PollFd::new(work.answer.as_fd(), PollFlags::POLLIN)).collect();
    match poll(&mut fds, super::poll::timeout(patience)) {
        Ok(_) | Err(Errno::EINTR) => Ok(fds.iter().map(|fd| fd.any().unwrap_or(false)).collect()),
        Err(e) => Err(e).context(|| "wait for the children"),
    }
}

/// Runs `work` in a child process and gives its result.
///
/// For what must not leave traces in this process: threads, a runtime, other namespaces, memory.
pub fn run<T: Serialize + DeserializeOwned>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    Work::begin(work)?.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_errors_come_back_whole() {
        // The test harness runs tests in threads, where this is refused: which is a result too.
        match run(|| Ok::<_, Error>(42)) {
            Ok(answer) => assert_eq!(answer, 42),
            Err(e) => assert!(e.to_string().contains("threads"), "{e}"),
        }
    }
}
