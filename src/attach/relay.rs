//! One event loop for all that a command line carries between itself and a guest.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal as Sig;
use nix::sys::signalfd::SignalFd;

use super::flow::{Flow, FlowStep};
use crate::error::{Context, Error, Result};
use crate::sys;
use crate::sys::socket::Packets;

/// Moves bytes, and waits for signals and messages meanwhile.
pub(super) struct Relay {
    signals: SignalFd,
    pub flows: Vec<Flow>,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RelayEvent {
    Signal(i32),
    /// The control connection has a message or has ended.
    Packet,
    /// The flow of this index has moved its last byte.
    Ended(usize),
    /// The user wants to leave.
    Leave,
    /// The time is over.
    Nothing,
}

impl Relay {
    pub(super) fn new(signals: &[Sig], flows: Vec<Flow>) -> Result<Self> {
        Ok(Self::with(sys::signals::descriptor(signals)?, flows))
    }

    /// With signals that are taken already.
    pub(super) fn with(signals: SignalFd, flows: Vec<Flow>) -> Self {
        Relay { signals, flows }
    }

    /// Moves bytes until something else happens, at most until `limit`.
    pub(super) fn wait(&mut self, packets: Option<&Packets>, limit: Option<Instant>) -> Result<RelayEvent> {
        loop {
            let (signalled, told, ready) = self.poll(packets, limit)?;
            if signalled && let Some(info) = self.signals.read_signal().context(|| "read a signal")? {
                return Ok(RelayEvent::Signal(info.ssi_signo as i32));
            }
            for index in ready {
                match self.flows[index].step() {
                    FlowStep::GoesOn => {}
                    FlowStep::Ended => return Ok(RelayEvent::Ended(index)),
                    FlowStep::Leave => return Ok(RelayEvent::Leave),
                }
            }
            if told {
                return Ok(RelayEvent::Packet);
            }
            if limit.is_some_and(|limit| limit <= Instant::now()) {
                return Ok(RelayEvent::Nothing);
            }
        }
    }

    fn poll(&self, packets: Option<&Packets>, limit: Option<Instant>) -> Result<(bool, bool, Vec<usize>)> {
        const SIGNALS: usize = usize::MAX;
        const PACKETS: usize = usize::MAX - 1;
        let mut set = vec![(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN), SIGNALS)];
        set.extend(packets.map(|packets| (PollFd::new(packets.as_fd(), PollFlags::POLLIN), PACKETS)));
        let mut until = limit;
        for (index, flow) in self.flows.iter().enumerate() {
            let at = flow.add_to(&mut set, index);
            until = until.into_iter().chain(at).min();
        }
        let (mut fds, indices): (Vec<_>, Vec<_>) = set.into_iter().unzip();
        let left = |at: Instant| sys::poll::timeout(at.saturating_duration_since(Instant::now()));
        match poll(&mut fds, until.map_or(PollTimeout::NONE, left)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context(|| "wait for input"),
        }
        let mut ready: Vec<usize> =
            fds.iter().zip(indices).filter(|(fd, _)| fd.any().unwrap_or(false)).map(|(_, index)| index).collect();
        let mut happened = |what: usize| {
            let before = ready.len();
            ready.retain(|index| *index != what);
            ready.len() != before
        };
        Ok((happened(SIGNALS), happened(PACKETS), ready))
    }

    /// Moves what is left in `outputs` of a writer that has ended: what is there now and no more, even if
    /// other writers have them open. Returns a signal that `ends` it.
    pub(super) fn finish(&mut self, outputs: &[usize], mut ends: impl FnMut(i32) -> bool) -> Result<Option<i32>> {
        for index in 0..self.flows.len() {
            match outputs.contains(&index) {
                true => self.flows[index].finish(),
                false => self.flows[index].close(),
            }
        }
        loop {
            self.flows.iter_mut().for_each(Flow::end_if_dry);
            if self.flows.iter().all(Flow::has_ended) {
                return Ok(None);
            }
            if let RelayEvent::Signal(signal) = self.wait(None, Some(Instant::now() + DRY))?
                && ends(signal)
            {
                return Ok(Some(signal));
            }
        }
    }

    /// The first failure of a flow, other than a closed end.
    pub(super) fn failure(&mut self) -> Result<()> {
        let error: Option<Error> = self.flows.iter_mut().find_map(Flow::take_error);
        error.map_or(Ok(()), Err)
    }
}

/// Poll interval for a source that may be empty. Needed only where another reader has taken its data: data
/// that is there wakes us.
const DRY: Duration = Duration::from_millis(20);

/// Whether it asks a program to end.
pub(super) fn is_to_end(signal: i32) -> bool {
    [Sig::SIGTERM, Sig::SIGINT, Sig::SIGHUP, Sig::SIGQUIT].iter().any(|end| *end as i32 == signal)
}
