//! The guest's console: one terminal, a log of all its output, and its clients.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::answer::answers;
use crate::error::{Context, Result};
use crate::sys;
use crate::systemd::journal::ConsoleJournal;
use crate::terminal::{Colours, Filter};

/// How far behind a client may fall before output is skipped for it: the guest never waits for one.
const MAX_BACKLOG: usize = 1 << 20;

/// How much of the end of a boot is looked at for its last lines, how many of these are kept, and how much of
/// each.
const TAIL: u64 = 4096;
const LINES: usize = 5;
const LINE: usize = 200;

/// What it sees in place of that.
const SKIPPED: &[u8] = b"\r\n[lxm: output skipped, the log has it]\r\n";

/// The log and the clients outlive the terminal: a reboot makes a new one.
pub(super) struct Console {
    log: Log,
    terminal: Option<ConsolePty>,
    clients: Vec<ConsoleClient>,
    journal: Option<ConsoleJournal>,
}

struct ConsolePty {
    master: File,
    /// Kept open: with no slave open a master reads as hung up, and init closes its own at times.
    _slave: OwnedFd,
}

/// A client of the console, over a stream socket.
struct ConsoleClient {
    stream: File,
    /// From the guest, not yet taken.
    backlog: VecDeque<u8>,
    gone: bool,
}

impl Console {
    /// The log is at `path` and twice as long as `limit` at most; `journal` gets it too.
    pub(super) fn new(path: PathBuf, limit: u64, journal: Option<ConsoleJournal>) -> Result<Self> {
        Ok(Console { log: Log::open(path, limit)?, terminal: None, clients: Vec::new(), journal })
    }

    /// Takes the terminal of a new boot.
    pub(super) fn connect(&mut self, (master, slave): (OwnedFd, OwnedFd)) -> Result<()> {
        rustix::io::ioctl_fionbio(&master, true).context(|| "set up the console")?;
        self.log.boot_starts();
        self.terminal = Some(ConsolePty { master: File::from(master), _slave: slave });
        Ok(())
    }

    /// Closes the terminal of a guest that has ended, after logging its last output.
    pub(super) fn disconnect(&mut self) {
        self.take_output();
        self.terminal = None;
    }

    /// The last lines of this boot, without what only a terminal understands.
    pub(super) fn last_lines(&self) -> Vec<String> {
        let text = Filter::new(Colours::Dropped).text(&self.log.tail(TAIL));
        let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        let mut last: Vec<String> = lines.map(|line| line.chars().take(LINE).collect()).collect();
        last.drain(..last.len().saturating_sub(LINES));
        last
    }

    /// Adds a client; returns which part of the log came before it.
    pub(super) fn add(&mut self, stream: OwnedFd) -> Result<Scrollback> {
        rustix::io::ioctl_fionbio(&stream, true).context(|| "set up the console client")?;
        self.clients.push(ConsoleClient { stream: File::from(stream), backlog: VecDeque::new(), gone: false });
        Ok(self.log.scrollback())
    }

    pub(super) fn resize(&self, rows: u16, cols: u16) -> Result<()> {
        match &self.terminal {
            Some(terminal) => sys::tty::set_window_size(&terminal.master, rows, cols),
            None => Ok(()),
        }
    }

    pub(super) fn master(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(|terminal| terminal.master.as_fd())
    }

    /// Each client's stream and whether something waits to be written to it.
    pub(super) fn clients(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.clients.iter().map(|client| (client.stream.as_fd(), !client.backlog.is_empty()))
    }

    /// Moves what the guest has written to the log and the clients, as far as it is there now.
    pub(super) fn take_output(&mut self) {
        let Some(terminal) = &mut self.terminal else { return };
        let mut buffer = [0; 4096];
        // Bounded: a guest that never stops writing must not keep us from everything else.
        for _ in 0..16 {
            let Ok(length @ 1..) = terminal.master.read(&mut buffer) else { return };
            self.log.append(&buffer[..length]);
            if let Some(journal) = &mut self.journal {
                journal.write(&buffer[..length]);
            }
            for client in &mut self.clients {
                client.push(&buffer[..length]);
            }
            if self.clients.is_empty() {
                let answers = answers(&buffer[..length], sys::tty::window_size(&terminal.master));
                // A full input queue drops them, as it would keys.
                let _ = terminal.master.write(&answers);
            }
        }
    }

    /// Serves the clients: their keys go to the guest, the backlog to them; the gone are dropped.
    pub(super) fn serve_clients(&mut self) {
        let mut buffer = [0; 1024];
        for client in &mut self.clients {
            client.flush();
            match client.stream.read(&mut buffer) {
                Ok(0) => client.gone = true,
                Ok(length) => {
                    // A full input queue drops keys, as a serial line would.
                    if let Some(terminal) = &mut self.terminal {
                        let _ = terminal.master.write(&buffer[..length]);
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => client.gone = true,
            }
        }
        self.clients.retain(|client| !client.gone);
    }
}

impl ConsoleClient {
    fn push(&mut self, data: &[u8]) {
        self.backlog.extend(data);
        self.flush();
        if self.backlog.len() > MAX_BACKLOG {
            // The newest matters most; the log has it all.
            self.backlog.drain(..self.backlog.len() - MAX_BACKLOG / 2);
            SKIPPED.iter().rev().for_each(|byte| self.backlog.push_front(*byte));
        }
    }

    fn flush(&mut self) {
        while !self.backlog.is_empty() {
            let (head, _) = self.backlog.as_slices();
            match self.stream.write(head) {
                Ok(written) => drop(self.backlog.drain(..written)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }
}

/// Where the current boot's output is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scrollback {
    /// Offset of its start: in the rotated file if `rotated`, else in the current one.
    pub from: u64,
    /// End of it in the current file.
    pub to: u64,
    pub rotated: bool,
}

/// The console log: a file and its rotated older half, so that a guest can never fill the disk.
struct Log {
    path: PathBuf,
    /// `None` after a write failed: a full disk must not stop the guest.
    file: Option<File>,
    length: u64,
    limit: u64,
    boot_start: u64,
    rotated: bool,
}

impl Log {
    fn open(path: PathBuf, limit: u64) -> Result<Self> {
        let dir = path.parent().expect("the log is in a directory");
        std::fs::create_dir_all(dir).context(|| format!("make `{}`", dir.display()))?;
        let file = open_log(&path).context(|| format!("open `{}`", path.display()))?;
        let length = file.metadata().map_or(0, |meta| meta.len());
        Ok(Log { path, file: Some(file), length, limit, boot_start: length, rotated: false })
    }

    fn boot_starts(&mut self) {
        self.boot_start = self.length;
        self.rotated = false;
    }

    fn scrollback(&self) -> Scrollback {
        Scrollback { from: self.boot_start, to: self.length, rotated: self.rotated }
    }

    /// At most `length` of what this boot wrote last to the current file.
    fn tail(&self, length: u64) -> Vec<u8> {
        let begin = if self.rotated { 0 } else { self.boot_start };
        let from = self.length.saturating_sub(length).max(begin);
        let mut tail = vec![0; (self.length - from) as usize];
        let read = File::open(&self.path).and_then(|file| file.read_exact_at(&mut tail, from));
        if read.is_ok() { tail } else { Vec::new() }
    }

    fn append(&mut self, data: &[u8]) {
        if self.length + data.len() as u64 > self.limit {
            self.rotate();
        }
        if let Some(file) = &mut self.file {
            match file.write_all(data) {
                Ok(()) => self.length += data.len() as u64,
                Err(_) => self.file = None,
            }
        }
    }

    fn rotate(&mut self) {
        let _ = std::fs::rename(&self.path, self.path.with_extension("log.1"));
        self.boot_start = if self.rotated { 0 } else { self.boot_start };
        self.rotated = true;
        self.length = 0;
        self.file = open_log(&self.path).ok();
    }
}

fn open_log(path: &std::path::Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_at_most_two_halves_and_says_where_the_boot_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/console.log");
        let mut log = Log::open(path.clone(), 10).unwrap();
        log.append(b"old");
        log.boot_starts();
        log.append(b"12345");
        assert_eq!(log.scrollback(), Scrollback { from: 3, to: 8, rotated: false });
        log.append(b"678");
        assert_eq!(log.scrollback(), Scrollback { from: 3, to: 3, rotated: true });
        assert_eq!(std::fs::read(path.with_extension("log.1")).unwrap(), b"old12345");
        log.append(b"90abcdef");
        assert_eq!(log.scrollback(), Scrollback { from: 0, to: 8, rotated: true });
        assert_eq!(std::fs::read(path.with_extension("log.1")).unwrap(), b"678");
    }
}
