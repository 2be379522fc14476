//! Running a piece of work in a child of its own.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::clone::{SingleThreaded, clone};
use super::pidfd;
use super::socket::Packets;
use crate::error::{Error, Result};

/// Runs `work` in a child process and gives its result.
///
/// For what must not leave traces in this process: threads, a runtime, other namespaces, memory.
pub fn run<T: Serialize + DeserializeOwned>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (ours, theirs) = Packets::pair()?;
    let child = clone(SingleThreaded::check()?, 0, None, || u8::from(theirs.send(&work(), &[]).is_err()))?;
    drop(theirs);
    let answer = ours.recv::<Result<T>>();
    // It ends after its one message; a child that never sends it has ended too.
    pidfd::wait_exit(&child.pidfd, std::time::Duration::from_secs(60))?;
    pidfd::try_reap(&child.pidfd)?;
    match answer? {
        Some((result, _)) => result,
        None => Err(Error::failed("the child doing it died")),
    }
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
