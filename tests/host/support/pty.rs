//! A terminal with somebody in front of it.

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
    child: Child,
}

impl Terminal {
    pub fn open(sandbox: &Sandbox, args: &[&str], rows: u16, cols: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("open a terminal");
        let slave = File::from(pty.slave);
        let mut command = Command::new("setsid");
        sandbox.environment(&mut command);
        command.env("TERM", "xterm").args(["--ctty", "--wait"]).arg(program()).args(args);
        let end = || Stdio::from(slave.try_clone().expect("duplicate a descriptor"));
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("run setsid");
        let keyboard = File::from(pty.master);
        let mut reader = keyboard.try_clone().expect("duplicate a descriptor");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO says that nobody has the other end open any more (pty(7)).
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { keyboard, screen, seen: String::new(), child }
    }

    /// Types something; `\r` is the enter key.
    pub fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("type");
    }

    /// Waits until the screen has shown `needle` since the last call; gives what it showed.
    #[track_caller]
    pub fn shows(&mut self, needle: &str) -> String {
        let deadline = Deadline::after(Duration::from_secs(20));
        loop {
            if let Some(at) = self.seen.find(needle) {
                let rest = self.seen.split_off(at + needle.len());
                return std::mem::replace(&mut self.seen, rest);
            }
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
