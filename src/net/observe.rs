//! What a guest's network shows from outside, by files of /proc and /sys: no namespace is entered,
//! so a `list` of many stays quick.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use nix::unistd::Pid;

/// The addresses of a guest, but for loopback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GuestAddresses {
    pub ipv4: Vec<Ipv4Addr>,
    pub ipv6: Vec<Ipv6Addr>,
    /// Addresses that only its neighbours can reach.
    pub link_local: Vec<Ipv6Addr>,
}

impl GuestAddresses {
    /// Whether others can reach the guest.
    pub(crate) fn are_reachable(&self) -> bool {
        !self.ipv4.is_empty() || !self.ipv6.is_empty()
    }

    /// All IPv6 addresses, the least useful last.
    pub(crate) fn all_ipv6(&self) -> Vec<Ipv6Addr> {
        [&self.ipv6[..], &self.link_local].concat()
    }
}

/// The addresses in the network namespace of `leader`; none of one that is gone or shares ours.
pub(crate) fn addresses(leader: Pid) -> GuestAddresses {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    if namespace(&leader.to_string()) == namespace("self") {
        return GuestAddresses::default();
    }
    let read = |file: &str| fs::read_to_string(format!("/proc/{leader}/net/{file}")).unwrap_or_default();
    let table = read("if_inet6");
    let [ipv6, link_local] = [GLOBAL, LINK_LOCAL].map(|scope| ipv6_of(&table, scope));
    GuestAddresses { ipv4: local_ipv4(&read("fib_trie")), ipv6, link_local }
}

/// Bytes that went over a link of the host, seen from the guest at its other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub sent: u64,
    pub received: u64,
}

/// The traffic of the host's end of a guest's link: what the host receives the guest has sent.
pub(crate) fn traffic(host_link: &str) -> Option<Traffic> {
    let read = |counter: &str| {
        let text = fs::read_to_string(format!("/sys/class/net/{host_link}/statistics/{counter}")).ok()?;
        text.trim().parse().ok()
    };
    Some(Traffic { sent: read("rx_bytes")?, received: read("tx_bytes")? })
}

/// The own addresses of a routing table as /proc/net/fib_trie draws it: a leaf `|-- ADDRESS`, and
/// below it what it is.
fn local_ipv4(trie: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut leaf = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(leaf.filter(|address| !address.is_loopback() && !address.is_link_local()));
        }
    }
    // The main and the local table are often one, shown twice.
    found.sort();
    found.dedup();
    found
}

// Scopes of /proc/net/if_inet6 (RFC 4007, as net/ipv6/addrconf.c writes them).
const GLOBAL: &str = "00";
const LINK_LOCAL: &str = "20";

// Flags there (IFA_F_* of linux/if_addr.h).
const OPTIMISTIC: u8 = 0x04;
const DADFAILED: u8 = 0x08;
const TENTATIVE: u8 = 0x40;

/// The addresses of a scope in /proc/net/if_inet6: `ADDRESS INDEX PREFIX SCOPE FLAGS NAME`, in hex.
/// One that duplicate address detection has not passed is not the guest's yet (RFC 4862, 5.4).
fn ipv6_of(table: &str, scope: &str) -> Vec<Ipv6Addr> {
    let address = |line: &str| {
        let mut fields = line.split_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let in_scope = fields.nth(2)? == scope;
        let flags = u8::from_str_radix(fields.next()?, 16).ok()?;
        let usable = flags & DADFAILED == 0 && (flags & TENTATIVE == 0 || flags & OPTIMISTIC != 0);
        (in_scope && usable).then(|| Ipv6Addr::from(address))
    };
    table.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_others_can_reach_are_found() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.1.2.0\n        \
                    /24 link UNICAST\nLocal:\n     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 10.1.2.255\n        \
                    /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.1.2.3\n        /32 host LOCAL\n";
        assert_eq!(local_ipv4(trie), [Ipv4Addr::new(10, 1, 2, 3)]);
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fd420000000000000000000000000005 02 40 00 80     eth0\n\
                     fd420000000000000000000000000006 02 40 00 40     eth0\n\
                     fd420000000000000000000000000007 02 40 00 c8     eth0\n\
                     fe800000000000000000000000000005 02 40 20 80     eth0\n";
        let parse = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        assert_eq!(ipv6_of(table, GLOBAL), [parse("fd42::5")]);
        let link_local = ipv6_of(table, LINK_LOCAL);
        let addresses = GuestAddresses { ipv6: vec![parse("fd42::5")], link_local, ..GuestAddresses::default() };
        assert_eq!(addresses.all_ipv6(), ["fd42::5", "fe80::5"].map(parse));
    }

    #[test]
    fn a_guest_in_the_hosts_network_has_no_address_of_its_own() {
        assert_eq!(addresses(nix::unistd::getpid()), GuestAddresses::default());
    }
}
