//! What a running server knows, shared by the parts that answer from it.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::dhcp4::Dhcp4;
use super::guests::Guests;
use super::lease::Time;
use super::names::{Names, Neighbours};
use super::status::{GuestStatus, ServerStatus};
use crate::types::Mac;

#[derive(Debug, Default)]
pub(super) struct ServerState {
    pub guests: Guests,
    /// `None` on a bridge without IPv4.
    pub dhcp: Option<Dhcp4>,
    pub neighbours: Neighbours,
    pub names: Names,
    /// Why names are not served, where they are not.
    pub names_fault: Option<String>,
}

impl ServerState {
    /// Makes the names anew, after guests, leases or neighbours changed.
    pub(super) fn rename(&mut self) {
        self.names = Names::new(&self.guests, self.dhcp.as_ref().map(|dhcp| &dhcp.leases), &self.neighbours);
    }

    /// The MAC address behind an address of the bridge's network: by lease or configuration, or as it was
    /// seen on the link.
    pub(super) fn mac_of(&self, address: IpAddr) -> Option<Mac> {
        let set = |guest: &&super::GuestEntry| {
            guest.addresses.contains(&address) || guest.allowed.iter().any(|net| net.contains(address))
        };
        let has = match address {
            IpAddr::V4(leased) => self.dhcp.as_ref().and_then(|dhcp| dhcp.leases.holder(leased)).map(|lease| lease.mac),
            // The rules of the bridge keep an address that is made of a guest's MAC for that guest.
            IpAddr::V6(claimed) => {
                let made = Mac::of_address(claimed).filter(|mac| self.guests.contains_key(mac));
                made.or_else(|| self.neighbours.mac_of(claimed))
            }
        };
        has.or_else(|| self.guests.values().find(set).map(|guest| guest.mac))
    }

    pub(super) fn status(&self, now: Time) -> ServerStatus {
        let guest = |guest: &super::GuestEntry| {
            let lease = self.dhcp.as_ref().and_then(|dhcp| dhcp.leases.get(guest.mac));
            let lease = lease.filter(|lease| lease.is_bound(now));
            let addresses = self.names.addresses(guest.name.as_str(), now).into_iter().flatten().collect();
            GuestStatus {
                name: guest.name.clone(),
                mac: guest.mac,
                leased: lease.map(|lease| lease.address),
                expires: lease.map(|lease| lease.expires),
                addresses,
            }
        };
        let mut guests: Vec<GuestStatus> = self.guests.values().map(guest).collect();
        guests.sort_by(|a, b| (&a.name, a.mac).cmp(&(&b.name, b.mac)));
        ServerStatus {
            names_fault: self.names_fault.clone(),
            pool_size: self.dhcp.as_ref().map_or(0, Dhcp4::pool_size),
            leased: self.dhcp.as_ref().map_or(0, |dhcp| dhcp.leases.iter().filter(|l| l.is_bound(now)).count()),
            exhausted: self.dhcp.as_ref().and_then(|dhcp| dhcp.exhausted().map(str::to_owned)),
            guests,
        }
    }
}

/// The time that leases are counted in.
pub(super) fn now() -> Time {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}
