//! One direction of a relay: bytes from one end to the other, in order, none lost, in bounded memory.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::pipe::{SpliceFlags, splice};

use super::ends::{End, is_transient, pipe};
use crate::error::Error;
use crate::sys;

/// Most bytes that are held here at a time.
const BUFFER: usize = 64 << 10;
/// Most bytes that the kernel moves at a time.
const PIECE: usize = 1 << 20;
/// Poll interval of a terminal whose input another program reads.
const OTHERS_KEYS: Duration = Duration::from_millis(200);

/// What becomes of bytes on their way.
pub(super) type ByteFilter = Box<dyn FnMut(&[u8]) -> Filtered>;

/// What a [`ByteFilter`] makes of them.
pub(super) enum Filtered {
    Pass(Vec<u8>),
    /// The user wants to leave.
    Leave,
}

/// One direction of a relay.
pub(super) struct Flow {
    what: &'static str,
    source: Option<End>,
    sink: Option<End>,
    /// What was read and is not yet written: `buffer[written..]`.
    buffer: Vec<u8>,
    written: usize,
    filter: Option<ByteFilter>,
    /// The kernel moves the pages of a pipe; nothing is copied here.
    splices: bool,
    /// A pipe that only pages on their way into a file pass through, and empty in between: splice(2) keeps a
    /// pipe locked until the file has taken its pages, and who writes to it, the guest, would wait meanwhile.
    between: Option<(OwnedFd, OwnedFd)>,
    /// The source is a terminal that others read too: only lines typed for us are taken.
    shared_terminal: bool,
    not_before: Option<Instant>,
    /// The source has something that the sink did not take.
    sink_full: bool,
    /// How much is still to be moved of what was written before the command ended.
    left: Option<u64>,
    error: Option<Error>,
}

/// What a step of a flow came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FlowStep {
    GoesOn,
    /// It has moved its last byte.
    Ended,
    Leave,
}

impl Flow {
    /// `what` names it in a message: "standard output".
    pub(super) fn new(what: &'static str, source: End, sink: End) -> Self {
        // Only from pipe to pipe or file. From a file the guest would get the very pages of the host's
        // cache, which faults of the kernel have let readers write to (CVE-2022-0847).
        let splices = source.is_pipe() && sink.takes_pages();
        let between = if splices && !sink.is_pipe() { pipe().ok() } else { None };
        Flow {
            what,
            source: Some(source),
            sink: Some(sink),
            buffer: Vec::new(),
            written: 0,
            filter: None,
            splices,
            between,
            shared_terminal: false,
            not_before: None,
            sink_full: false,
            left: None,
            error: None,
        }
    }

    pub(super) fn filtered(mut self, filter: ByteFilter) -> Self {
        self.filter = Some(filter);
        self.splices = false;
        self
    }

    /// The source, if it is a terminal, is not ours alone.
    pub(super) fn sharing_its_terminal(mut self) -> Self {
        self.shared_terminal = self.source.as_ref().is_some_and(End::is_terminal);
        self
    }

    pub(super) fn has_ended(&self) -> bool {
        self.sink.is_none() || (self.source.is_none() && self.pending() == 0)
    }

    fn pending(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// A failure of one of its ends, other than a closed one.
    pub(super) fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    pub(super) fn has_sink(&self) -> bool {
        self.sink.is_some()
    }

    /// Bytes that were read and not written.
    pub(super) fn unwritten(&self) -> u64 {
        self.pending() as u64
    }

    /// Closes both ends, and what a filter holds.
    pub(super) fn close(&mut self) {
        (self.source, self.sink, self.filter) = (None, None, None);
    }

    /// Writes `data` behind what came from the source, which has ended.
    pub(super) fn append(&mut self, data: &[u8]) {
        self.buffer.extend(data);
    }

    /// No writer that matters has the source open any more: takes what is in it now.
    pub(super) fn finish(&mut self) {
        if let Some(source) = &self.source {
            self.left = Some(source.holds());
        }
    }

    /// What to wait for, and when to look again at the latest.
    pub(super) fn add_to<'fd>(&'fd self, set: &mut Vec<(PollFd<'fd>, usize)>, index: usize) -> Option<Instant> {
        if self.has_ended() {
            return None;
        }
        if let Some(at) = self.not_before.filter(|at| *at > Instant::now()) {
            return Some(at);
        }
        // One end at a time: an end that is ready while the other is not must not wake us.
        let (end, flags) = match self.waits_for_sink() {
            true => (&self.sink, PollFlags::POLLOUT),
            false => (&self.source, PollFlags::POLLIN),
        };
        set.extend(end.as_ref().map(|end| (PollFd::new(end.as_fd(), flags), index)));
        None
    }

    fn waits_for_sink(&self) -> bool {
        self.pending() > 0 || self.sink_full
    }

    /// The end that was waited for is ready: moves what can be moved.
    pub(super) fn step(&mut self) -> FlowStep {
        if self.shared_terminal && !self.waits_for_sink() && !self.source.as_ref().is_some_and(sys::tty::types_for_us) {
            self.not_before = Some(Instant::now() + OTHERS_KEYS);
            return FlowStep::GoesOn;
        }
        self.sink_full = false;
        match if self.splices { self.splice() } else { self.copy() } {
            Ok(step) => {
                if self.left == Some(0) {
                    self.source = None;
                }
                if step == FlowStep::GoesOn && self.has_ended() { FlowStep::Ended } else { step }
            }
            Err(e) => {
                // The sink's reader has closed it, so the source is closed for its writer.
                if !self.sink.as_ref().is_some_and(|sink| sink.is_hung_up(&e)) {
                    self.error = Some(Error::from(e).step(format!("write {}", self.what)));
                }
                self.close();
                FlowStep::Ended
            }
        }
    }

    fn splice(&mut self) -> std::io::Result<FlowStep> {
        let (Some(source), Some(sink)) = (&self.source, &self.sink) else { return Ok(FlowStep::Ended) };
        let length = self.left.map_or(PIECE, |left| PIECE.min(left as usize));
        let next = self.between.as_ref().map_or(sink.as_fd(), |(_, end)| end.as_fd());
        match splice(source, None, next, None, length, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(0) => self.source = None,
            Ok(moved) => {
                self.left = self.left.map(|left| left.saturating_sub(moved as u64));
                self.empty_between(moved)?;
            }
            // Not every device takes pages.
            Err(rustix::io::Errno::INVAL) => self.splices = false,
            Err(rustix::io::Errno::AGAIN) => self.sink_full = source.waiting() > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(FlowStep::GoesOn)
    }

    /// Moves the `length` bytes on that are in the pipe between source and sink, if there is one.
    fn empty_between(&mut self, mut length: usize) -> std::io::Result<()> {
        let (Some((from, _)), Some(sink)) = (&self.between, &self.sink) else { return Ok(()) };
        while length > 0 {
            match splice(from, None, sink, None, length, SpliceFlags::MOVE) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(moved) => length -= moved,
                Err(rustix::io::Errno::INTR) => {}
                // Not every device takes pages, or all of them now: the rest is copied.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::AGAIN) => {
                    self.buffer.resize(length, 0);
                    self.written = 0;
                    std::fs::File::from(from.try_clone()?).read_exact(&mut self.buffer)?;
                    self.splices = false;
                    return Ok(());
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn copy(&mut self) -> std::io::Result<FlowStep> {
        if self.pending() == 0 {
            if !self.fill() {
                return Ok(FlowStep::Leave);
            }
            if self.sink.as_ref().is_some_and(End::may_block) {
                return Ok(FlowStep::GoesOn);
            }
        }
        while self.pending() > 0 {
            let Some(sink) = &self.sink else { break };
            match sink.write(&self.buffer[self.written..]) {
                Ok(written) => {
                    self.written += written;
                    if self.sink.as_ref().is_some_and(End::may_block) {
                        break;
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) if is_transient(&e) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(FlowStep::GoesOn)
    }

    /// Reads into the empty buffer; `false` if the user leaves.
    fn fill(&mut self) -> bool {
        let Some(source) = &self.source else { return true };
        self.buffer.resize(self.left.map_or(BUFFER, |left| BUFFER.min(left as usize)), 0);
        self.written = 0;
        let read = source.read(&mut self.buffer);
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.source = None,
            Ok(length) => self.left = self.left.map(|left| left.saturating_sub(length as u64)),
            Err(e) if is_transient(&e) => {}
            // A terminal that was taken away, or whose other side was closed.
            Err(e) if source.is_hung_up(&e) => self.source = None,
            Err(e) => {
                self.error = Some(Error::from(e).step(format!("read {}", self.what)));
                self.source = None;
            }
        }
        match self.filter.as_mut().map(|filter| filter(&self.buffer)) {
            Some(Filtered::Leave) => return false,
            Some(Filtered::Pass(data)) => self.buffer = data,
            None => {}
        }
        true
    }

    /// Ends a flow that is to be finished and whose source has nothing more.
    pub(super) fn end_if_dry(&mut self) {
        if self.left.is_none() || self.pending() > 0 {
            return;
        }
        let dry = self.source.as_ref().is_none_or(|source| {
            let mut fds = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
            self.left == Some(0) || !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
        });
        if dry {
            self.source = None;
        }
    }

    /// Signals end of file to the sink.
    pub(super) fn close_sink(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.close_writing();
        }
    }
}

/// A second descriptor of a standard stream.
pub(super) fn standard(stream: impl AsFd) -> std::io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    /// Carries `data`, which is in a pipe whose writer has ended, into `sink`.
    fn carry(data: &[u8], sink: File) -> Flow {
        let (from, to) = pipe().unwrap();
        File::from(to).write_all(data).unwrap();
        let mut flow = Flow::new("standard output", End::own(from).unwrap(), End::sink(sink.into()));
        // Both ends are always ready.
        let ended = (0..1000).any(|_| flow.step() == FlowStep::Ended);
        assert!(ended && flow.has_ended());
        flow
    }

    #[test]
    fn pages_reach_a_file_in_order() {
        let data: Vec<u8> = (0..500_000u32).flat_map(|n| n.to_le_bytes()).take(1 << 20).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut flow = carry(&data, file.reopen().unwrap());
        assert!(flow.splices && flow.take_error().is_none());
        assert!(std::fs::read(file.path()).unwrap() == data);
    }

    #[test]
    fn what_takes_no_pages_gets_copies() {
        let name = File::options().write(true).open("/proc/thread-self/comm").unwrap();
        let mut flow = carry(b"copied", name);
        assert!(!flow.splices && flow.take_error().is_none());
        assert_eq!(std::fs::read_to_string("/proc/thread-self/comm").unwrap(), "copied\n");
    }

    #[test]
    fn a_full_device_is_named_as_such() {
        let mut flow = carry(b"lost", File::options().write(true).open("/dev/full").unwrap());
        assert_eq!(flow.take_error().unwrap().errno(), Some(libc::ENOSPC));
    }
}
