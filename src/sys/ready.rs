//! Waiting in a tokio runtime for descriptors that it has no type for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use futures_util::FutureExt;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Context, Result};

/// What counts: something to read, or an error, which the next read tells.
const INTEREST: Interest = Interest::READABLE.add(Interest::ERROR);

/// Tells when a descriptor can be read from.
#[derive(Debug)]
pub(crate) struct ReadableFd(AsyncFd<OwnedFd>);

impl ReadableFd {
    /// Watches what `fd` refers to, within a runtime. `fd` must be non-blocking.
    pub(crate) fn new(fd: impl AsFd) -> Result<Self> {
        let own = fd.as_fd().try_clone_to_owned().context(|| "duplicate a descriptor")?;
        // SAFETY: the descriptor is our own duplicate; it is closed only when the `AsyncFd` that
        // owns it is dropped, and this module never hands it out to be replaced before.
        let watched = unsafe { AsyncFd::register_with_interest(own, INTEREST) };
        watched.map(ReadableFd).map_err(io::Error::from).context(|| "watch a descriptor")
    }

    /// Waits until there is something to read; stays ready until [`Self::take`] meets the end.
    pub(crate) async fn readable(&self) {
        // Fails only when the runtime shuts down, and then no task waits any more.
        let _ = self.0.ready(INTEREST).await;
    }

    /// Does `read`; `None` where nothing is left.
    pub(crate) fn take<T>(&self, read: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
        // `AsyncFd::try_io` knows no combined interests; the guard clears what it was ready for.
        let Some(guard) = self.0.ready(INTEREST).now_or_never() else { return Ok(None) };
        match guard?.try_io(|_| read()) {
            Ok(done) => done.map(Some),
            Err(_would_block) => Ok(None),
        }
    }
}
