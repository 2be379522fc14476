//! Terminals: raw mode that is always taken back, window sizes.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::error::{Context, Error, Result};

/// A terminal in raw mode, restored when dropped.
#[derive(Debug)]
pub(crate) struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    pub(crate) fn enter(terminal: impl AsFd) -> Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned().context(|| "keep the terminal")?;
        let before = tcgetattr(&terminal).context(|| "read the terminal's mode")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw).context(|| "set the terminal to raw mode")?;
        Ok(RawMode { terminal, before })
    }

    /// Takes it up again in a process that was stopped: a shell has the terminal as it wants in between.
    pub(crate) fn resume(&self) {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        // A terminal that is gone says so at the next read.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &raw);
    }

    /// Gives the terminal back for as long as this process is stopped.
    pub(crate) fn suspend(&self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}

/// A terminal that does not show what is typed, restored when dropped.
#[derive(Debug)]
pub(crate) struct HiddenInput(#[expect(dead_code, reason = "held, not read")] RawMode);

impl HiddenInput {
    pub(crate) fn on(terminal: impl AsFd) -> Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned().context(|| "keep the terminal")?;
        let before = tcgetattr(&terminal).context(|| "read the terminal's mode")?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        // Flushed: what was typed before the prompt is not the password.
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &hidden).context(|| "hide what is typed")?;
        Ok(HiddenInput(RawMode { terminal, before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.suspend();
    }
}

/// Whether what is typed on `terminal` is for this process: it is in the foreground, and no other
/// program (`less` in the same pipeline) has taken the terminal to read single keys.
pub(crate) fn types_for_us(terminal: impl AsFd) -> bool {
    // Not our controlling terminal: it has no foreground group for us then, and to read it stops no process.
    let foreground = nix::unistd::tcgetpgrp(&terminal).map_or(true, |group| group == nix::unistd::getpgrp());
    foreground && tcgetattr(&terminal).is_ok_and(|mode| mode.local_flags.contains(LocalFlags::ICANON))
}

/// How the terminal behind `master` takes its input now: the end-of-file character where it
/// collects lines, nothing where it is raw.
pub(crate) fn end_of_file_key(master: impl AsFd) -> Option<u8> {
    let mode = tcgetattr(master).ok()?;
    let key = mode.control_chars[SpecialCharacterIndices::VEOF as usize];
    (mode.local_flags.contains(LocalFlags::ICANON) && key != 0).then_some(key)
}

/// Opens the other side of `master`. As long as it is open the master does not read as hung up.
pub(crate) fn open_slave(master: impl AsFd) -> Result<OwnedFd> {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    ioctl_tiocgptpeer(master, flags).context(|| "open the other side of a terminal")
}

/// Whether something that was typed waits to be read from `slave`.
pub(crate) fn has_unread_input(slave: impl AsFd) -> bool {
    let mut fds = [PollFd::new(slave.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
}

/// Rows and columns of a terminal; 24 by 80 of what does not say.
pub(crate) fn window_size(terminal: impl AsFd) -> (u16, u16) {
    match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        _ => (24, 80),
    }
}

pub(crate) fn set_window_size(terminal: impl AsFd, rows: u16, cols: u16) -> Result<()> {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).context(|| "set the window size")
}

/// Opens a new terminal of the devpts that `ptmx` belongs to: master, slave, and the slave's path.
///
/// In a tree that a guest controls `ptmx` may be any file. A file of a FUSE of the guest's own would answer
/// the requests below as the guest likes (TIOCGPTPEER with the number of one of our descriptors), and never answer a
/// read or a close. So it is examined before it is opened, and once more because it may have been replaced meanwhile.
pub(crate) fn open_pty(ptmx: &str) -> Result<(OwnedFd, OwnedFd, String)> {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{ptsname, unlockpt};
    let open = |flags| -> Result<OwnedFd> {
        let file = rustix::fs::open(ptmx, flags | OFlags::CLOEXEC, Mode::empty()).context(|| "open a terminal")?;
        if is_ptmx(&file) { Ok(file) } else { Err(Error::failed(format!("`{ptmx}` is not a terminal multiplexer"))) }
    };
    open(OFlags::PATH)?;
    let master = open(OFlags::RDWR | OFlags::NOCTTY)?;
    let unlock = || -> rustix::io::Result<_> {
        unlockpt(&master)?;
        let path = ptsname(&master, Vec::new())?;
        Ok(path.to_string_lossy().into_owned())
    };
    let path = unlock().context(|| "open a terminal")?;
    // By descriptor: the path may lead elsewhere in an untrusted tree.
    let slave = open_slave(&master)?;
    Ok((master, slave, path))
}

/// Whether this is the kernel's device 5:2 (devices.txt in the kernel's documentation).
fn is_ptmx(file: impl AsFd) -> bool {
    use rustix::fs::{AtFlags, FileType, StatxFlags, statx};
    // What the kernel knows of it, without asking its file system.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    statx(file, "", flags, StatxFlags::BASIC_STATS).is_ok_and(|is| {
        let kind = FileType::from_raw_mode(is.stx_mode.into());
        kind == FileType::CharacterDevice && (is.stx_rdev_major, is.stx_rdev_minor) == (5, 2)
    })
}

/// Makes `fd` standard input, output and error of this process.
pub(crate) fn make_standard(fd: impl AsFd) -> Result<()> {
    let fd = fd.as_fd();
    rustix::stdio::dup2_stdin(fd)?;
    rustix::stdio::dup2_stdout(fd)?;
    rustix::stdio::dup2_stderr(fd)?;
    Ok(())
}
