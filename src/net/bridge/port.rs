//! A bridge as a guest's port finds it.

use ipnetwork::IpNetwork;

use crate::config::bridge::BridgeSettings;
use crate::net::groups::{self, GROUP_ISOLATED};
use crate::net::plan::PlannedInterface;

/// A bridge that is ready for a guest's port.
#[derive(Debug, Clone)]
pub(crate) struct Bridge {
    pub index: u32,
    pub mtu: u32,
    /// That of its ports, without what it says of each (`groups::of_owner`).
    pub(super) group: u32,
    /// Set where lxm made it, and serves leases and names on it.
    pub settings: Option<BridgeSettings>,
}

impl Bridge {
    /// The group that tells the bridge's rules what this guest's port may do.
    pub(in crate::net) fn group(&self, interface: &PlannedInterface) -> u32 {
        let isolated = if interface.isolated { GROUP_ISOLATED } else { 0 };
        groups::checked(self.group | isolated, self.settings.is_some() && !interface.allowance.any_address)
    }

    /// A static address in the bridge's own network has the bridge as gateway, unless another one is set.
    pub(in crate::net) fn complete_gateways(&self, interface: &mut PlannedInterface) {
        let Some(settings) = &self.settings else { return };
        let ipv4 = settings.ipv4.map(IpNetwork::V4);
        let ipv6 = settings.ipv6.map(IpNetwork::V6);
        for own in ipv4.into_iter().chain(ipv6) {
            let inside = interface.addresses.iter().any(|address| own.contains(address.ip()));
            let told = interface.gateways.iter().any(|gateway| gateway.is_ipv4() == own.is_ipv4());
            if inside && !told {
                interface.gateways.push(own.ip());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::owner::DEFAULT_BRIDGE;

    #[test]
    fn a_static_address_of_the_bridge_s_network_goes_by_the_bridge() {
        let settings: BridgeSettings = toml::from_str("ipv4 = \"10.9.8.1/24\"\nipv6 = \"fd00::1/64\"").unwrap();
        let bridge = Bridge { index: 1, mtu: 1500, group: groups::of_owner("lxm"), settings: Some(settings) };
        let gateways = |keys: &str| {
            let config = toml::from_str(&format!("[network.eth0]\n{keys}")).unwrap();
            let mut interface =
                crate::net::plan::interfaces(&"a".parse().unwrap(), &config, DEFAULT_BRIDGE).unwrap().remove(0);
            bridge.complete_gateways(&mut interface);
            interface.gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(gateways("ipv4 = \"10.9.8.7/24\"\nipv6 = \"fd00::7/64\""), "10.9.8.1 fd00::1");
        assert_eq!(gateways("ipv4 = \"10.9.8.7/24\"\ngateway = [\"10.9.8.9\"]"), "10.9.8.9");
        assert_eq!(gateways("ipv4 = \"10.1.1.7/24\""), "");
        assert_eq!(gateways(""), "");
    }
}
