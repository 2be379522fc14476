//! Bridges: lxm's own, made on first use, and the host's, used as they are.

use std::net::{IpAddr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, RouteMessageBuilder};

use super::link::{GROUP_CHECKED, GROUP_ISOLATED};
use super::plan::Interface;
use super::settings::{BridgeSettings, NetworkFile};
use super::wire::{Wire, delete_link, link_by_name};
use super::{firewall, names, nft, owner, resolved, server, subnet, sysctl};
use crate::config::HostConfig;
use crate::error::{Context, Error, Result};
use crate::store::{FileLock, Layout};
use crate::types::Mac;

/// The bridge that lxm makes when nobody says otherwise.
pub const DEFAULT: &str = "lxmbr0";

/// A bridge that is ready for a guest's port.
#[derive(Debug, Clone)]
pub struct Bridge {
    pub index: u32,
    /// That of its ports, without what it says of each ([`owner::group`]).
    group: u32,
    /// Set where lxm made it, and serves leases and names on it.
    pub settings: Option<BridgeSettings>,
}

impl Bridge {
    /// The group that tells the bridge's rules what this guest's port may do.
    pub(super) fn group(&self, interface: &Interface) -> u32 {
        let checked = if self.settings.is_some() { GROUP_CHECKED } else { 0 };
        let isolated = if interface.isolated { GROUP_ISOLATED } else { 0 };
        self.group | checked | isolated
    }

    /// A static address in the bridge's own network goes by the bridge, unless told otherwise.
    pub(super) fn complete_gateways(&self, interface: &mut Interface) {
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

/// The bridge of an interface that names none.
pub fn default_name(host: &HostConfig) -> &str {
    match host.network.default.as_str() {
        // These are defaults of `create`; an interface that is a veth has a bridge.
        "none" | "host" => DEFAULT,
        bridge => bridge,
    }
}

/// Orders those that make, change or remove a bridge.
pub fn lock(layout: &Layout) -> Result<FileLock> {
    FileLock::acquire(&layout.network_run().join("lock"))
}

/// Makes sure that the bridge is there and works: makes [`DEFAULT`] on its first use, brings up
/// others of lxm's after a boot, and takes the host's own as they are. `name` is that on this host
/// ([`owner::bridge_name`]).
pub fn ensure(layout: &Layout, name: &str) -> Result<Bridge> {
    let wire = Wire::new()?;
    let host = wire.open()?;
    let settings = NetworkFile::load(layout)?.bridge.remove(name);
    let link = wire.run(link_by_name(&host, name))?;
    let is_default = settings.is_none() && name == owner::default_bridge(layout)?;
    if settings.is_some() {
        owner::require_own(layout, name)?;
    }
    let group = || owner::tag(layout).map(|tag| owner::group(&tag));
    match (settings, link) {
        // A bridge of ours is brought up last of all, so up means that everything else is done.
        (Some(settings), Some(link)) if is_up(&link) => {
            server::ensure(layout, name)?;
            Ok(Bridge { index: link.header.index, group: group()?, settings: Some(settings) })
        }
        (None, Some(link)) if !is_default => {
            if !is_bridge(&link) {
                return Err(Error::config(format!("the link `{name}` is not a bridge")));
            }
            Ok(Bridge { index: link.header.index, group: group()?, settings: None })
        }
        (None, None) if !is_default => Err(Error::not_found(format!("this host has no bridge `{name}`"))
            .hint(format!("`lxm network create {name}` makes one"))),
        _ => up(layout, name),
    }
}

/// Notes the settings of a bridge that is to be lxm's, with networks chosen where they leave them
/// open; gives those that it had before.
pub fn add(layout: &Layout, name: &str, settings: BridgeSettings) -> Result<Option<BridgeSettings>> {
    let _lock = lock(layout)?;
    let wire = Wire::new()?;
    let host = wire.open()?;
    let mut file = NetworkFile::load(layout)?;
    let settings = wire.run(choose(layout, &owner::tag(layout)?, &host, name, settings))?;
    owner::note(layout, &mut file)?;
    let before = file.bridge.insert(name.to_owned(), settings);
    file.save(layout)?;
    Ok(before)
}

/// Whether the host has a link of this name.
pub fn exists(name: &str) -> bool {
    nix::net::if_::if_nametoindex(name).is_ok()
}

/// Brings a bridge of lxm's up, choosing its networks if it has none yet. Safe to repeat.
pub fn up(layout: &Layout, name: &str) -> Result<Bridge> {
    let _lock = lock(layout)?;
    let wire = Wire::new()?;
    let host = wire.open()?;
    let bring_up = || -> Result<Bridge> {
        let mut file = NetworkFile::load(layout)?;
        let settings = match file.get(name) {
            Ok(settings) => settings.clone(),
            // Others are made on purpose.
            Err(e) if name != owner::default_bridge(layout)? => return Err(e),
            Err(_) => {
                let settings =
                    wire.run(choose(layout, &owner::tag(layout)?, &host, name, BridgeSettings::default()))?;
                owner::note(layout, &mut file)?;
                file.bridge.insert(name.to_owned(), settings.clone());
                file.save(layout)?;
                settings
            }
        };
        owner::require_own(layout, name)?;
        let index = wire.run(make(&owner::mark(layout)?, &host, name, &settings))?;
        settings_of_kernel(name, &settings)?;
        wire.run(address(&host, index, &settings))?;
        nft::apply(layout)?;
        wire.run(async {
            let link = LinkUnspec::new_with_index(index).up().build();
            host.link().change(link).execute().await.context(|| format!("bring up `{name}`"))
        })?;
        server::ensure(layout, name)?;
        resolved::announce(index, &settings);
        Ok(Bridge { index, group: owner::group(&owner::tag(layout)?), settings: Some(settings) })
    };
    bring_up().context(|| format!("bridge `{name}`"))
}

/// Fills in what the settings of a new bridge leave open: networks that nothing of the host overlaps.
///
/// `tag` is the owner's ([`owner::tag`]). Fails with `Kind::Conflict` where one that they name overlaps a
/// route of the host: the bridge would take the host from whoever is behind that.
pub async fn choose(
    layout: &Layout,
    tag: &str,
    host: &Handle,
    name: &str,
    mut settings: BridgeSettings,
) -> Result<BridgeSettings> {
    let wanted = layout.host_config()?.network;
    if name == owner::default_bridge_of(tag) {
        settings.ipv4 = settings.ipv4.or(wanted.ipv4.map(gateway4));
        settings.ipv6 = settings.ipv6.or(wanted.ipv6.map(gateway6));
    }
    if settings.domain == BridgeSettings::default().domain {
        settings.domain = wanted.domain;
        // resolved cannot send questions for one domain to two servers.
        if settings.domain == BridgeSettings::default().domain {
            settings.domain = tag.to_owned();
        }
    }
    if settings.upstream.is_empty() {
        settings.upstream = wanted.upstream;
    }
    let (mut taken4, mut taken6) = taken(host, link_by_name(host, name).await?.map(|link| link.header.index)).await?;
    for (_, other) in NetworkFile::load(layout)?.bridge.iter().filter(|(other, _)| *other != name) {
        taken4.extend(other.ipv4);
        taken6.extend(other.ipv6);
    }
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let seed = [machine.trim(), &layout.root().to_string_lossy(), name];
    if settings.ipv4.is_none() {
        let free = subnet::choose_ipv4(&taken4, &seed);
        settings.ipv4 = Some(free.ok_or_else(|| {
            Error::conflict("every private IPv4 network is routed by this host already")
                .hint(format!("name one: `lxm network create {name} --subnet 10.1.2.1/24`"))
        })?);
    }
    if settings.ipv6.is_none() {
        settings.ipv6 = subnet::choose_ipv6(&taken6, &seed);
    }
    settings.check(name)?;
    let overlaps = |net: IpNetwork, other: IpNetwork| {
        Err(Error::conflict(format!("{net} overlaps {other}, which this host has already")).hint(format!(
            "`lxm network create` without `--subnet`, or `lxm network set {name} ipv4 auto`, finds a free one"
        )))
    };
    if let Some(net) = settings.ipv4
        && let Some(other) = taken4.iter().find(|other| subnet::overlap4(net, **other))
    {
        return overlaps(net.into(), (*other).into());
    }
    if let Some(net) = settings.ipv6
        && let Some(other) = taken6.iter().find(|other| subnet::overlap6(net, **other))
    {
        return overlaps(net.into(), (*other).into());
    }
    Ok(settings)
}

/// The gateway's address where a network is given: the first one.
pub fn gateway4(net: Ipv4Network) -> Ipv4Network {
    if net.ip() != net.network() || net.prefix() > 30 {
        return net;
    }
    Ipv4Network::new((u32::from(net.network()) + 1).into(), net.prefix()).expect("the prefix length is the same")
}

/// The same for IPv6.
pub fn gateway6(net: Ipv6Network) -> Ipv6Network {
    if net.ip() != net.network() || net.prefix() > 126 {
        return net;
    }
    Ipv6Network::new((u128::from(net.network()) + 1).into(), net.prefix()).expect("the prefix length is the same")
}

/// Networks that the host has routes to or addresses in, but for default routes and those of the
/// link `own`.
pub async fn taken(host: &Handle, own: Option<u32>) -> Result<(Vec<Ipv4Network>, Vec<Ipv6Network>)> {
    let (mut four, mut six) = (Vec::new(), Vec::new());
    let step = || "list the routes of this host";
    let mut routes = host.route().get(RouteMessageBuilder::<std::net::Ipv4Addr>::new().build()).execute();
    while let Some(route) = routes.try_next().await.context(step)? {
        if let Some(RouteAddress::Inet(to)) = destination(&route, own) {
            four.extend(Ipv4Network::new(*to, route.header.destination_prefix_length).ok());
        }
    }
    let mut routes = host.route().get(RouteMessageBuilder::<Ipv6Addr>::new().build()).execute();
    while let Some(route) = routes.try_next().await.context(step)? {
        if let Some(RouteAddress::Inet6(to)) = destination(&route, own) {
            six.extend(Ipv6Network::new(*to, route.header.destination_prefix_length).ok());
        }
    }
    let mut addresses = host.address().get().execute();
    while let Some(address) = addresses.try_next().await.context(|| "list the addresses of this host")? {
        let prefix = address.header.prefix_len;
        let of_others = address.attributes.iter().filter(|_| Some(address.header.index) != own);
        for attribute in of_others {
            match attribute {
                AddressAttribute::Address(IpAddr::V4(ip)) => four.extend(Ipv4Network::new(*ip, prefix).ok()),
                AddressAttribute::Address(IpAddr::V6(ip)) => six.extend(Ipv6Network::new(*ip, prefix).ok()),
                _ => {}
            }
        }
    }
    Ok((four, six))
}

/// Where a route leads that does not go by the link `own`.
fn destination(route: &RouteMessage, own: Option<u32>) -> Option<&RouteAddress> {
    let by_own = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Oif(link) if Some(*link) == own);
    if route.attributes.iter().any(by_own) {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(to) => Some(to),
        _ => None,
    })
}

/// The bridge's hardware address: without one of its own it would change with every port.
pub fn mac(name: &str, settings: &BridgeSettings) -> Mac {
    let ipv4 = settings.ipv4.map(|net| net.to_string()).unwrap_or_default();
    let ipv6 = settings.ipv6.map(|net| net.to_string()).unwrap_or_default();
    names::derived_mac(&["bridge", name, &ipv4, &ipv6])
}

/// The link-local address that the kernel makes of a hardware address (RFC 4291, modified EUI-64).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

async fn make(mark: &str, host: &Handle, name: &str, settings: &BridgeSettings) -> Result<u32> {
    let mac = mac(name, settings).0.to_vec();
    if let Some(link) = link_by_name(host, name).await? {
        if !is_bridge(&link) {
            return Err(Error::conflict("a link of this name is there and is not a bridge"));
        }
        let mut change = LinkUnspec::new_with_index(link.header.index).address(mac).alias(mark);
        if let Some(mtu) = settings.mtu {
            change = change.mtu(mtu.into());
        }
        host.link().change(change.build()).execute().await.context(|| "set its hardware address")?;
        return Ok(link.header.index);
    }
    // No spanning tree: a port would be deaf for its first thirty seconds.
    let mut link = LinkBridge::new(name).address(mac).forward_delay(0);
    if let Some(mtu) = settings.mtu {
        link = link.mtu(mtu.into());
    }
    host.link().add(link.build()).execute().await.context(|| "make it")?;
    let index = super::wire::index_of(host, name).await?;
    // The kernel takes no alias in the message that makes a link.
    let marked = LinkUnspec::new_with_index(index).alias(mark).build();
    host.link().change(marked).execute().await.context(|| "mark it as ours")?;
    Ok(index)
}

async fn address(host: &Handle, index: u32, settings: &BridgeSettings) -> Result<()> {
    let wanted: Vec<IpNetwork> =
        settings.ipv4.map(IpNetwork::V4).into_iter().chain(settings.ipv6.map(IpNetwork::V6)).collect();
    let mut present = host.address().get().set_link_index_filter(index).execute();
    while let Some(address) = present.try_next().await.context(|| "list its addresses")? {
        let prefix = address.header.prefix_len;
        let same = |ip: &IpAddr| wanted.iter().any(|net| net.ip() == *ip && net.prefix() == prefix);
        let ip = address.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        });
        let link_local = matches!(ip, Some(IpAddr::V6(ip)) if ip.is_unicast_link_local());
        if !link_local && !ip.as_ref().is_some_and(same) {
            host.address().del(address).execute().await.context(|| "remove an address that it had before")?;
        }
    }
    for net in wanted {
        if net.is_ipv6() && !has_ipv6() {
            continue;
        }
        let mut add = host.address().add(index, net.ip(), net.prefix()).replace();
        if net.is_ipv6() {
            add.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        add.execute().await.context(|| format!("set {net}"))?;
    }
    Ok(())
}

/// Whether this kernel speaks IPv6 at all.
pub fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").is_dir()
}

fn settings_of_kernel(name: &str, settings: &BridgeSettings) -> Result<()> {
    if settings.ipv4.is_some() {
        sysctl::set("net/ipv4/ip_forward", "1")?;
    }
    if settings.ipv6.is_some() && has_ipv6() {
        // The address is ours alone, and the server binds it before the bridge has its first port.
        sysctl::set(&format!("net/ipv6/conf/{name}/accept_dad"), "0")?;
        sysctl::set(&format!("net/ipv6/conf/{name}/addr_gen_mode"), "0")?;
        sysctl::set(&format!("net/ipv6/conf/{name}/accept_ra"), "0")?;
        sysctl::forward_ipv6()?;
    }
    Ok(())
}

/// Takes a bridge of lxm's down: its link and its rules; its settings stay.
///
/// Fails with `Kind::Conflict` while guests are on it.
pub fn down(layout: &Layout, name: &str) -> Result<()> {
    let _lock = lock(layout)?;
    NetworkFile::load(layout)?.get(name)?;
    let wire = Wire::new()?;
    let host = wire.open()?;
    let link = wire.run(link_by_name(&host, name))?;
    // Another owner's of this name is not ours to take down.
    let Some(link) = link.filter(|_| owner::other_owner(layout, name).is_none()) else { return nft::apply(layout) };
    let ports = wire.run(ports(&host, link.header.index))?;
    if !ports.is_empty() {
        return Err(Error::conflict(format!("bridge `{name}` is in use: {}", ports.join(", ")))
            .hint("stop the containers that are on it"));
    }
    server::stop(layout, name)?;
    firewall::close(name)?;
    wire.run(delete_link(&host, name))?;
    nft::apply(layout)
}

/// The links on a bridge, by the names that say whose they are.
pub async fn ports(host: &Handle, bridge: u32) -> Result<Vec<String>> {
    let links: Vec<LinkMessage> =
        host.link().get().execute().try_collect().await.context(|| "list the links of this host")?;
    let on_it = |link: &&LinkMessage| link.attributes.contains(&LinkAttribute::Controller(bridge));
    Ok(links.iter().filter(on_it).filter_map(|link| names::telling(link).map(str::to_owned)).collect())
}

pub fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.contains(&LinkInfo::Kind(InfoKind::Bridge)))
    })
}

pub fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_local_address_is_the_one_of_the_kernel() {
        let of = |mac: &str| link_local(mac.parse().unwrap()).to_string();
        assert_eq!(of("02:fc:00:00:00:01"), "fe80::fc:ff:fe00:1");
        assert_eq!(of("52:54:00:12:34:56"), "fe80::5054:ff:fe12:3456");
    }

    #[test]
    fn a_network_without_a_host_part_has_its_first_address_as_gateway() {
        for (given, gateway) in
            [("10.1.2.0/24", "10.1.2.1/24"), ("10.1.2.9/24", "10.1.2.9/24"), ("10.1.2.0/31", "10.1.2.0/31")]
        {
            assert_eq!(gateway4(given.parse().unwrap()).to_string(), gateway);
        }
        assert_eq!(gateway6("fd00::/64".parse().unwrap()).to_string(), "fd00::1/64");
    }

    #[test]
    fn a_static_address_of_the_bridge_s_network_goes_by_the_bridge() {
        let settings: BridgeSettings = toml::from_str("ipv4 = \"10.9.8.1/24\"\nipv6 = \"fd00::1/64\"").unwrap();
        let bridge = Bridge { index: 1, group: owner::group("lxm"), settings: Some(settings) };
        let gateways = |keys: &str| {
            let config = toml::from_str(&format!("[network.eth0]\n{keys}")).unwrap();
            let mut interface =
                super::super::plan::interfaces(&"a".parse().unwrap(), &config, DEFAULT).unwrap().remove(0);
            bridge.complete_gateways(&mut interface);
            interface.gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(gateways("ipv4 = \"10.9.8.7/24\"\nipv6 = \"fd00::7/64\""), "10.9.8.1 fd00::1");
        assert_eq!(gateways("ipv4 = \"10.9.8.7/24\"\ngateway = [\"10.9.8.9\"]"), "10.9.8.9");
        assert_eq!(gateways("ipv4 = \"10.1.1.7/24\""), "");
        assert_eq!(gateways(""), "");
    }
}
