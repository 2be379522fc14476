//! What a guest may use beyond what lxm gives it: addresses that are set in it, and MAC addresses of machines in it
//! (`allow-addresses`, `allow-macs`).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::config::{AllowedAddress, AllowedMac, Network};
use crate::types::Mac;

/// Of one interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Allowance {
    /// None is in another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNetwork>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<Mac>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub any_address: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub any_mac: bool,
}

impl Allowance {
    pub(super) fn of(network: &Network) -> Self {
        let mut wide: Vec<IpNetwork> = network.allow_addresses.iter().filter_map(net_of).collect();
        // The widest first; the kernel refuses a network that is in another of its set.
        wide.sort_by_key(|net| (net.prefix(), net.ip()));
        let mut addresses: Vec<IpNetwork> = Vec::new();
        for net in wide {
            if !addresses.iter().any(|other| other.contains(net.ip())) {
                addresses.push(net);
            }
        }
        let mac = |allowed: &AllowedMac| match allowed {
            AllowedMac::Any => None,
            AllowedMac::Of(mac) => Some(*mac),
        };
        let mut macs: Vec<Mac> = network.allow_macs.iter().filter_map(mac).collect();
        macs.sort();
        macs.dedup();
        let any_mac = network.allow_macs.contains(&AllowedMac::Any);
        Allowance {
            addresses,
            macs,
            any_mac,
            any_address: any_mac || network.allow_addresses.contains(&AllowedAddress::Any),
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        *self == Allowance::default()
    }

    /// Whether the guest may use the address by its setting.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.any_address || self.addresses.iter().any(|net| net.contains(address))
    }
}

fn net_of(allowed: &AllowedAddress) -> Option<IpNetwork> {
    match allowed {
        AllowedAddress::Any => None,
        AllowedAddress::Of(net) => Some(*net),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_in_another_is_not_allowed_twice() {
        let of = |text: &str| Allowance::of(&toml::from_str(text).unwrap());
        let some = of("allow-addresses = [\"10.0.4.9\", \"10.0.4.0/24\", \"10.0.5.1\", \"10.0.5.1\", \"fd00::/64\"]");
        let written: Vec<String> = some.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(written, ["10.0.4.0/24", "10.0.5.1/32", "fd00::/64"]);
        assert!(some.has("10.0.4.200".parse().unwrap()) && !some.has("10.0.6.1".parse().unwrap()));
        assert!(!some.any_address && !some.is_none() && of("").is_none());
        let any = of("allow-macs = [\"any\"]");
        assert!(any.any_mac && any.any_address && any.has("192.0.2.1".parse().unwrap()));
    }
}
