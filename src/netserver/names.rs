//! Which names the guests have, and which of their addresses.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::guests::Guests;
use super::lease::{Leases, Time};
use crate::types::Mac;

/// Most IPv6 addresses remembered of one guest; a guest can claim as many as it likes.
const MAX_ADDRESSES: usize = 4;
/// Most addresses whose MAC address is remembered; beyond, all are learnt anew.
const MAX_SENDERS: usize = 65_536;

/// What the name server answers from: made anew whenever a guest or its lease changes.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_name: HashMap<String, Vec<NameEntry>>,
    by_address: HashMap<IpAddr, (String, Time)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NameEntry {
    address: IpAddr,
    until: Time,
}

impl Names {
    /// Takes every address that a running guest has: set by lxm, leased, or seen on the link.
    pub(super) fn new(guests: &Guests, leases: Option<&Leases>, neighbours: &Neighbours) -> Self {
        let mut names = Names::default();
        for guest in guests.values() {
            // A guest without an address exists all the same: its name is known, and has no records.
            let known = names.by_name.entry(guest.name.to_string()).or_default();
            let fixed = guest.addresses.iter().map(|&address| NameEntry { address, until: Time::MAX });
            let lease = leases.and_then(|leases| leases.get(guest.mac)).filter(|lease| !lease.offered);
            let leased = lease.map(|lease| NameEntry { address: lease.address.into(), until: lease.expires });
            let seen = neighbours.of(guest.mac).into_iter();
            let seen = seen.map(|address| NameEntry { address: address.into(), until: Time::MAX });
            for entry in fixed.chain(leased).chain(seen) {
                if !known.iter().any(|other| other.address == entry.address) {
                    known.push(entry);
                    // One that claims another's address does not take its name.
                    names.by_address.entry(entry.address).or_insert((guest.name.to_string(), entry.until));
                }
            }
        }
        names
    }

    /// The addresses of a name; `None` where no guest has it.
    pub(super) fn addresses(&self, name: &str, now: Time) -> Option<impl Iterator<Item = IpAddr>> {
        let entries = self.by_name.get(name)?;
        Some(entries.iter().filter(move |entry| entry.until > now).map(|entry| entry.address))
    }

    pub(super) fn name_of(&self, address: IpAddr, now: Time) -> Option<&str> {
        self.by_address.get(&address).filter(|(_, until)| *until > now).map(|(name, _)| name.as_str())
    }
}

/// The IPv6 addresses that guests were seen to claim: each asks whether its new address is free
/// (RFC 4862, 5.4) before it uses it.
///
/// That is how the server knows them: a guest makes its address itself, and not every guest makes
/// it from its MAC. One that does is known by that address alone, since it is the stable one.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    named: HashMap<Mac, Vec<Ipv6Addr>>,
    /// The MAC address that sends from each address, link-local ones too.
    senders: HashMap<Ipv6Addr, Mac>,
}

impl Neighbours {
    /// Notes that `mac` claims `address`, to be answered with its name; returns whether that is new.
    pub(super) fn learn(&mut self, mac: Mac, address: Ipv6Addr) -> bool {
        let known = self.named.entry(mac).or_default();
        if known.contains(&address) {
            return false;
        }
        if known.len() == MAX_ADDRESSES {
            known.remove(0);
        }
        known.push(address);
        true
    }

    /// Notes that `mac` sends from `address`. The rules of the bridge give a MAC address 64 in an hour.
    pub(super) fn note_sender(&mut self, mac: Mac, address: Ipv6Addr) {
        if self.senders.len() >= MAX_SENDERS {
            self.senders.clear();
        }
        self.senders.insert(address, mac);
    }

    pub(super) fn mac_of(&self, address: Ipv6Addr) -> Option<Mac> {
        self.senders.get(&address).copied()
    }

    /// Keeps those of running guests alone.
    pub(super) fn retain(&mut self, guests: &Guests) {
        self.named.retain(|mac, _| guests.contains_key(mac));
        self.senders.retain(|_, mac| guests.contains_key(mac));
    }

    pub(super) fn of(&self, mac: Mac) -> Vec<Ipv6Addr> {
        let all = self.named.get(&mac).map(Vec::as_slice).unwrap_or_default();
        let suffix = mac.interface_id();
        match all.iter().find(|address| address.octets()[8..] == suffix) {
            Some(stable) => vec![*stable],
            None => all.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::guests::GuestEntry;
    use super::super::lease::Lease;
    use super::*;

    const MAC: Mac = Mac([0x10, 0x66, 0x6a, 0, 0, 1]);

    fn entry(name: &str, mac: Mac, addresses: &[&str]) -> (Mac, GuestEntry) {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        (
            mac,
            GuestEntry {
                name: name.parse().unwrap(),
                mac,
                reserved: None,
                addresses,
                allowed: Vec::new(),
                allowed_macs: Vec::new(),
            },
        )
    }

    fn of(names: &Names, name: &str, now: Time) -> Option<Vec<String>> {
        names.addresses(name, now).map(|all| all.map(|a| a.to_string()).collect())
    }

    #[test]
    fn a_name_has_fixed_leased_and_seen_addresses() {
        let mut leases = Leases::default();
        leases.set(Lease { mac: MAC, address: "10.0.3.9".parse().unwrap(), expires: 100, offered: false });
        let mut neighbours = Neighbours::default();
        assert!(neighbours.learn(MAC, "fd00::5".parse().unwrap()));
        let guests = Guests::from([entry("web", MAC, &["fd00::9"]), entry("db", Mac([2; 6]), &[])]);
        let names = Names::new(&guests, Some(&leases), &neighbours);
        assert_eq!(of(&names, "web", 99).unwrap(), ["fd00::9", "10.0.3.9", "fd00::5"]);
        assert_eq!(of(&names, "web", 100).unwrap(), ["fd00::9", "fd00::5"], "the lease is over");
        assert_eq!(of(&names, "db", 99).unwrap(), [""; 0]);
        assert_eq!(of(&names, "other", 99), None);
        assert_eq!(names.name_of("10.0.3.9".parse().unwrap(), 99), Some("web"));
        assert_eq!(names.name_of("10.0.3.9".parse().unwrap(), 100), None);
    }

    #[test]
    fn an_offer_is_no_address_yet() {
        let mut leases = Leases::default();
        leases.set(Lease { mac: MAC, address: "10.0.3.9".parse().unwrap(), expires: 100, offered: true });
        let names = Names::new(&Guests::from([entry("web", MAC, &[])]), Some(&leases), &Neighbours::default());
        assert_eq!(of(&names, "web", 1).unwrap(), [""; 0]);
    }

    #[test]
    fn the_mac_derived_address_is_stable_and_claims_are_bounded() {
        let mut neighbours = Neighbours::default();
        for n in 0..100u16 {
            assert!(neighbours.learn(MAC, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, n)));
        }
        assert_eq!(neighbours.of(MAC).len(), MAX_ADDRESSES);
        let stable: Ipv6Addr = "fd00::1266:6aff:fe00:1".parse().unwrap();
        assert!(neighbours.learn(MAC, stable) && !neighbours.learn(MAC, stable));
        assert_eq!(neighbours.of(MAC), [stable]);
        neighbours.retain(&Guests::new());
        assert_eq!(neighbours.of(MAC), [Ipv6Addr::UNSPECIFIED; 0]);
    }
}
