//! Which networks a new bridge gets: free ones, where its settings leave that open.

use std::net::{IpAddr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::config::bridge::{BridgeSettings, NetworkFile};
use crate::error::{Context, Error, Result};
use crate::net::netlink::link_by_name;
use crate::net::owner;
use crate::store::Layout;
use crate::types::subnet;

/// Fills in what the settings of a new bridge leave open: networks that nothing of the host overlaps.
///
/// `tag` is the owner's ([`owner::tag`]). Fails with `Kind::Conflict` where one that they name overlaps a
/// route of the host: the bridge would cut the host off from what is behind that.
pub(crate) async fn choose(
    layout: &Layout,
    tag: &str,
    host: &Handle,
    name: &str,
    mut settings: BridgeSettings,
) -> Result<BridgeSettings> {
    let wanted = layout.host_config()?.network;
    if name == owner::default_bridge_of(tag) {
        settings.ipv4 = settings.ipv4.or(wanted.ipv4.map(gateway4));
        if !settings.without_ipv6 {
            settings.ipv6 = settings.ipv6.or(wanted.ipv6.map(gateway6));
        }
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
    if settings.ipv6.is_none() && !settings.without_ipv6 {
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
pub(crate) fn gateway4(net: Ipv4Network) -> Ipv4Network {
    if net.ip() != net.network() || net.prefix() > 30 {
        return net;
    }
    Ipv4Network::new((u32::from(net.network()) + 1).into(), net.prefix()).expect("the prefix length is the same")
}

/// The same for IPv6.
pub(crate) fn gateway6(net: Ipv6Network) -> Ipv6Network {
    if net.ip() != net.network() || net.prefix() > 126 {
        return net;
    }
    Ipv6Network::new((u128::from(net.network()) + 1).into(), net.prefix()).expect("the prefix length is the same")
}

/// Networks that the host has routes to or addresses in, but for default routes and those of the
/// link `own`.
pub(crate) async fn taken(host: &Handle, own: Option<u32>) -> Result<(Vec<Ipv4Network>, Vec<Ipv6Network>)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_of_a_network_is_its_gateway() {
        for (given, gateway) in
            [("10.1.2.0/24", "10.1.2.1/24"), ("10.1.2.9/24", "10.1.2.9/24"), ("10.1.2.0/31", "10.1.2.0/31")]
        {
            assert_eq!(gateway4(given.parse().unwrap()).to_string(), gateway);
        }
        assert_eq!(gateway6("fd00::/64".parse().unwrap()).to_string(), "fd00::1/64");
    }
}
