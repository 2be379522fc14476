//! Which address a client is offered.

use std::net::Ipv4Addr;

use super::{Dhcp4, Lease, Mac, Time};

impl Dhcp4 {
    /// Picks the address to offer: the reserved one, the one it has or had, the one it asks for, else one
    /// that was never leased, else the one whose lease ended longest ago.
    pub(super) fn choose(&mut self, mac: Mac, requested: Option<Ipv4Addr>, now: Time) -> Option<Ipv4Addr> {
        let reserved = self.reserved_for(mac);
        if let Some(address) = reserved.filter(|address| !self.is_usable(mac, *address, now)) {
            self.notes.push(format!("{address}, reserved for {}, is in use by another machine", self.who(mac)));
        }
        let leased = self.leases.get(mac).map(|lease| lease.address);
        let asked = requested.filter(|address| self.leases.holder(*address).is_none());
        let known = [reserved, leased, asked].into_iter().flatten().find(|a| self.is_usable(mac, *a, now));
        let chosen = known.or_else(|| self.unused(mac, now)).or_else(|| self.reclaimed(mac, now));
        if chosen.is_none() {
            self.note_exhaustion(mac);
        } else if known.is_none() {
            self.exhausted = None;
        }
        chosen
    }

    /// An address that was never leased; the first try follows from the MAC, so that even a server that lost
    /// its leases gives the same one again.
    fn unused(&self, mac: Mac, now: Time) -> Option<Ipv4Addr> {
        let size = u64::from(self.pool_size());
        // FNV-1a, which stays the same whatever the program is built with.
        let hash =
            mac.0.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
        let start = (hash ^ (hash >> 32)) % size;
        let nth = |n: u64| Ipv4Addr::from(self.first + ((start + n) % size) as u32);
        let full = self.leases.len() as u64 > 2 * size;
        let mut candidates = (0..if full { 0 } else { size }).map(nth);
        candidates.find(|address| self.leases.holder(*address).is_none() && self.is_possible(mac, *address, now))
    }

    fn reclaimed(&self, mac: Mac, now: Time) -> Option<Ipv4Addr> {
        let is_unknown = |lease: &&Lease| !self.guests.contains_key(&lease.mac);
        let possible = |lease: &&Lease| self.is_possible(mac, lease.address, now);
        let ended = self.leases.ended(now).filter(is_unknown).find(possible);
        // A running guest comes before unknown clients that have not taken their offer.
        let ours = self.guests.contains_key(&mac);
        let offered = || self.leases.offers().filter(|_| ours).filter(is_unknown).find(possible);
        ended.or_else(offered).map(|lease| lease.address)
    }

    fn note_exhaustion(&mut self, mac: Mac) {
        let (first, last) = (Ipv4Addr::from(self.first), Ipv4Addr::from(self.last));
        let text = format!(
            "no free address on `{}` for {}: all from {first} to {last} are taken; stop a container or give the bridge a larger range",
            self.bridge,
            self.who(mac)
        );
        self.exhausted = Some(text.clone());
        self.notes.push(text);
    }
}
