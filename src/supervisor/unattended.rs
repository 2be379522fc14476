//! Commands on their way into the guest that no client waits for: the supervisor's own, and those whose
//! client has gone, or got the answer that it takes too long.

use std::os::fd::BorrowedFd;

use super::attach::{Entered, Entering};
use crate::sys::clone::Child;
use crate::sys::pidfd;
use crate::types::Signal;

#[derive(Default)]
pub(super) struct Unattended(Vec<Entering>);

impl Unattended {
    pub(super) fn add(&mut self, entering: impl IntoIterator<Item = Entering>) {
        self.0.extend(entering);
    }

    pub(super) fn report(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(Entering::report)
    }

    /// Reads their reports; returns the processes that are to be reaped. A command without a client ends,
    /// even if it is thawed only now.
    pub(super) fn look(&mut self) -> Vec<Child> {
        let mut left = Vec::new();
        for mut entering in std::mem::take(&mut self.0) {
            let Some(entered) = entering.look() else {
                self.0.push(entering);
                continue;
            };
            let unwanted = entering.is_abandoned();
            left.extend(entering.into_processes(&entered));
            if let Entered::Running(child) = entered {
                if unwanted {
                    let _ = pidfd::send_signal(&child.pidfd, Signal::KILL);
                }
                left.push(child);
            }
        }
        left
    }

    /// The guest is dead: ends and reaps them all.
    pub(super) fn reap(&mut self) {
        self.0.drain(..).for_each(Entering::reap);
    }
}
