//! What a container's `[network]` asks for, checked before the first change to the kernel.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::allow::Allowance;
use super::names;
use crate::config::{Address, Config, Network, NetworkType, PublishedPort, is_interface_name, is_link_name};
use crate::error::{Context, Error, Result};
use crate::types::{ContainerName, Mac, Rate};

/// One interface of the guest, as it will be made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlannedInterface {
    /// Its name in the guest.
    pub guest: String,
    pub kind: LinkKind,
    pub mac: Mac,
    pub mtu: Option<u32>,
    pub vlan: Option<u16>,
    /// Set before init runs.
    pub addresses: Vec<IpNetwork>,
    pub gateways: Vec<IpAddr>,
    /// The guest is to have no IPv6 on it at all, not even a link-local address.
    pub without_ipv6: bool,
    pub publish: Vec<PublishedPort>,
    pub isolated: bool,
    pub allowance: Allowance,
    pub ingress: Option<Rate>,
    pub egress: Option<Rate>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkKind {
    Veth {
        bridge: String,
    },
    Macvlan {
        parent: String,
    },
    Ipvlan {
        parent: String,
    },
    /// A VLAN of a link that stays the host's.
    Vlan {
        parent: String,
        vlan: u16,
    },
    Physical {
        parent: String,
    },
}

/// The guest's interfaces in order of their names; empty where it has loopback alone.
pub(super) fn interfaces(name: &ContainerName, config: &Config, default_bridge: &str) -> Result<Vec<PlannedInterface>> {
    let mut interfaces = Vec::new();
    for (guest, network) in &config.network {
        let step = || format!("network.{guest}");
        if !is_interface_name(guest) {
            return Err(Error::config(format!("network.{guest}: an interface cannot have this name")));
        }
        match network.kind {
            NetworkType::None => {}
            NetworkType::Host => {
                if config.network.len() > 1 {
                    let message =
                        format!("network.{guest}: `host` shares the host's links, so it is the only interface");
                    return Err(Error::config(message));
                }
            }
            _ => interfaces.push(interface(name, config, guest, network, default_bridge).context(step)?),
        }
    }
    Ok(interfaces)
}

fn interface(
    name: &ContainerName,
    config: &Config,
    guest: &str,
    network: &Network,
    default_bridge: &str,
) -> Result<PlannedInterface> {
    let parent = || parent(guest, network);
    let kind = match network.kind {
        NetworkType::Veth => LinkKind::Veth {
            bridge: checked_link_name(network.bridge.clone().unwrap_or_else(|| default_bridge.to_owned()))?,
        },
        NetworkType::Macvlan => LinkKind::Macvlan { parent: parent()? },
        NetworkType::Ipvlan => LinkKind::Ipvlan { parent: parent()? },
        NetworkType::Physical => match network.vlan {
            Some(vlan) => LinkKind::Vlan { parent: parent()?, vlan },
            None => LinkKind::Physical { parent: parent()? },
        },
        NetworkType::None | NetworkType::Host => unreachable!("the caller makes no interface of these"),
    };
    if !matches!(kind, LinkKind::Veth { .. }) {
        refuse_keys_of_veth(network)?;
    }
    if let Some(vlan) = network.vlan
        && !(1..=4094).contains(&vlan)
    {
        return Err(Error::config(format!("`vlan` {vlan} is out of range: 1 to 4094")));
    }
    if let Some(mtu) = network.mtu
        && !(68..=65_535).contains(&mtu)
    {
        return Err(Error::config(format!("`mtu` {mtu} is out of range: 68 to 65535, and at least 1280 for IPv6")));
    }
    let mac = mac_of(name, config, guest, network)?;
    Ok(PlannedInterface {
        guest: guest.to_owned(),
        kind,
        mac,
        mtu: network.mtu,
        vlan: network.vlan,
        addresses: static_addresses(network)?,
        gateways: network.gateway.clone(),
        without_ipv6: network.ipv6 == Address::None,
        publish: network.publish.clone(),
        isolated: network.isolated,
        allowance: Allowance::of(network),
        ingress: network.ingress.as_deref().map(str::parse).transpose()?,
        egress: network.egress.as_deref().map(str::parse).transpose()?,
    })
}

/// What is done at the host's end needs one.
fn refuse_keys_of_veth(network: &Network) -> Result<()> {
    let only_on_veth = [
        ("publish", !network.publish.is_empty()),
        ("isolated", network.isolated),
        ("allow-addresses", !network.allow_addresses.is_empty()),
        ("allow-macs", !network.allow_macs.is_empty()),
        ("ingress", network.ingress.is_some()),
        ("egress", network.egress.is_some()),
    ];
    match only_on_veth.iter().find(|(_, set)| *set) {
        Some((key, _)) => Err(Error::config(format!("`{key}` needs `type = \"veth\"`"))),
        None => Ok(()),
    }
}

/// The link of the host that an interface is made on.
fn parent(guest: &str, network: &Network) -> Result<String> {
    let name = network.parent.clone().ok_or_else(|| {
        let kind = match network.kind {
            NetworkType::Macvlan => "macvlan",
            NetworkType::Ipvlan => "ipvlan",
            _ => "physical",
        };
        Error::config("`parent` is not set: which link of the host?")
            .hint(format!("set both in one command: `network.{guest}.type {kind} network.{guest}.parent eno1`"))
    })?;
    checked_link_name(name)
}

/// The MAC address of an interface: the one that is set, else one made of the container's uuid.
pub(crate) fn mac_of(name: &ContainerName, config: &Config, guest: &str, network: &Network) -> Result<Mac> {
    match &network.mac {
        Some(text) => text.parse::<Mac>().ok().filter(|mac| mac.is_unicast()).ok_or_else(|| {
            Error::config(format!("`{text}` is not a unicast MAC address"))
                .hint("write for example `02:6c:78:00:00:01`")
        }),
        None if config.uuid.is_empty() => Ok(names::derived_mac(&[name.as_str(), guest])),
        None => Ok(names::derived_mac(&[&config.uuid, guest])),
    }
}

fn static_addresses(network: &Network) -> Result<Vec<IpNetwork>> {
    let mut addresses = Vec::new();
    for (key, address, six) in [("ipv4", &network.ipv4, false), ("ipv6", &network.ipv6, true)] {
        let given = match address {
            Address::Static(given) => Some(given.ip()),
            Address::Reserved(given) => Some(*given),
            Address::None | Address::Dhcp | Address::Auto => None,
        };
        if given.is_some_and(|given| given.is_ipv6() != six) {
            return Err(Error::config(format!("{key} = \"{address}\" is an address of the other family")));
        }
        if let Address::Reserved(IpAddr::V6(address)) = address {
            return Err(Error::config(format!(
                "ipv6 = \"{address}\" has no prefix length, and leases are of IPv4 alone"
            ))
            .hint(format!("`{address}/64` is set before the guest boots")));
        }
        if let Address::Static(network) = address {
            addresses.push(*network);
        }
    }
    Ok(addresses)
}

fn checked_link_name(name: String) -> Result<String> {
    if is_link_name(&name) {
        Ok(name)
    } else {
        Err(Error::config(format!("`{}` is not the name of a link", name.escape_default())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<Vec<PlannedInterface>> {
        let config: Config = toml::from_str(text).expect("a configuration");
        interfaces(&"web".parse().unwrap(), &config, "lxmbr0")
    }

    #[test]
    fn an_empty_interface_is_a_veth_on_the_default_bridge() {
        let made = plan("uuid = \"u\"\n[network.eth0]\n").unwrap();
        assert_eq!(made[0].kind, LinkKind::Veth { bridge: "lxmbr0".into() });
        assert_eq!(made[0].mac, names::derived_mac(&["u", "eth0"]));
        assert!(made[0].addresses.is_empty() && !made[0].without_ipv6);
    }

    #[test]
    fn none_and_host_make_no_interface() {
        for kind in ["none", "host"] {
            assert!(plan(&format!("[network.eth0]\ntype = \"{kind}\"")).unwrap().is_empty());
        }
        assert!(plan("").unwrap().is_empty());
    }

    #[test]
    fn of_a_physical_link_in_a_vlan_only_the_vlan_is_the_guests() {
        let made = plan("[network.eth0]\ntype = \"physical\"\nparent = \"lan0\"\nvlan = 7").unwrap();
        assert_eq!(made[0].kind, LinkKind::Vlan { parent: "lan0".into(), vlan: 7 });
    }

    #[test]
    fn what_cannot_work_is_refused_before_anything_is_made() {
        for (keys, says) in [
            ("type = \"macvlan\"", "`parent` is not set"),
            ("type = \"macvlan\"\nparent = \"eth0\"\npublish = [\"80:80\"]", "`publish`"),
            ("type = \"physical\"\nparent = \"eth0\"\negress = \"1Mbit\"", "`egress`"),
            ("type = \"macvlan\"\nparent = \"eth0\"\nallow-macs = [\"any\"]", "`allow-macs`"),
            ("bridge = \"a/b\"", "not the name of a link"),
            ("vlan = 4095", "`vlan` 4095"),
            ("mtu = 20", "`mtu` 20"),
            ("mac = \"ff:ff:ff:ff:ff:ff\"", "not a unicast MAC"),
            ("ipv4 = \"fd00::1/64\"", "other family"),
            ("ipv6 = \"10.0.0.1\"", "other family"),
            ("ingress = \"100\"", "not a rate"),
        ] {
            let e = plan(&format!("[network.eth0]\n{keys}")).unwrap_err();
            assert!(e.to_string().contains(says) && e.to_string().starts_with("network.eth0: "), "{keys}: {e}");
            assert_eq!(e.kind().exit_status(), 6, "{keys}");
        }
        assert!(plan("[network.eth0]\ntype = \"host\"\n[network.eth1]\n").is_err());
        assert!(plan("[network.lo]\n").is_err());
    }
}
