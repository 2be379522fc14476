//! Who started this supervisor and hears of it: a command line on a bare host, or systemd.

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::PLACEMENT;
use crate::error::{Context, Error, Result};
use crate::sys::socket::Packets;

/// The other side, as the supervisor sees it.
#[derive(Debug)]
pub struct Manager {
    link: Link,
    /// The console's window size until somebody joins it.
    pub rows: u16,
    pub cols: u16,
}

#[derive(Debug)]
enum Link {
    /// The command line that cloned us, until it has heard that the guest has started.
    Command(Option<Packets>),
    /// systemd, by sd_notify(3).
    Systemd,
}

/// From the command line: the supervisor is in its v1 groups.
#[derive(Debug, Serialize, Deserialize)]
pub struct Placed;

/// To the command line: the leader's pid, or why there is none.
pub type Started = Result<i32>;

impl Manager {
    /// A command line at the other end of `packets`.
    pub fn command(packets: Packets, rows: u16, cols: u16) -> Self {
        Manager { link: Link::Command(Some(packets)), rows, cols }
    }

    /// systemd, which has set NOTIFY_SOCKET.
    pub fn systemd() -> Self {
        Manager { link: Link::Systemd, rows: 24, cols: 80 }
    }

    /// Waits until this process is in the groups that its children shall be born in.
    pub(super) fn wait_placed(&self) -> Result<()> {
        match &self.link {
            Link::Command(Some(command)) => {
                match command.recv_within::<Placed>(PLACEMENT).context(|| "wait to be placed")? {
                    Some(_) => Ok(()),
                    None => Err(Error::failed("the command that started it was killed")),
                }
            }
            _ => Ok(()),
        }
    }

    /// Init has been executed.
    pub(super) fn started(&mut self, leader: Pid) {
        if let Link::Command(command) = &mut self.link
            && let Some(command) = command.take()
        {
            // Nobody may be listening any more: the guest runs all the same.
            let _ = command.send(&Started::Ok(leader.as_raw()), &[]);
        }
    }

    /// The guest's init has passed on `text` (sd_notify(3) lines).
    pub(super) fn notified(&self, _text: &str) {}

    pub(super) fn failed(&mut self, error: &Error) {
        if let Link::Command(command) = &mut self.link
            && let Some(command) = command.take()
        {
            let _ = command.send(&Started::Err(error.clone()), &[]);
        }
    }

    /// Whether exiting with status 133 starts us again, in a fresh unit.
    pub(super) fn restarts_us(&self) -> bool {
        matches!(self.link, Link::Systemd)
    }
}
