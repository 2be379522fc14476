//! The two ends of a flow. Neither blocks: a full pipe, a stopped terminal or a slow socket must not
//! make the relay deaf to everything else.
//!
//! The flag that says so (O_NONBLOCK) belongs to the open file, which others share: our shell's
//! terminal, the other programs of a pipeline. So it is not set; pipes and terminals are opened once
//! more, and a socket is asked at each call.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// What a pipe takes at once without blocking when poll(2) says that it takes anything (PIPE_BUF).
const SAFE_WRITE: usize = 4096;

/// What a pipe of ours holds: larger ones change hands less often.
const PIPE_HOLDS: usize = 1 << 20;

/// What a terminal can hold: both of its buffers (pty_common_install, N_TTY_BUF_SIZE) and room to spare.
const TERMINAL_HOLDS: u64 = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndKind {
    Pipe,
    Socket,
    Terminal,
    /// A file, a directory, another device: what never blocks for long.
    Other,
}

/// One end of a flow.
#[derive(Debug)]
pub(super) struct End {
    fd: OwnedFd,
    kind: EndKind,
    /// Reads and writes return at once, whatever poll(2) said.
    non_blocking: bool,
}

impl End {
    /// For reading from it.
    pub(super) fn source(fd: OwnedFd) -> Self {
        Self::new(fd, OFlags::RDONLY)
    }

    /// For writing to it.
    pub(super) fn sink(fd: OwnedFd) -> Self {
        Self::new(fd, OFlags::WRONLY)
    }

    fn new(fd: OwnedFd, access: OFlags) -> Self {
        let kind = kind_of(&fd);
        let again = || {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            rustix::fs::open(path, access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).ok()
        };
        match kind {
            EndKind::Socket => End { fd, kind, non_blocking: true },
            EndKind::Other => End { fd, kind, non_blocking: false },
            EndKind::Pipe | EndKind::Terminal => match again() {
                Some(own) => End { fd: own, kind, non_blocking: true },
                None => End { fd, kind, non_blocking: false },
            },
        }
    }

    /// An open file of our own, of which no other process has a descriptor: made non-blocking.
    pub(super) fn own(fd: OwnedFd) -> Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(End { kind: kind_of(&fd), fd, non_blocking: true })
    }

    /// Whether it has to be asked with poll(2) before each write.
    pub(super) fn may_block(&self) -> bool {
        !self.non_blocking && self.kind != EndKind::Other
    }

    pub(super) fn is_pipe(&self) -> bool {
        self.kind == EndKind::Pipe
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.kind == EndKind::Terminal
    }

    /// Whether splice(2) may write to it: a socket would make it block, and a file that is only
    /// appended to refuses it.
    pub(super) fn takes_pages(&self) -> bool {
        match self.kind {
            EndKind::Pipe => true,
            EndKind::Other => !rustix::fs::fcntl_getfl(&self.fd).is_ok_and(|flags| flags.contains(OFlags::APPEND)),
            EndKind::Socket | EndKind::Terminal => false,
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        match self.kind {
            EndKind::Socket => Ok(recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?),
            _ => Ok(rustix::io::read(&self.fd, buffer)?),
        }
    }

    /// Writes what it takes now.
    pub(super) fn write(&self, data: &[u8]) -> Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match self.kind {
            EndKind::Socket => Ok(send(self.fd.as_raw_fd(), data, flags)?),
            EndKind::Pipe | EndKind::Terminal if !self.non_blocking => {
                Ok(rustix::io::write(&self.fd, &data[..data.len().min(SAFE_WRITE)])?)
            }
            _ => Ok(rustix::io::write(&self.fd, data)?),
        }
    }

    /// Whether a call failed because the other side is gone, which is its own decision and no failure.
    pub(super) fn is_hung_up(&self, e: &Error) -> bool {
        match e.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPIPE | Errno::ECONNRESET) => true,
            // Of a disk it would be a failure indeed.
            Some(Errno::EIO) => self.kind == EndKind::Terminal,
            _ => false,
        }
    }

    /// Bytes that wait in a pipe.
    pub(super) fn waiting(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.fd).unwrap_or(0)
    }

    /// The most that can be in it by now.
    pub(super) fn holds(&self) -> u64 {
        match self.kind {
            EndKind::Pipe => self.waiting(),
            EndKind::Terminal => TERMINAL_HOLDS,
            // Only its own end writes to it, and that is gone.
            EndKind::Socket | EndKind::Other => u64::MAX,
        }
    }

    /// Shuts down the sending side of a connection.
    pub(super) fn close_writing(&self) {
        if self.kind == EndKind::Socket {
            // The other side may have closed it already.
            let _ = nix::sys::socket::shutdown(self.fd.as_raw_fd(), nix::sys::socket::Shutdown::Write);
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A pipe: the end to read from, and the one to write to.
pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let ends = pipe_with(PipeFlags::CLOEXEC)?;
    // The kernel may keep it smaller (/proc/sys/fs/pipe-max-size), which is as good.
    let _ = fcntl_setpipe_size(&ends.0, PIPE_HOLDS);
    Ok(ends)
}

fn kind_of(fd: &OwnedFd) -> EndKind {
    match rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::Fifo) => EndKind::Pipe,
        Ok(FileType::Socket) => EndKind::Socket,
        Ok(FileType::CharacterDevice) if rustix::termios::isatty(fd) => EndKind::Terminal,
        _ => EndKind::Other,
    }
}

/// Whether a call is to be made again when poll(2) says so.
pub(super) fn is_transient(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
