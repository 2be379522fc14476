//! An interface as LXC configures it: `lxc.net.N`, or `lxc.network` of LXC 1 and 2.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::config::{Address, Network, NetworkType, is_interface_name};
use crate::container::random;
use crate::error::Result;
use crate::ops::import::foreign::Translated;
use crate::ops::import::table::{Setting, Taken};
use crate::types::Mac;

/// One interface, while its settings are read.
#[derive(Default)]
pub(super) struct LxcInterface {
    kind: String,
    link: String,
    name: Option<String>,
    network: Network,
    gateways: Vec<IpAddr>,
    /// Of an interface that is a VLAN of a link.
    vlan: Option<u16>,
    macvlan_mode: Option<String>,
    /// Why it cannot be had here, if so.
    refused: Option<String>,
}

pub(super) fn kind(interface: &mut LxcInterface, setting: &Setting) -> Taken {
    interface.kind = setting.value.clone();
    Taken::if_so(["veth", "macvlan", "ipvlan", "phys", "vlan", "none", "empty"].contains(&setting.value.as_str()))
}

pub(super) fn link(interface: &mut LxcInterface, setting: &Setting) -> Taken {
    interface.link = setting.value.clone();
    Taken::Over
}

pub(super) fn name(interface: &mut LxcInterface, setting: &Setting) -> Taken {
    interface.name = Some(setting.value.clone());
    Taken::Over
}

pub(super) fn hwaddr(interface: &mut LxcInterface, setting: &Setting) -> Taken {
    let Ok(chance) = random::uuid() else { return Taken::Lost };
    let mut chance = chance.bytes().filter(u8::is_ascii_hexdigit).map(char::from);
    let digit = |(at, c): (usize, char)| match c {
        // Odd, it would be a group's.
        'x' | 'X' if at == 1 => '2',
        'x' | 'X' => chance.next().unwrap_or('0'),
        c => c,
    };
    let text: String = setting.value.chars().enumerate().map(digit).collect();
    match text.parse::<Mac>().ok().filter(|mac| mac.is_unicast()) {
        Some(mac) => interface.network.mac = Some(mac.to_string()),
        None => return Taken::LostFor("it is no MAC address of one interface".to_owned()),
    }
    Taken::Over
}

pub(super) fn mtu(interface: &mut LxcInterface, setting: &Setting) -> Taken {
    interface.network.mtu = setting.value.parse().ok().filter(|mtu| (68..=65_535).contains(mtu));
    Taken::if_so(interface.network.mtu.is_some())
}

/// `10.0.3.7/24 10.0.3.255`: a broadcast address may follow, which the kernel knows by itself.
pub(super) fn ipv4(interface: &mut LxcInterface, setting: &Setting) -> Taken {
    let address = setting.value.split(' ').next().unwrap_or_default();
    let (address, prefix) = address.split_once('/').map_or((address, None), |(at, prefix)| (at, Some(prefix)));
    let Ok(address) = address.parse::<Ipv4Addr>() else { return no_address() };
    let prefix = prefix.map_or(Some(class_prefix(address)), |prefix| prefix.parse().ok());
    first(&mut interface.network.ipv4, address.into(), prefix)
}

/// What LXC takes an address for that is without a prefix (config_ip_prefix).
fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        192..=223 => 24,
        _ => 0,
    }
}

pub(super) fn ipv6(interface: &mut LxcInterface, setting: &Setting) -> Taken {
    let (address, prefix) = setting.value.split_once('/').unwrap_or((&setting.value, "64"));
    let Ok(address) = address.parse::<Ipv6Addr>() else { return no_address() };
    first(&mut interface.network.ipv6, address.into(), prefix.parse().ok())
}

fn no_address() -> Taken {
    Taken::LostFor("it is no address".to_owned())
}

fn first(field: &mut Address, address: IpAddr, prefix: Option<u8>) -> Taken {
    let Some(address) = prefix.and_then(|prefix| IpNetwork::new(address, prefix).ok()) else { return no_address() };
    if matches!(field, Address::Static(_)) {
        return Taken::LostFor("an interface has one address of a family; the guest can add others itself".to_owned());
    }
    *field = Address::Static(address);
    Taken::Over
}

pub(super) fn gateway(interface: &mut LxcInterface, setting: &Setting) -> Taken {
    let gateway: Option<IpAddr> = setting.value.parse().ok();
    interface.gateways.extend(gateway);
    match gateway {
        Some(_) => Taken::Over,
        None => Taken::LostFor("`gateway` is an address".to_owned()),
    }
}

pub(super) fn vlan(interface: &mut LxcInterface, setting: &Setting) -> Taken {
    interface.vlan = vlan_of(setting);
    Taken::if_so(interface.vlan.is_some())
}

fn vlan_of(setting: &Setting) -> Option<u16> {
    setting.value.parse().ok().filter(|vlan| (1..=4094).contains(vlan))
}

pub(super) fn port_vlan(interface: &mut LxcInterface, setting: &Setting) -> Taken {
    if setting.value == "none" {
        interface.refused = Some("its port is in no VLAN".to_owned());
        return Taken::Over;
    }
    interface.network.vlan = vlan_of(setting);
    if interface.network.vlan.is_none() {
        interface.refused = Some(format!("there is no VLAN `{}`", setting.value));
    }
    Taken::Over
}

pub(super) fn veth_mode(interface: &mut LxcInterface, setting: &Setting) -> Taken {
    if setting.value != "bridge" {
        interface.refused = Some(format!("a `veth` is on a bridge, and its mode was `{}`", setting.value));
    }
    Taken::Over
}

pub(super) fn macvlan_mode(interface: &mut LxcInterface, setting: &Setting) -> Taken {
    interface.macvlan_mode = Some(setting.value.clone());
    Taken::Over
}

pub(super) fn ipvlan_mode(_: &mut LxcInterface, setting: &Setting) -> Taken {
    Taken::if_so(setting.value == "l2")
}

pub(super) fn ipvlan_isolation(_: &mut LxcInterface, setting: &Setting) -> Taken {
    Taken::if_so(setting.value == "bridge")
}

pub(super) fn l2proxy(_: &mut LxcInterface, setting: &Setting) -> Taken {
    Taken::if_so(setting.value == "0")
}

impl LxcInterface {
    /// The interface as lxm has it, with notes about it; or why it is left out.
    fn network(mut self, shown: &str, notes: &mut Vec<String>) -> Result<std::result::Result<Network, String>> {
        self.network.kind = match self.kind.as_str() {
            "veth" => NetworkType::Veth,
            "macvlan" => NetworkType::Macvlan,
            "ipvlan" => NetworkType::Ipvlan,
            _ => NetworkType::Physical,
        };
        if let Some(why) = self.refused {
            return Ok(Err(why));
        }
        if self.link.is_empty() {
            let what = if self.network.kind == NetworkType::Veth { "on no bridge" } else { "at no link of the host" };
            return Ok(Err(format!("it was {what}")));
        }
        match (self.kind.as_str(), self.vlan) {
            // Else the host's link itself would become the guest's.
            ("vlan", None) => return Ok(Err("it is of no VLAN".to_owned())),
            ("vlan", vlan) => self.network.vlan = vlan,
            ("veth", _) => {}
            _ => self.network.vlan = None,
        }
        match self.network.kind {
            // LXC's own bridge is to it what the default one is here.
            NetworkType::Veth if self.link == "lxcbr0" => {
                notes.push(format!("`{shown}` was on LXC's own bridge, and is on the default one"));
            }
            NetworkType::Veth => self.network.bridge = Some(self.link),
            _ => self.network.parent = Some(self.link),
        }
        if self.network.kind == NetworkType::Macvlan && self.macvlan_mode.as_deref() != Some("bridge") {
            let mode = self.macvlan_mode.unwrap_or_else(|| "private".to_owned());
            notes.push(format!("`{shown}`: guests on one link reach each other, which LXC's mode `{mode}` prevents"));
        }
        for gateway in self.gateways {
            let address = if gateway.is_ipv4() { self.network.ipv4 } else { self.network.ipv6 };
            match address {
                Address::Static(_) => self.network.gateway.push(gateway),
                _ => {
                    notes.push(format!("not taken over: the gateway {gateway} of `{shown}`, which has no address set"))
                }
            }
        }
        if self.network.mac.is_none() && self.network.kind != NetworkType::Physical {
            self.network.mac = Some(random::mac()?);
        }
        Ok(Ok(self.network))
    }
}

/// Gives the container the interfaces that were read. One without any is as LXC makes it: on no network.
pub(super) fn finish(interfaces: BTreeMap<u32, LxcInterface>, made: &mut Translated) -> Result<()> {
    made.says_network = true;
    let only = |kind: NetworkType| Network { kind, ..Network::default() };
    let is_none = |interface: &LxcInterface| interface.kind == "none";
    // Beside another interface `none` has no effect (lxc_requests_empty_network).
    if !interfaces.is_empty() && interfaces.values().all(is_none) {
        made.config.network.insert("eth0".into(), only(NetworkType::Host));
        return Ok(());
    }
    let was_without = interfaces.is_empty();
    let of_type = ["veth", "macvlan", "ipvlan", "phys", "vlan"];
    let interfaces: Vec<_> = interfaces.into_values().filter(|one| of_type.contains(&one.kind.as_str())).collect();
    let named: BTreeSet<_> = interfaces.iter().filter_map(|interface| interface.name.clone()).collect();
    let mut numbered = (0..).map(|number| format!("eth{number}")).filter(|name| !named.contains(name));
    for interface in interfaces {
        let name = interface.name.clone().or_else(|| numbered.next()).unwrap_or_default();
        let mut notes = Vec::new();
        let network = match interface.network(&name, &mut notes)? {
            _ if !is_interface_name(&name) => Err("an interface cannot have this name".to_owned()),
            _ if made.config.network.contains_key(&name) => Err("there is another one of this name".to_owned()),
            network => network,
        };
        match network {
            Ok(network) => {
                made.notes.append(&mut notes);
                made.config.network.insert(name, network);
            }
            Err(why) => made.notes.push(format!("not taken over: interface `{name}`: {why}")),
        }
    }
    if was_without {
        made.notes.push("it had no network under LXC, and has none here".to_owned());
    }
    if made.config.network.is_empty() {
        made.config.network.insert("eth0".into(), only(NetworkType::None));
    }
    Ok(())
}
