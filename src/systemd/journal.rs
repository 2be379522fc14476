//! The guest's console in the host's journal, a line an entry (systemd.journal-fields(7)).

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::error::{Context, Result};
use crate::terminal::{Colours, Filter};
use crate::types::ContainerName;

const SOCKET: &str = "/run/systemd/journal/socket";

/// A line that is longer than this is cut into several.
const LINE_MAX: usize = 4096;

/// Splits what a console shows into entries of the journal.
#[derive(Debug)]
pub(crate) struct ConsoleJournal {
    socket: UnixDatagram,
    name: ContainerName,
    line: String,
    filter: Filter,
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
        Ok(Some(ConsoleJournal {
            socket,
            name: name.clone(),
            line: String::new(),
            filter: Filter::new(Colours::Dropped),
        }))
    }

    /// Takes what the guest has written.
    pub(crate) fn write(&mut self, data: &[u8]) {
        for c in self.filter.text(data).chars() {
            if self.take(c) {
                self.flush();
            }
        }
    }

    /// Adds to the line; returns whether it is complete.
    fn take(&mut self, c: char) -> bool {
        match c {
            '\n' => return true,
            '\r' => {}
            c => self.line.push(c),
        }
        self.line.len() >= LINE_MAX
    }

    /// Sends the line, if there is one.
    fn flush(&mut self) {
        let text = self.line.trim_end();
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
            line: String::new(),
            filter: Filter::new(Colours::Dropped),
        };
        let mut lines = Vec::new();
        let text = "\x1b[0;1;31mred\x1b[0m\r\n\x1b]0;title\x07[  \x1b[32mOK\x1b(B  ] é\tx\n";
        for c in journal.filter.text(text.as_bytes()).chars() {
            if journal.take(c) {
                lines.push(std::mem::take(&mut journal.line));
            }
        }
        assert_eq!(lines, ["red", "[  OK  ] é\tx"]);
    }
}
