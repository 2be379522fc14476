//! The server's messages to its watchdog, the process beside it that has the rights which the server gave up.
//!
//! The watchdog keeps the firewall's tables and starts a server again that was killed; its work is in `net`,
//! its messages are here.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use crate::error::{Context, Result};
use crate::types::Mac;

/// Messages have one length, of a kind, a MAC address and an IPv4 address: so short that a pipe takes and
/// gives each whole (pipe(7)).
const LENGTH: usize = 11;
const RESTART_ON_CRASH: u8 = b'!';
const STOP: u8 = b'.';
const HANDED_ON: u8 = b'>';
const TAKEN_BACK: u8 = b'<';

/// A message of a server to its watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchdogMessage {
    /// From now on the server is started again when it ends without [`Self::Stop`].
    RestartOnCrash,
    /// The server ends because it was stopped.
    Stop,
    /// From now on the leased address belongs to the client of this MAC address, or to none.
    Leased(Ipv4Addr, Option<Mac>),
}

impl WatchdogMessage {
    fn encode(self) -> [u8; LENGTH] {
        let (kind, mac, address) = match self {
            WatchdogMessage::RestartOnCrash => (RESTART_ON_CRASH, None, Ipv4Addr::UNSPECIFIED),
            WatchdogMessage::Stop => (STOP, None, Ipv4Addr::UNSPECIFIED),
            WatchdogMessage::Leased(address, Some(mac)) => (HANDED_ON, Some(mac), address),
            WatchdogMessage::Leased(address, None) => (TAKEN_BACK, None, address),
        };
        let mut bytes = [kind; LENGTH];
        bytes[1..7].copy_from_slice(&mac.map_or([0; 6], |mac| mac.0));
        bytes[7..].copy_from_slice(&address.octets());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let [kind, a, b, c, d, e, f, g, h, i, j] = *bytes else { return None };
        let address = Ipv4Addr::new(g, h, i, j);
        match kind {
            RESTART_ON_CRASH => Some(WatchdogMessage::RestartOnCrash),
            STOP => Some(WatchdogMessage::Stop),
            HANDED_ON => Some(WatchdogMessage::Leased(address, Some(Mac([a, b, c, d, e, f])))),
            TAKEN_BACK => Some(WatchdogMessage::Leased(address, None)),
            _ => None,
        }
    }
}

/// Reads the messages that have arrived; `None` at the end, which is the server's.
pub(crate) fn receive(pipe: impl AsFd) -> nix::Result<Option<Vec<WatchdogMessage>>> {
    let mut bytes = [0; 512 * LENGTH];
    match nix::unistd::read(pipe, &mut bytes)? {
        0 => Ok(None),
        length => Ok(Some(bytes[..length].chunks_exact(LENGTH).filter_map(WatchdogMessage::decode).collect())),
    }
}

/// The server's end of the pipe: its watchdog ends with it.
#[derive(Debug)]
pub(crate) struct Watchdog(OwnedFd);

impl Watchdog {
    /// `pipe` is the end that is written to.
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Watchdog(pipe)
    }

    pub(crate) fn send(&self, message: WatchdogMessage) -> Result<()> {
        nix::unistd::write(&self.0, &message.encode()).map(drop).context(|| "send to the watchdog")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let watchdog = Watchdog::new(write);
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        let address = Ipv4Addr::new(10, 0, 3, 9);
        let sent = [
            WatchdogMessage::RestartOnCrash,
            WatchdogMessage::Leased(address, Some(mac)),
            WatchdogMessage::Leased(address, None),
            WatchdogMessage::Stop,
        ];
        sent.iter().for_each(|message| watchdog.send(*message).unwrap());
        assert_eq!(receive(&read).unwrap().unwrap(), sent);
        drop(watchdog);
        assert!(receive(&read).unwrap().is_none());
        assert_eq!(WatchdogMessage::decode(b"?0123456789"), None);
    }
}
