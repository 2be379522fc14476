//! Which addresses are whose.

use std::net::{IpAddr, Ipv6Addr};

use crate::config::bridge::BridgeSettings;
use crate::netserver::GuestEntry;
use crate::types::Mac;

/// An address, and the MAC address that alone may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holding {
    pub mac: Mac,
    pub address: IpAddr,
}

/// What a guest on a bridge of lxm's has from its start to its end, besides leases: the addresses that lxm
/// sets, and those that its kernel makes of the hardware address that lxm chose (RFC 4291, appendix A), which
/// others can know beforehand.
pub(crate) fn holdings(settings: &BridgeSettings, guest: &GuestEntry) -> Vec<Holding> {
    let link_local = guest.mac.link_local();
    let identifier = u128::from(link_local) & u128::from(u64::MAX);
    let made = settings.ipv6.map(|net| Ipv6Addr::from(u128::from(prefix_of(net.network())) << 64 | identifier));
    let six = [Some(link_local), made].into_iter().flatten().map(IpAddr::V6);
    let all = guest.addresses.iter().copied().chain(six);
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
            reserved: None,
            addresses: vec!["10.0.3.9".parse().unwrap()],
        };
        let held: Vec<String> = holdings(&settings, &guest).iter().map(|held| held.address.to_string()).collect();
        assert_eq!(held, ["10.0.3.9", "fe80::1266:6aff:fe00:1", "fd00:1::1266:6aff:fe00:1"]);
    }
}
