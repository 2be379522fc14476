//! Terminals: raw mode that is always taken back, window sizes.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::error::{Context, Result};

/// A terminal in raw mode, restored when dropped.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    pub fn enter(terminal: impl AsFd) -> Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned().context(|| "keep the terminal")?;
        let before = tcgetattr(&terminal).context(|| "read the terminal's mode")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw).context(|| "set the terminal to raw mode")?;
        Ok(RawMode { terminal, before })
    }
}

/// A terminal that does not show what is typed, restored when dropped.
#[derive(Debug)]
pub struct HiddenInput(#[expect(dead_code, reason = "held, not read")] RawMode);

impl HiddenInput {
    pub fn on(terminal: impl AsFd) -> Result<Self> {
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
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}

/// Rows and columns of a terminal; 24 by 80 of what does not say.
pub fn window_size(terminal: impl AsFd) -> (u16, u16) {
    match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        _ => (24, 80),
    }
}

pub fn set_window_size(terminal: impl AsFd, rows: u16, cols: u16) -> Result<()> {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).context(|| "set the window size")
}

/// Opens a new terminal of the devpts that `ptmx` belongs to: master, slave, and the slave's path.
pub fn open_pty(ptmx: &str) -> Result<(OwnedFd, OwnedFd, String)> {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
    let open = || -> rustix::io::Result<_> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = rustix::fs::open(ptmx, flags, Mode::empty())?;
        unlockpt(&master)?;
        // By descriptor: the path may lead elsewhere in a tree that somebody else controls.
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        let path = ptsname(&master, Vec::new())?;
        Ok((master, slave, path.to_string_lossy().into_owned()))
    };
    open().context(|| "open a terminal")
}

/// Makes `fd` standard input, output and error of this process.
pub fn make_standard(fd: impl AsFd) -> Result<()> {
    let fd = fd.as_fd();
    rustix::stdio::dup2_stdin(fd)?;
    rustix::stdio::dup2_stdout(fd)?;
    rustix::stdio::dup2_stderr(fd)?;
    Ok(())
}
