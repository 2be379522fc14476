//! Elements of the sets, added, taken and asked for by messages to the kernel.
//!
//! Every start gives the guest its addresses before its first packet, and running `nft` for that would
//! cost more than all other links and addresses together (nfnetlink, `nf_tables_api.c`; the attributes
//! are those of `linux/netfilter/nf_tables.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnetwork::IpNetwork;
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::holding::{Holding, Permit};
use crate::error::{Context, Error, Result};
use crate::types::Mac;

/// The kernel answers within the call that asks; what is lost never comes.
const ANSWER: Duration = Duration::from_secs(10);

const NETLINK_NETFILTER: isize = 12;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFPROTO_BRIDGE: u8 = 7;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLA_F_NESTED: u16 = 0x8000;

/// A set of the table that keeps guests honest and the key of one of its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    set: &'static str,
    key: Vec<u8>,
    /// The last key, of a set of intervals.
    end: Option<Vec<u8>>,
}

impl Element {
    fn new(set: &'static str, key: Vec<u8>) -> Self {
        Element { set, key, end: None }
    }
}

/// The element that lets a MAC address use a network.
pub(super) fn of_permit(permit: &Permit) -> Element {
    match permit.net {
        IpNetwork::V4(net) => {
            let end = pair4("allowed4", permit.mac, net.broadcast()).key;
            Element { end: Some(end), ..pair4("allowed4", permit.mac, net.network()) }
        }
        IpNetwork::V6(net) => {
            let end = pair6("allowed6", net.broadcast(), permit.mac).key;
            Element { end: Some(end), ..pair6("allowed6", net.network(), permit.mac) }
        }
    }
}

/// The element that keeps an address from others than those that may use it.
pub(super) fn kept(address: Ipv6Addr) -> Element {
    Element::new("held6", address.octets().to_vec())
}

/// The elements that reserve `holding` for its MAC address.
pub(super) fn of(holding: &Holding) -> Vec<Element> {
    match holding.address {
        IpAddr::V4(address) => vec![pair4("fixed", holding.mac, address)],
        IpAddr::V6(address) => {
            vec![pair6("fixed6", address, holding.mac), kept(address)]
        }
    }
}

/// The elements of which either lets the MAC address use the IP address.
pub(super) fn proofs(holding: &Holding) -> [Element; 2] {
    match holding.address {
        IpAddr::V4(address) => ["fixed", "leased"].map(|set| pair4(set, holding.mac, address)),
        IpAddr::V6(address) => ["fixed6", "bound6"].map(|set| pair6(set, address, holding.mac)),
    }
}

/// The element for an address that a MAC address has claimed by itself.
pub(super) fn claimed(address: Ipv6Addr) -> Element {
    Element::new("owned6", address.octets().to_vec())
}

/// The count of the addresses that a MAC address has claimed by itself.
pub(super) fn count(mac: Mac) -> Element {
    Element::new("claims6", mac.0.to_vec())
}

/// The count of what was dropped of a MAC address.
pub(super) fn drop_count(mac: Mac) -> Element {
    Element::new("dropped", mac.0.to_vec())
}

/// The element that remembers an address which a MAC address was not to use.
pub(super) fn dropped(mac: Mac, address: IpAddr) -> Element {
    match address {
        IpAddr::V4(address) => pair4("dropped4", mac, address),
        IpAddr::V6(address) => pair6("dropped6", address, mac),
    }
}

/// Parts of a key begin at multiples of four bytes.
fn pair4(set: &'static str, mac: Mac, address: Ipv4Addr) -> Element {
    Element::new(set, [&mac.0[..], &[0; 2], &address.octets()].concat())
}

fn pair6(set: &'static str, address: Ipv6Addr, mac: Mac) -> Element {
    Element::new(set, [&address.octets()[..], &mac.0, &[0; 2]].concat())
}

/// A hardware address as nft writes raw payload.
pub(super) fn number_of(mac: Mac) -> String {
    let [a, b, c, d, e, f] = mac.0;
    format!("{:#014x}", u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

pub(super) fn number4(address: Ipv4Addr) -> String {
    format!("{:#010x}", u32::from(address))
}

pub(super) fn number6(address: Ipv6Addr) -> String {
    format!("{:#034x}", u128::from(address))
}

/// A netlink connection for one owner's table.
pub(super) struct Kernel {
    socket: Socket,
    table: String,
    sequence: u32,
}

impl Kernel {
    pub(super) fn new(table: &str) -> Result<Self> {
        let open = || -> std::io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Every start waits for this answer, with the lock on the rules in its hand.
            set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER))?;
            Ok(socket)
        };
        let socket = open().context(|| "send to the kernel's firewall")?;
        Ok(Kernel { socket, table: table.to_owned(), sequence: 0 })
    }

    /// Adds elements, all or none; returns whether the sets exist.
    pub(super) fn add(&mut self, elements: &[Element]) -> Result<bool> {
        self.change(NEWSETELEM, NLM_F_CREATE, elements)
    }

    /// Removes those of the elements that exist; returns whether any did.
    ///
    /// It asks first: a change that fails costs a grace period of RCU (`__nf_tables_abort`), many
    /// milliseconds, and one that has nothing to take would fail.
    pub(super) fn take(&mut self, elements: &[Element]) -> Result<bool> {
        let mut there = Vec::new();
        for element in elements {
            if self.has(element)? {
                there.push(element.clone());
            }
        }
        self.change(DELSETELEM, 0, &there)?;
        Ok(!there.is_empty())
    }

    /// Whether a set has an element.
    pub(super) fn has(&mut self, element: &Element) -> Result<bool> {
        self.sequence += 1;
        let message = message(GETSETELEM, NLM_F_ACK, self.sequence, &self.table, element);
        self.socket.send(&message, 0).context(|| "ask the kernel's firewall")?;
        self.outcome(1)
    }

    /// The keys of a set's elements, with the packets of their counters; none where there is no such set.
    pub(super) fn dump(&mut self, set: &str) -> Result<Vec<(Vec<u8>, Option<u64>)>> {
        self.sequence += 1;
        let table = attribute(1, &[self.table.as_bytes(), b"\0"].concat()); // NFTA_SET_ELEM_LIST_TABLE
        let set = attribute(2, &[set.as_bytes(), b"\0"].concat()); // NFTA_SET_ELEM_LIST_SET
        let kind = (NFNL_SUBSYS_NFTABLES << 8) | GETSETELEM;
        let question = header(kind, NLM_F_DUMP, self.sequence, NFPROTO_BRIDGE, 0, &[table, set].concat());
        self.socket.send(&question, 0).context(|| "ask the kernel's firewall")?;
        let mut found = Vec::new();
        loop {
            let mut buffer = Vec::with_capacity(64 << 10);
            self.socket.recv(&mut buffer, 0).context(|| "receive from the kernel's firewall")?;
            for (kind, sequence, body) in Messages(&buffer) {
                match kind {
                    _ if sequence != self.sequence => {}
                    NLMSG_DONE | NLMSG_ERROR => return Ok(found),
                    // `struct nfgenmsg` is before the attributes.
                    _ => found.extend(super::attributes::elements(body.get(4..).unwrap_or_default())),
                }
            }
        }
    }

    fn change(&mut self, kind: u16, flags: u16, elements: &[Element]) -> Result<bool> {
        if elements.is_empty() {
            return Ok(true);
        }
        // What is wrong with the batch as a whole is answered to its first message.
        let mut batch = header(BATCH_BEGIN, 0, self.sequence + 1, 0, NFNL_SUBSYS_NFTABLES, &[]);
        for element in elements {
            self.sequence += 1;
            batch.extend(message(kind, flags | NLM_F_ACK, self.sequence, &self.table, element));
        }
        batch.extend(header(BATCH_END, 0, 0, 0, NFNL_SUBSYS_NFTABLES, &[]));
        self.socket.send(&batch, 0).context(|| "change the kernel's firewall")?;
        self.outcome(elements.len())
    }

    /// Waits for the answers to the last messages; "no such" is no error.
    fn outcome(&mut self, messages: usize) -> Result<bool> {
        let first = self.sequence + 1 - messages as u32;
        let (mut answered, mut found) = (0, true);
        while answered < messages {
            let mut buffer = Vec::with_capacity(16 << 10);
            self.socket.recv(&mut buffer, 0).context(|| "receive from the kernel's firewall")?;
            for (kind, sequence, body) in Messages(&buffer) {
                if kind != NLMSG_ERROR || !(first..=self.sequence).contains(&sequence) {
                    continue;
                }
                answered += 1;
                match body.get(..4).map(|code| i32::from_ne_bytes([code[0], code[1], code[2], code[3]])) {
                    Some(0) => {}
                    Some(code) if code == -libc::ENOENT => found = false,
                    Some(code) => {
                        let error = std::io::Error::from_raw_os_error(code.saturating_neg());
                        return Err(Error::from(error).step("change the kernel's firewall"));
                    }
                    None => return Err(Error::failed("the kernel sent a truncated netfilter message")),
                }
            }
        }
        Ok(found)
    }
}

/// Netlink messages: type, sequence number, body.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let number = |at: usize| Some(u32::from_ne_bytes(self.0.get(at..at + 4)?.try_into().ok()?));
        let (length, sequence) = (number(0)? as usize, number(8)?);
        let kind = u16::from_ne_bytes(self.0.get(4..6)?.try_into().ok()?);
        let body = self.0.get(16..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, sequence, body))
    }
}

/// `struct nlmsghdr` and `struct nfgenmsg` before the attributes.
fn header(kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = 20 + attributes.len() as u32;
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &(flags | NLM_F_REQUEST).to_ne_bytes()].concat();
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

fn message(kind: u16, flags: u16, sequence: u32, table: &str, element: &Element) -> Vec<u8> {
    let value = |key: &[u8]| attribute(1, key); // NFTA_DATA_VALUE
    let mut key = attribute(NLA_F_NESTED | 1, &value(&element.key)); // NFTA_SET_ELEM_KEY
    if let Some(end) = &element.end {
        key.extend(attribute(NLA_F_NESTED | 10, &value(end))); // NFTA_SET_ELEM_KEY_END
    }
    let item = attribute(NLA_F_NESTED | 1, &key); // NFTA_LIST_ELEM
    let table = attribute(1, &[table.as_bytes(), b"\0"].concat()); // NFTA_SET_ELEM_LIST_TABLE
    let set = attribute(2, &[element.set.as_bytes(), b"\0"].concat()); // NFTA_SET_ELEM_LIST_SET
    let list = attribute(NLA_F_NESTED | 3, &item); // NFTA_SET_ELEM_LIST_ELEMENTS
    let kind = (NFNL_SUBSYS_NFTABLES << 8) | kind;
    header(kind, flags, sequence, NFPROTO_BRIDGE, 0, &[table, set, list].concat())
}

/// `struct nlattr` and its payload, padded to four bytes.
fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 4 + payload.len() as u16;
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), payload].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_are_padded_to_four_bytes() {
        let mac = Mac([2, 0, 0, 0, 0, 5]);
        let four = of(&Holding { mac, address: "10.99.0.5".parse().unwrap() });
        assert_eq!(four[0].key, [2, 0, 0, 0, 0, 5, 0, 0, 10, 99, 0, 5]);
        let six = of(&Holding { mac, address: "fe80::5".parse().unwrap() });
        assert_eq!((six[0].key.len(), six[1].key.len()), (24, 16));
    }

    #[test]
    fn broken_answers_end_the_reading() {
        for bytes in [vec![], vec![1; 15], header(2, 0, 0, 0, 0, &[0; 4])[..20].to_vec(), vec![0; 64]] {
            assert!(Messages(&bytes).count() <= 1);
        }
    }
}
