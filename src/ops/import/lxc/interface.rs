//! An interface as LXC configures it.

use super::keys::set;
use crate::config::{Address, Network, NetworkType};
use crate::container::random;
use crate::error::Result;
use crate::types::Mac;

/// `lxc.net.N`, or `lxc.network` of LXC 1 and 2.
#[derive(Default)]
pub(super) struct LxcInterface {
    pub name: Option<String>,
    kind: String,
    link: String,
    network: Network,
}

impl LxcInterface {
    /// Takes over a setting; returns whether it could.
    pub(super) fn set(&mut self, setting: &str, value: &str) -> bool {
        match setting {
            "type" => self.kind = value.to_owned(),
            "link" => self.link = value.to_owned(),
            "name" => self.name = Some(value.to_owned()),
            // `xx` stands for digits that LXC chooses.
            "hwaddr" => match value.to_ascii_lowercase().parse::<Mac>() {
                Ok(mac) if mac.is_unicast() => self.network.mac = Some(mac.to_string()),
                _ => return value.contains("xx"),
            },
            "mtu" => return set(&mut self.network.mtu, value.parse().ok().map(Some)),
            "vlan.id" => return set(&mut self.network.vlan, value.parse().ok().map(Some)),
            "ipv4.address" | "ipv6.address" => {
                // A broadcast address may follow. Without a prefix it is not known what is near.
                let address = value.split_whitespace().next().unwrap_or_default();
                let Ok(address @ Address::Static(_)) = address.parse() else { return false };
                let field = if setting.starts_with("ipv4") { &mut self.network.ipv4 } else { &mut self.network.ipv6 };
                if matches!(field, Address::Static(_)) {
                    return false;
                }
                *field = address;
            }
            "ipv4.gateway" | "ipv6.gateway" => match value.parse() {
                Ok(gateway) => self.network.gateway.push(gateway),
                Err(_) => return false,
            },
            "flags" | "veth.pair" | "veth.mode" | "macvlan.mode" => {}
            _ => return false,
        }
        true
    }

    pub(super) fn network(mut self, notes: &mut Vec<String>) -> Result<Network> {
        self.network.kind = match self.kind.as_str() {
            "veth" => NetworkType::Veth,
            "macvlan" => NetworkType::Macvlan,
            "ipvlan" => NetworkType::Ipvlan,
            "phys" => NetworkType::Physical,
            "none" => NetworkType::Host,
            _ => NetworkType::None,
        };
        match self.network.kind {
            // LXC's own bridge is to it what the default one is here.
            NetworkType::Veth if self.link == "lxcbr0" => {
                notes.push("it was on LXC's own bridge, and is on the default one".to_owned());
            }
            NetworkType::Veth => self.network.bridge = Some(self.link),
            NetworkType::Macvlan | NetworkType::Ipvlan | NetworkType::Physical => self.network.parent = Some(self.link),
            NetworkType::Host | NetworkType::None => {
                return Ok(Network { kind: self.network.kind, ..Network::default() });
            }
        }
        if self.network.mac.is_none() && self.network.kind != NetworkType::Physical {
            self.network.mac = Some(random::mac()?);
        }
        Ok(self.network)
    }
}
