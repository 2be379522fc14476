//! What the kernel reports of links and addresses (rtnetlink(7)).

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use rtnetlink::sys::{Socket, SocketAddr};

use crate::error::{Context, Error, Result};
use crate::net::names::PREFIX;

const NETLINK_ROUTE: isize = 0;
/// RTNLGRP_LINK (1), RTNLGRP_IPV4_IFADDR (5) and RTNLGRP_IPV6_IFADDR (9), as bits from the first.
const GROUPS: u32 = 1 | 1 << 4 | 1 << 8;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const IFLA_IFNAME: u16 = 3;

/// The kernel's reports, and what has been heard.
pub(crate) struct LinkEvents {
    socket: Socket,
    bridge: String,
    /// The index that the bridge had when it was seen last.
    index: u32,
    pub(crate) heard: Heard,
}

/// What may not be as it should be since it was looked at last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The bridge or an address of it.
    pub bridge: bool,
    /// Links that have names of ours.
    pub ports: BTreeSet<u32>,
    /// The kernel has said more than was heard.
    pub everything: bool,
}

impl Heard {
    pub(crate) fn is_anything(&self) -> bool {
        self.bridge || self.everything || !self.ports.is_empty()
    }

    /// Takes one report about the bridge `name` with this index.
    fn take(&mut self, (kind, body): (u16, &[u8]), name: &str, index: &mut u32) {
        // `struct ifinfomsg` and `struct ifaddrmsg` both have the index there.
        let about = body.get(4..8).map(|bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let Some(about) = about else { return };
        match kind {
            RTM_NEWLINK | RTM_DELLINK => match link_name(body) {
                Some(link) if link == name.as_bytes() => {
                    *index = about;
                    self.bridge = true;
                }
                Some(link) if link.starts_with(PREFIX.as_bytes()) => _ = self.ports.insert(about),
                _ => self.bridge |= about == *index,
            },
            RTM_NEWADDR | RTM_DELADDR => self.bridge |= about == *index,
            _ => {}
        }
    }
}

/// The name in a message about a link: attributes follow `struct ifinfomsg`.
fn link_name(body: &[u8]) -> Option<&[u8]> {
    let mut rest = body.get(16..)?;
    loop {
        let number = |at: usize| Some(u16::from_ne_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
        let (length, kind) = (usize::from(number(0)?), number(2)?);
        let value = rest.get(4..length)?;
        if kind == IFLA_IFNAME {
            return Some(value.strip_suffix(b"\0").unwrap_or(value));
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

impl LinkEvents {
    pub(crate) fn subscribe(bridge: &str) -> Result<Self> {
        let open = || -> std::io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, GROUPS))?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket = open().context(|| "listen for changes of links")?;
        // What happened before we listened is looked for once.
        let heard = Heard { everything: true, ..Heard::default() };
        let index = nix::net::if_::if_nametoindex(bridge).unwrap_or(0);
        Ok(LinkEvents { socket, bridge: bridge.to_owned(), index, heard })
    }

    /// Takes what the kernel has said.
    pub(crate) fn drain(&mut self) -> Result<()> {
        let mut buffer = Vec::with_capacity(64 << 10);
        loop {
            buffer.clear();
            match self.socket.recv_from(&mut buffer, 0) {
                Ok((length, _)) => {
                    for message in messages(&buffer[..length.min(buffer.len())]) {
                        self.heard.take(message, &self.bridge, &mut self.index);
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => self.heard.everything = true,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::from(e).step("receive changes of links")),
            }
        }
    }
}

impl AsFd for LinkEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The netlink messages in a datagram, by their type (`struct nlmsghdr`: length, type, …).
pub(in crate::net) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = datagram.get(..16)?;
        let length = u32::from_ne_bytes(header[..4].try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(header[4..6].try_into().ok()?);
        if length < 16 {
            return None;
        }
        let body = datagram.get(16..length.min(datagram.len())).unwrap_or_default();
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Vec<u8> {
        let mut body = [&[0; 4][..], &index.to_ne_bytes(), &[0; 8]].concat();
        let value = [name.as_bytes(), b"\0"].concat();
        // Another attribute stands before it.
        body.extend([8, 0, 27, 0, 1, 2, 3, 4]);
        body.extend((4 + value.len() as u16).to_ne_bytes());
        body.extend(IFLA_IFNAME.to_ne_bytes());
        body.extend(value);
        body
    }

    #[test]
    fn what_concerns_the_bridge_and_its_ports_is_heard() {
        let mut heard = Heard::default();
        let mut index = 7;
        let other = link(9, "veth0");
        heard.take((RTM_NEWLINK, &other), "lxmbr0", &mut index);
        heard.take((RTM_DELADDR, &link(9, "")), "lxmbr0", &mut index);
        assert!(!heard.is_anything());
        heard.take((RTM_DELLINK, &link(9, "lxm01234567")), "lxmbr0", &mut index);
        assert_eq!((heard.bridge, heard.ports.contains(&9)), (false, true));
        heard.take((RTM_DELADDR, &link(7, "")), "lxmbr0", &mut index);
        assert!(heard.bridge);
        let mut heard = Heard::default();
        heard.take((RTM_NEWLINK, &link(12, "lxmbr0")), "lxmbr0", &mut index);
        assert_eq!((heard.bridge, index), (true, 12), "made again, it has another index");
        for cut in 0..other.len() {
            Heard::default().take((RTM_NEWLINK, &other[..cut]), "lxmbr0", &mut index);
        }
    }

    #[test]
    fn broken_datagrams_end_the_reading() {
        let message = |kind: u16, length: u32, room: usize| {
            let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat();
            bytes.resize(room, 0);
            bytes
        };
        for datagram in [vec![], vec![1; 15], message(1, 3, 16), message(1, 4000, 16)] {
            assert!(messages(&datagram).count() <= 1);
        }
    }
}
