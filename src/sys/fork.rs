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
use crate::types::Signal;

/// A piece of work in a child process.
#[derive(Debug)]
pub(crate) struct ChildWork<T> {
    child: Child,
    answer: Packets,
    result: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> ChildWork<T> {
    /// Begins it; fails in a process that has threads.
    pub(crate) fn begin(work: impl FnOnce() -> Result<T>) -> Result<Self> {
        let (answer, theirs) = Packets::pair()?;
        let child = clone(SingleThreaded::check()?, 0, None, || u8::from(theirs.send(&work(), &[]).is_err()))?;
        Ok(ChildWork { child, answer, result: PhantomData })
    }

    /// Waits for its result, at most `limit`: what is not done by then is ended.
    fn finish_within(self, limit: Duration) -> Result<T> {
        if !super::poll::wait_readable(&self.answer, limit)? {
            pidfd::send_signal(&self.child.pidfd, Signal::KILL)?;
            pidfd::wait_exit(&self.child.pidfd, Duration::from_secs(60))?;
            pidfd::try_reap(&self.child.pidfd)?;
            return Err(Error::timed_out(format!("it was not finished within {} s", limit.as_secs_f32()))
                .hint("try again; a lock of another command, or a disk, may have kept it waiting"));
        }
        self.finish()
    }

    /// Leaves it to itself. The child is the caller's to reap.
    pub(crate) fn unattended(self) -> Child {
        self.child
    }

    /// Waits for its result, and for its end.
    pub(crate) fn finish(self) -> Result<T> {
        let (result, child) = self.outcome();
        // It ends after its one message; a child that never sends it has ended too.
        pidfd::wait_exit(&child.pidfd, Duration::from_secs(60))?;
        pidfd::try_reap(&child.pidfd)?;
        result
    }

    /// Waits for its result alone. The child, which is about to end, is the caller's to reap.
    pub(crate) fn outcome(self) -> (Result<T>, Child) {
        let result = match self.answer.recv::<Result<T>>() {
            Ok(Some((result, _))) => result,
            Ok(None) => Err(Error::failed("the helper process died")),
            Err(e) => Err(e),
        };
        (result, self.child)
    }
}

/// Waits, at most `timeout`, until at least one of `works` is done; says of each whether it is.
pub(crate) fn wait_any<'a, T: 'a>(
    works: impl Iterator<Item = &'a ChildWork<T>>,
    timeout: Duration,
) -> Result<Vec<bool>> {
    let mut fds: Vec<_> = works.map(|work| PollFd::new(work.answer.as_fd(), PollFlags::POLLIN)).collect();
    match poll(&mut fds, super::poll::timeout(timeout)) {
        Ok(_) | Err(Errno::EINTR) => Ok(fds.iter().map(|fd| fd.any().unwrap_or(false)).collect()),
        Err(e) => Err(e).context(|| "wait for the children"),
    }
}

/// Runs `work` in a child process and gives its result.
///
/// For what must not leave traces in this process: threads, a runtime, other namespaces, memory. A
/// supervisor waits for it, and nothing that the child may wait for is to keep the supervisor forever.
pub fn run<T: Serialize + DeserializeOwned>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    run_within(LONGEST, work)
}

/// The same with a limit of its own.
pub fn run_within<T: Serialize + DeserializeOwned>(limit: Duration, work: impl FnOnce() -> Result<T>) -> Result<T> {
    ChildWork::begin(work)?.finish_within(limit)
}

/// Far more than wiring a guest takes on a busy host, where it waits for others that do the same.
const LONGEST: Duration = Duration::from_secs(120);

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
