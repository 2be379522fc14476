//! The guest's console in the host's journal, a line an entry (systemd.journal-fields(7)).

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::error::{Context, Result};
use crate::types::ContainerName;

const SOCKET: &str = "/run/systemd/journal/socket";

/// A line that is longer than this is cut into several.
const LINE_MAX: usize = 4096;

/// Splits what a console shows into entries of the journal.
#[derive(Debug)]
pub(crate) struct ConsoleJournal {
    socket: UnixDatagram,
    name: ContainerName,
    line: Vec<u8>,
    escape: Escape,
}

/// Where in a terminal control sequence (ECMA-48) the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    /// After ESC.
    Begun,
    /// After ESC `[`: until a letter.
    Control,
    /// After ESC `]` or another string opener: until BEL or ESC `\`.
    String,
}

impl ConsoleJournal {
    /// `None` on a host without journald.
    pub(crate) fn open(name: &ContainerName) -> Result<Option<Self>> {
        if !Path::new(SOCKET).exists() {
            return Ok(None);
        }
        let socket = UnixDatagram::unbound().context(|| "make a socket")?;
        // A journal that cannot keep up loses lines; the guest and we never wait for it.
        socket.set_nonblocking(true).context(|| "set up a socket")?;
        Ok(Some(ConsoleJournal { socket, name: name.clone(), line: Vec::new(), escape: Escape::None }))
    }

    /// Takes what the guest has written.
    pub(crate) fn write(&mut self, data: &[u8]) {
        for &byte in data {
            if self.take(byte) {
                self.flush();
            }
        }
    }

    /// Adds a byte to the line, without control sequences; says whether the line is complete.
    fn take(&mut self, byte: u8) -> bool {
        self.escape = match (self.escape, byte) {
            (Escape::None, 0x1b) => Escape::Begun,
            (Escape::None, b'\n') => return true,
            (Escape::None, byte) => {
                if byte >= b' ' && byte != 0x7f || byte == b'\t' {
                    self.line.push(byte);
                }
                return self.line.len() >= LINE_MAX;
            }
            (Escape::Begun, b'[') => Escape::Control,
            (Escape::Begun, b']' | b'P' | b'X' | b'^' | b'_') => Escape::String,
            // Two-byte sequences may have intermediate bytes before their last.
            (Escape::Begun, 0x20..=0x2f) => Escape::Begun,
            (Escape::Control, 0x20..=0x3f) => Escape::Control,
            (Escape::String, 0x07) => Escape::None,
            (Escape::String, 0x1b) => Escape::Begun,
            (Escape::String, _) => Escape::String,
            (Escape::Begun | Escape::Control, _) => Escape::None,
        };
        false
    }

    /// Sends the line, if there is one.
    fn flush(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        let text = text.trim_end();
        if !text.is_empty() {
            let entry = format!(
                "MESSAGE={text}\nPRIORITY=6\nSYSLOG_IDENTIFIER={name}\nCONTAINER_NAME={name}\nLXM_SOURCE=console\n",
                name = self.name
            );
            let _ = self.socket.send_to(entry.as_bytes(), SOCKET);
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cleared_of_what_moves_a_cursor() {
        let mut journal = ConsoleJournal {
            socket: UnixDatagram::unbound().unwrap(),
            name: "web".parse().unwrap(),
            line: Vec::new(),
            escape: Escape::None,
        };
        let mut lines = Vec::new();
        for &byte in "\x1b[0;1;31mred\x1b[0m\r\n\x1b]0;title\x07[  \x1b[32mOK\x1b(B  ] é\tx\n".as_bytes() {
            if journal.take(byte) {
                lines.push(String::from_utf8(std::mem::take(&mut journal.line)).unwrap());
            }
        }
        assert_eq!(lines, ["red", "[  OK  ] é\tx"]);
    }
}
