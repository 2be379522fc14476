//! What the event loop waits for.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};

use crate::sys;
use crate::sys::pidfd;

/// How long after a failure for want of memory or descriptors the same is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(200);

/// What a descriptor in the poll set is.
#[derive(Debug, Clone, Copy)]
pub(super) enum EventSource {
    Leader,
    Signals,
    Listener,
    Notify,
    Console,
    ConsoleClients,
    Client(usize),
    Command(usize),
    Entering(usize),
    Unattended,
    Orphan,
}

#[derive(Default)]
pub(super) struct PollSet<'fd> {
    sources: Vec<EventSource>,
    fds: Vec<PollFd<'fd>>,
}

impl<'fd> PollSet<'fd> {
    pub(super) fn add(&mut self, source: EventSource, fd: BorrowedFd<'fd>, flags: PollFlags) {
        self.sources.push(source);
        self.fds.push(PollFd::new(fd, flags));
    }

    /// Waits; gives the sources that something happened to. Whatever poll(2) fails with, there is a guest
    /// to be looked after: its end is then looked for by itself. With `at_rest` memory is given back first:
    /// here, so that what is done between that and the wait brings none of it back.
    pub(super) fn wait(mut self, timeout: Duration, at_rest: bool, leader: &OwnedFd) -> Vec<EventSource> {
        if at_rest {
            // What cannot be given back now is given back next time.
            let _ = sys::memory::release();
        }
        match poll(&mut self.fds, sys::poll::timeout(timeout)) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => return Vec::new(),
            Err(_) => {
                let ended = pidfd::wait_exit(leader, AGAIN).unwrap_or_else(|_| {
                    std::thread::sleep(AGAIN);
                    false
                });
                return if ended { vec![EventSource::Leader] } else { Vec::new() };
            }
        }
        let happened = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        self.sources.into_iter().zip(&self.fds).filter(|(_, fd)| happened(fd)).map(|(source, _)| source).collect()
    }
}
