//! Which MAC has which address until when. In memory; `journal` keeps it.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use crate::types::Mac;

/// Seconds since 1970: leases outlive the host's reboot.
pub(super) type Time = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub mac: Mac,
    pub address: Ipv4Addr,
    pub expires: Time,
    /// Offered and not yet taken: not kept, and not answered for by name.
    pub offered: bool,
}

impl Lease {
    /// Whether the client may use the address now.
    pub(super) fn is_bound(&self, now: Time) -> bool {
        !self.offered && self.expires > now
    }
}

/// All leases. One that has ended stays, so that its client gets the same address again, until the
/// address is needed for another.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_mac: HashMap<Mac, Lease>,
    by_address: HashMap<Ipv4Addr, Mac>,
    by_end: BTreeSet<(Time, Ipv4Addr)>,
    /// Clients whose lease the journal does not know yet as it is.
    changed: Vec<Mac>,
}

impl Leases {
    pub(super) fn get(&self, mac: Mac) -> Option<&Lease> {
        self.by_mac.get(&mac)
    }

    /// The lease of an address, ended or not.
    pub(super) fn holder(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.by_address.get(&address).and_then(|mac| self.by_mac.get(mac))
    }

    /// How many addresses have a lease, ended ones included.
    pub(super) fn len(&self) -> usize {
        self.by_mac.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_mac.values()
    }

    /// The leases that have ended, the longest ended first.
    pub(super) fn ended(&self, now: Time) -> impl Iterator<Item = &Lease> {
        self.by_end.iter().take_while(move |(end, _)| *end <= now).filter_map(|(_, address)| self.holder(*address))
    }

    /// The offers that are not taken yet, the oldest first.
    pub(super) fn offers(&self) -> impl Iterator<Item = &Lease> {
        self.by_end.iter().filter_map(|(_, address)| self.holder(*address)).filter(|lease| lease.offered)
    }

    /// Sets a client's lease, taking the address from its earlier holder.
    pub(super) fn set(&mut self, lease: Lease) {
        if let Some(loser) = self.by_address.get(&lease.address).copied().filter(|mac| *mac != lease.mac) {
            self.remove(loser);
        }
        let had = self.detach(lease.mac);
        self.by_address.insert(lease.address, lease.mac);
        self.by_end.insert((lease.expires, lease.address));
        self.by_mac.insert(lease.mac, lease);
        if !lease.offered || had.is_some_and(|had| !had.offered) {
            self.changed.push(lease.mac);
        }
    }

    /// Ends a client's lease now; it is remembered.
    pub(super) fn end(&mut self, mac: Mac, now: Time) {
        if let Some(lease) = self.by_mac.get(&mac).copied().filter(|lease| lease.expires > now) {
            self.set(Lease { expires: now, ..lease });
        }
    }

    /// Forgets a client's lease.
    pub(super) fn remove(&mut self, mac: Mac) {
        if self.detach(mac).is_some_and(|lease| !lease.offered) {
            self.changed.push(mac);
        }
    }

    fn detach(&mut self, mac: Mac) -> Option<Lease> {
        let lease = self.by_mac.remove(&mac)?;
        self.by_address.remove(&lease.address);
        self.by_end.remove(&(lease.expires, lease.address));
        Some(lease)
    }

    /// The clients whose lease changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<Mac> {
        std::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 1);
    const TWO: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 2);

    fn bound(mac: Mac, address: Ipv4Addr, expires: Time) -> Lease {
        Lease { mac, address, expires, offered: false }
    }

    #[test]
    fn an_address_has_one_holder_and_a_client_one_address() {
        let mut leases = Leases::default();
        leases.set(bound(A, ONE, 10));
        leases.set(bound(A, TWO, 20));
        assert_eq!((leases.len(), leases.holder(ONE)), (1, None));
        leases.set(bound(B, TWO, 30));
        assert_eq!((leases.len(), leases.get(A)), (1, None));
        assert_eq!(leases.take_changed(), [A, A, A, B]);
    }

    #[test]
    fn an_ended_lease_is_remembered_and_first_to_be_taken() {
        let mut leases = Leases::default();
        leases.set(bound(A, ONE, 100));
        leases.set(bound(B, TWO, 50));
        leases.end(A, 7);
        assert!(!leases.get(A).unwrap().is_bound(7));
        assert_eq!(leases.ended(7).map(|lease| lease.mac).collect::<Vec<_>>(), [A]);
        leases.end(A, 9);
        assert_eq!(leases.get(A).unwrap().expires, 7);
    }

    #[test]
    fn an_offer_is_not_kept_but_what_it_replaces_is_reported() {
        let mut leases = Leases::default();
        let offer = |address| Lease { mac: A, address, expires: 60, offered: true };
        leases.set(offer(ONE));
        assert_eq!(leases.take_changed(), []);
        leases.set(bound(A, ONE, 100));
        leases.set(offer(TWO));
        assert_eq!(leases.take_changed(), [A, A]);
        assert_eq!(leases.offers().map(|lease| lease.address).collect::<Vec<_>>(), [TWO]);
    }
}
