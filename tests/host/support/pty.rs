//! A terminal with a user in front of it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use nix::pty::{Winsize, openpty};

use super::{Sandbox, command, pace::Deadline, sandbox::program};

/// `lxm` on a terminal of its own.
pub struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
    /// How much of it has been searched: a long text is not searched again for each line that comes.
    searched: usize,
    child: Child,
}

impl Terminal {
    pub fn open(sandbox: &Sandbox, args: &[&str], rows: u16, cols: u16) -> Self {
        let words = std::iter::once(program().into_os_string()).chain(args.iter().map(OsString::from));
        Self::with(sandbox, &words.collect::<Vec<_>>(), rows, cols)
    }

    /// A shell's script on a terminal; `$LXM` is the program under test.
    pub fn script(sandbox: &Sandbox, script: &str) -> Self {
        Self::with(sandbox, &["sh", "-c", script].map(OsString::from), 24, 80)
    }

    fn with(sandbox: &Sandbox, words: &[OsString], rows: u16, cols: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("open a terminal");
        let slave = File::from(pty.slave);
        let mut command = Command::new("setsid");
        sandbox.environment(&mut command);
        command.env("TERM", "xterm").env("LXM", program()).args(["--ctty", "--wait"]).args(words);
        let end = || Stdio::from(slave.try_clone().expect("duplicate a descriptor"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("run setsid");
        let keyboard = File::from(pty.master);
        let mut reader = keyboard.try_clone().expect("duplicate a descriptor");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO says that no process has the other end open any more (pty(7)).
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { keyboard, screen, seen: String::new(), searched: 0, child }
    }

    /// Types something; `\r` is the enter key.
    pub fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("type");
    }

    /// Waits until the screen has shown `needle` since the last call; gives what it showed.
    #[track_caller]
    pub fn shows(&mut self, needle: &str) -> String {
        let deadline = Deadline::after(Duration::from_secs(20));
        self.searched = 0;
        loop {
            let mut from = self.searched.saturating_sub(needle.len());
            while !self.seen.is_char_boundary(from) {
                from -= 1;
            }
            if let Some(at) = self.seen[from..].find(needle).map(|at| from + at) {
                self.searched = 0;
                let rest = self.seen.split_off(at + needle.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            self.searched = self.seen.len();
            match self.screen.recv_timeout(deadline.remaining()) {
                Ok(part) => self.seen.push_str(&String::from_utf8_lossy(&part)),
                Err(RecvTimeoutError::Timeout) if !deadline.has_passed() => {}
                Err(e) => panic!("`{needle}` was not shown ({e}); this was:\n{}", self.seen),
            }
        }
    }

    /// Waits until the command has ended; gives its exit status.
    #[track_caller]
    pub fn ends(mut self) -> i32 {
        let limit = Duration::from_secs(20);
        let status = command::wait(&mut self.child, limit);
        command::status_of(
            status.unwrap_or_else(|| panic!("still on the terminal after {limit:?}; it showed:\n{}", self.seen)),
        )
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
