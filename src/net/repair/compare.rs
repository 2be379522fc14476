//! What of a bridge and its ports is not as settings and records say.

use std::collections::HashMap;
use std::fmt;

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use rtnetlink::Handle;
use rtnetlink::packet_route::link::{InfoBridgePort, InfoPortData, LinkAttribute, LinkInfo, LinkMessage};

use crate::config::bridge::{BridgeSettings, NetworkFile};
use crate::error::{Context, Result};
use crate::net::allow::Allowance;
use crate::net::bridge::link::{addresses, is_bridge, is_up, mac, mtu, mtu_of, networks, usable};
use crate::net::netlink::{Netlink, link_by_name, name_of};
use crate::net::record::{GuestRecord, LinkRecord};
use crate::store::Layout;
use crate::types::Mac;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkFault {
    /// Guests run that were on it.
    Gone(usize),
    NotABridge,
    Down,
    Mtu {
        is: u32,
        wanted: u32,
    },
    HardwareAddress(Mac),
    Address(IpNetwork),
    Port(Port, PortFault),
}

/// The host's end of a guest's interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// The container.
    pub name: String,
    /// The interface in it.
    pub guest: String,
    pub link: String,
    pub mac: Mac,
    pub vlan: Option<u16>,
    pub group: Option<u32>,
    pub allowance: Allowance,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortFault {
    /// With it went the guest's end.
    Gone,
    NotOnTheBridge,
    Down,
    Mtu(u32),
    /// Frames of any MAC address pass.
    Unlocked,
    /// The rules of the firewall do not know it for a guest's.
    Group,
}

impl LinkFault {
    /// The command that helps.
    pub(crate) fn remedy(&self, bridge: &str) -> String {
        match self {
            LinkFault::Port(port, PortFault::Gone) => format!("lxm restart {}", port.name),
            LinkFault::NotABridge => format!("ip link delete {bridge}; lxm network up {bridge}"),
            _ => format!("lxm network up {bridge}"),
        }
    }
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkFault::Gone(1) => write!(f, "it is gone, and a container is on it"),
            LinkFault::Gone(guests) => write!(f, "it is gone, and {guests} interfaces of containers are on it"),
            LinkFault::NotABridge => write!(f, "the link of this name is not a bridge"),
            LinkFault::Down => write!(f, "it is down"),
            LinkFault::Mtu { is, wanted } => write!(f, "its MTU is {is} instead of {wanted}"),
            LinkFault::HardwareAddress(wanted) => write!(f, "its hardware address is not {wanted}"),
            LinkFault::Address(net) => write!(f, "it does not have its address {net}"),
            LinkFault::Port(port, fault) => {
                write!(f, "the other end of {} of container `{}` (`{}`) ", port.guest, port.name, port.link)?;
                match fault {
                    PortFault::Gone => write!(f, "is gone, and with it the interface"),
                    PortFault::NotOnTheBridge => write!(f, "is not on it"),
                    PortFault::Down => write!(f, "is down"),
                    PortFault::Mtu(is) => write!(f, "has the MTU {is}, less than the bridge"),
                    PortFault::Unlocked => write!(f, "is not locked to the container's MAC address"),
                    PortFault::Group => write!(f, "is not in the group that the rules of the firewall look for"),
                }
            }
        }
    }
}

/// The ports of all running guests on a bridge, as they were made.
pub(super) fn ports(layout: &Layout, bridge: &str) -> Vec<Port> {
    let on_it = |link: &LinkRecord| link.bridge.as_deref() == Some(bridge);
    let of = |(dir, record): (std::path::PathBuf, GuestRecord)| -> Vec<Port> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let links = record.links.into_iter().filter(on_it);
        let port = |link: LinkRecord| {
            let (guest, mac, vlan, group) = (link.guest, link.mac, link.vlan, link.group);
            Some(Port { name: name.clone(), guest, link: link.host?, mac, vlan, group, allowance: link.allowance })
        };
        links.filter_map(port).collect()
    };
    GuestRecord::of_all_directories(layout).into_iter().flat_map(of).collect()
}

/// Whether guests run that are on a bridge, or were before it went.
pub(crate) fn has_guests(layout: &Layout, bridge: &str) -> bool {
    !ports(layout, bridge).is_empty()
}

/// Whether a bridge of lxm's is to have IPv6 and can.
pub(crate) fn has_ipv6(layout: &Layout, bridge: &str) -> Result<bool> {
    let settings = NetworkFile::load(layout)?.bridge.remove(bridge);
    Ok(settings.is_some_and(|settings| settings.dhcp && usable(bridge, settings).ipv6.is_some()))
}

/// What is wrong with a bridge of these settings and its ports; nothing where it is down and nobody is on it.
pub(crate) fn look(layout: &Layout, name: &str, settings: &BridgeSettings) -> Result<Vec<LinkFault>> {
    let netlink = Netlink::new()?;
    let host = netlink.open()?;
    let ports = ports(layout, name);
    netlink.run(async {
        let Some(bridge) = link_by_name(&host, name).await? else {
            let gone = (!ports.is_empty()).then_some(LinkFault::Gone(ports.len()));
            return Ok(gone.into_iter().collect());
        };
        let mut found = bridge_faults(&host, &bridge, name, settings).await?;
        found.extend(port_faults(&host, &bridge, ports).await?);
        Ok(found)
    })
}

/// What is wrong with the bridge itself.
pub(super) async fn bridge_faults(
    host: &Handle,
    bridge: &LinkMessage,
    name: &str,
    settings: &BridgeSettings,
) -> Result<Vec<LinkFault>> {
    if !is_bridge(bridge) {
        return Ok(vec![LinkFault::NotABridge]);
    }
    let mut found = Vec::new();
    let own = mac(name, settings);
    if !bridge.attributes.contains(&LinkAttribute::Address(own.0.to_vec())) {
        found.push(LinkFault::HardwareAddress(own));
    }
    let (is, wanted) = (mtu(bridge), mtu_of(settings));
    if is != wanted {
        found.push(LinkFault::Mtu { is, wanted });
    }
    if !is_up(bridge) {
        found.push(LinkFault::Down);
    }
    let present = addresses(host, bridge.header.index).await?;
    let missing = networks(&usable(name, settings.clone())).into_iter().filter(|net| !present.contains(net));
    found.extend(missing.map(LinkFault::Address));
    Ok(found)
}

/// What is wrong with the ports of `bridge`.
pub(super) async fn port_faults(host: &Handle, bridge: &LinkMessage, ports: Vec<Port>) -> Result<Vec<LinkFault>> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let links: Vec<LinkMessage> =
        host.link().get().execute().try_collect().await.context(|| "list the links of this host")?;
    let by_name: HashMap<&str, &LinkMessage> = links.iter().filter_map(|link| Some((name_of(link)?, link))).collect();
    let fault = |port: Port| {
        let fault = port_fault(by_name.get(port.link.as_str()).copied(), bridge, &port)?;
        Some(LinkFault::Port(port, fault))
    };
    Ok(ports.into_iter().filter_map(fault).collect())
}

/// What is wrong with one port, the worst first.
pub(super) fn port_fault(link: Option<&LinkMessage>, bridge: &LinkMessage, port: &Port) -> Option<PortFault> {
    let Some(link) = link else { return Some(PortFault::Gone) };
    if !link.attributes.contains(&LinkAttribute::Controller(bridge.header.index)) {
        return Some(PortFault::NotOnTheBridge);
    }
    if !port.allowance.any_mac && is_locked(link) == Some(false) {
        return Some(PortFault::Unlocked);
    }
    if port.group.is_some_and(|group| !link.attributes.contains(&LinkAttribute::Group(group))) {
        return Some(PortFault::Group);
    }
    if !is_up(link) {
        return Some(PortFault::Down);
    }
    (mtu(link) < mtu(bridge)).then_some(PortFault::Mtu(mtu(link)))
}

/// Whether a port is locked; `None` where it is no bridge's.
pub(super) fn is_locked(link: &LinkMessage) -> Option<bool> {
    let infos = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    infos.flatten().find_map(|info| match info {
        LinkInfo::PortData(InfoPortData::BridgePort(data)) => data.iter().find_map(|option| match option {
            InfoBridgePort::Locked(locked) => Some(*locked),
            _ => None,
        }),
        _ => None,
    })
}
