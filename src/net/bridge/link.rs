//! A bridge's link in the kernel: made, addressed and looked at by netlink.

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{Handle, LinkBridge, LinkUnspec};

use crate::config::bridge::BridgeSettings;
use crate::error::{Context, Error, Result};
use crate::net::names;
use crate::net::netlink::{index_of, link_by_name};
use crate::net::sysctl;
use crate::types::Mac;

const DEFAULT_MTU: u32 = 1500;

/// Whether the host has a link of this name.
pub(crate) fn exists(name: &str) -> bool {
    nix::net::if_::if_nametoindex(name).is_ok()
}

pub(crate) fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.contains(&LinkInfo::Kind(InfoKind::Bridge)))
    })
}

pub(crate) fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up)
}

/// The links on a bridge, by the names that say whose they are.
pub(crate) async fn ports(host: &Handle, bridge: u32) -> Result<Vec<String>> {
    let links: Vec<LinkMessage> =
        host.link().get().execute().try_collect().await.context(|| "list the links of this host")?;
    let on_it = |link: &&LinkMessage| link.attributes.contains(&LinkAttribute::Controller(bridge));
    Ok(links.iter().filter(on_it).filter_map(|link| names::best_name(link).map(str::to_owned)).collect())
}

/// The bridge's hardware address: without one of its own it would change with every port.
pub(crate) fn mac(name: &str, settings: &BridgeSettings) -> Mac {
    let ipv4 = settings.ipv4.map(|net| net.to_string()).unwrap_or_default();
    let ipv6 = settings.ipv6.map(|net| net.to_string()).unwrap_or_default();
    names::derived_mac(&["bridge", name, &ipv4, &ipv6])
}

pub(crate) async fn make(mark: &str, host: &Handle, name: &str, settings: &BridgeSettings) -> Result<u32> {
    let mac = mac(name, settings).0.to_vec();
    if let Some(link) = link_by_name(host, name).await? {
        if !is_bridge(&link) {
            return Err(Error::conflict("a link of this name is there and is not a bridge"));
        }
        let change = LinkUnspec::new_with_index(link.header.index).address(mac).alias(mark).mtu(mtu_of(settings));
        host.link().change(change.build()).execute().await.context(|| "set its hardware address")?;
        return Ok(link.header.index);
    }
    // No spanning tree: a port would be deaf for its first thirty seconds.
    // A bridge takes the smallest MTU of its ports, and with it all others on it, until its own is *changed*
    // to something (br_change_mtu, BROPT_MTU_SET_BY_USER): so it is made with another than it gets.
    let link = LinkBridge::new(name).address(mac).forward_delay(0).mtu(mtu_of(settings) - 1);
    host.link().add(link.build()).execute().await.context(|| "make it")?;
    let index = index_of(host, name).await?;
    // The kernel takes no alias in the message that makes a link.
    let marked = LinkUnspec::new_with_index(index).alias(mark).mtu(mtu_of(settings)).build();
    host.link().change(marked).execute().await.context(|| "mark it as ours")?;
    Ok(index)
}

/// The settings as far as the kernel has what they ask for: without IPv6 where that is off on the bridge.
pub(crate) fn usable(name: &str, settings: BridgeSettings) -> BridgeSettings {
    let ipv6 = settings.ipv6.filter(|_| sysctl::has_ipv6_on(name));
    BridgeSettings { ipv6, ..settings }
}

/// The MTU of a bridge of lxm's; the default is Ethernet's, as the kernel's.
pub(crate) fn mtu_of(settings: &BridgeSettings) -> u32 {
    settings.mtu.map_or(DEFAULT_MTU, u32::from)
}

/// The MTU of a bridge of the host's own.
pub(crate) fn mtu(link: &LinkMessage) -> u32 {
    let of_kernel = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    of_kernel.unwrap_or(DEFAULT_MTU)
}

/// The bridge's own addresses, with the prefix lengths of its networks.
pub(crate) fn networks(settings: &BridgeSettings) -> Vec<IpNetwork> {
    settings.ipv4.map(IpNetwork::V4).into_iter().chain(settings.ipv6.map(IpNetwork::V6)).collect()
}

/// The addresses that a link has.
pub(crate) async fn addresses(host: &Handle, index: u32) -> Result<Vec<IpNetwork>> {
    let present: Vec<_> = host.address().get().set_link_index_filter(index).execute().try_collect().await?;
    Ok(present.iter().filter_map(network_of).collect())
}

fn network_of(address: &AddressMessage) -> Option<IpNetwork> {
    let ip = address.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    });
    IpNetwork::new(ip?, address.header.prefix_len).ok()
}

/// Gives the bridge its addresses, and takes from it what it had before.
pub(super) async fn address(host: &Handle, index: u32, settings: &BridgeSettings) -> Result<()> {
    let wanted = networks(settings);
    let mut present = host.address().get().set_link_index_filter(index).execute();
    while let Some(address) = present.try_next().await.context(|| "list its addresses")? {
        let net = network_of(&address);
        let link_local = matches!(net, Some(IpNetwork::V6(net)) if net.ip().is_unicast_link_local());
        if !link_local && !net.is_some_and(|net| wanted.contains(&net)) {
            host.address().del(address).execute().await.context(|| "remove an address that it had before")?;
        }
    }
    add_addresses(host, index, settings).await
}

/// Gives the bridge its addresses; those that others have added stay.
pub(crate) async fn add_addresses(host: &Handle, index: u32, settings: &BridgeSettings) -> Result<()> {
    for net in networks(settings) {
        let mut add = host.address().add(index, net.ip(), net.prefix()).replace();
        if net.is_ipv6() {
            add.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        add.execute().await.context(|| format!("set {net}"))?;
    }
    Ok(())
}

pub(crate) fn settings_of_kernel(name: &str, settings: &BridgeSettings) -> Result<()> {
    if settings.ipv4.is_some() {
        sysctl::set("net/ipv4/ip_forward", "1")?;
    }
    if settings.ipv6.is_some() {
        // The address is ours alone, and the server binds it before the bridge has its first port.
        sysctl::set(&format!("net/ipv6/conf/{name}/accept_dad"), "0")?;
        sysctl::set(&format!("net/ipv6/conf/{name}/addr_gen_mode"), "0")?;
        sysctl::set(&format!("net/ipv6/conf/{name}/accept_ra"), "0")?;
        sysctl::forward_ipv6()?;
    }
    Ok(())
}
