//! Which addresses are whose.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::config::bridge::BridgeSettings;
use crate::netserver::GuestEntry;
use crate::types::Mac;

/// An address, and the MAC address that alone may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holding {
    pub mac: Mac,
    pub address: IpAddr,
}

/// A network whose addresses a MAC address may use, and others as well: by a setting, and not by lxm's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Permit {
    pub mac: Mac,
    pub net: IpNetwork,
}

impl Permit {
    /// The address, where one IPv6 address is allowed and not a network: others cannot claim it by themselves.
    pub(super) fn single6(&self) -> Option<Ipv6Addr> {
        match self.net {
            IpNetwork::V6(net) if net.prefix() == 128 => Some(net.ip()),
            _ => None,
        }
    }
}

/// What a guest may use by its settings.
pub(crate) fn permits(guest: &GuestEntry) -> Vec<Permit> {
    let macs = || std::iter::once(guest.mac).chain(guest.allowed_macs.iter().copied());
    guest.allowed.iter().flat_map(|net| macs().map(|mac| Permit { mac, net: *net })).collect()
}

/// What a guest on a bridge of lxm's has from its start to its end, besides leases: the addresses that lxm
/// sets or is to lease to it alone, and those that its kernel makes of the hardware address that lxm chose (RFC 4291, appendix A), which
/// others can know beforehand.
pub(crate) fn holdings(settings: &BridgeSettings, guest: &GuestEntry) -> Vec<Holding> {
    let link_local = guest.mac.link_local();
    let identifier = u128::from(link_local) & u128::from(u64::MAX);
    let made = settings.ipv6.map(|net| Ipv6Addr::from(u128::from(prefix_of(net.network())) << 64 | identifier));
    let six = [Some(link_local), made].into_iter().flatten().map(IpAddr::V6);
    let all = guest.addresses.iter().copied().chain(guest.reserved.map(IpAddr::V4)).chain(six);
    all.map(|address| Holding { mac: guest.mac, address }).collect()
}

/// The upper half of an address, which is its network: a /64.
pub(super) fn prefix_of(address: Ipv6Addr) -> u64 {
    (u128::from(address) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_the_addresses_that_lxm_gives_from_its_start() {
        let settings: BridgeSettings = toml::from_str("ipv6 = \"fd00:1::1/64\"").unwrap();
        let guest = GuestEntry {
            name: "web".parse().unwrap(),
            mac: Mac([0x10, 0x66, 0x6a, 0, 0, 1]),
            reserved: Some("10.0.3.10".parse().unwrap()),
            addresses: vec!["10.0.3.9".parse().unwrap()],
            allowed: vec!["10.0.4.0/24".parse().unwrap(), "fd00:2::7".parse().unwrap()],
            allowed_macs: vec![Mac([0, 0, 0x5e, 0, 1, 10])],
        };
        let held: Vec<String> = holdings(&settings, &guest).iter().map(|held| held.address.to_string()).collect();
        assert_eq!(permits(&guest).len(), 4);
        assert_eq!(held, ["10.0.3.9", "10.0.3.10", "fe80::1266:6aff:fe00:1", "fd00:1::1266:6aff:fe00:1"]);
    }
}
