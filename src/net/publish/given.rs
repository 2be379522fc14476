//! Whether a published port may lead to an address that a guest has set.
//!
//! A guest sets what it likes: the bridge's own address, the cloud's 169.254.169.254, another guest's. Who
//! connects to the port then speaks to those in the host's name, past every firewall of theirs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use rtnetlink::Handle;

use crate::config::bridge::NetworkFile;
use crate::error::{Context, Kind, Result};
use crate::net::neighbours;
use crate::net::netlink::index_of;
use crate::net::record::LinkRecord;
use crate::net::rules::{self, Holding};
use crate::store::Layout;
use crate::types::Mac;
use crate::types::subnet;

/// Who the host takes for the holder of each address that a guest has on a bridge of the host's own;
/// `None` where it does not know yet, and asks.
pub(super) type HostHolders = BTreeMap<IpAddr, Option<Mac>>;

/// Finds out whose the addresses `seen` of an interface on a bridge of the host's own are.
pub(super) async fn holders(host: &Handle, bridge: &str, seen: &[IpAddr]) -> Result<HostHolders> {
    let index = match index_of(host, bridge).await {
        // On a bridge that is gone there is no neighbour.
        Err(e) if e.kind() == Kind::NotFound => return Ok(HostHolders::new()),
        index => index?,
    };
    let known = neighbours::known(host, index).await?;
    let mut holders = HostHolders::new();
    for address in seen {
        let holder = known.get(address).copied();
        if holder.is_none() {
            // It may be none that there is a way to.
            let _ = neighbours::ask(host, index, *address).await;
        }
        holders.insert(*address, holder);
    }
    Ok(holders)
}

/// Whether a link is at a bridge of the host's own, where lxm gives no leases and holds no addresses.
pub(super) fn is_at_the_hosts(layout: &Layout, link: &LinkRecord) -> Result<bool> {
    let bridges = NetworkFile::load(layout)?.bridge;
    Ok(link.bridge.as_ref().is_some_and(|bridge| !bridges.contains_key(bridge)))
}

/// Whether the address is the guest's: lxm has set or leased it, or it is one of the bridge's IPv6 network
/// that the guest has made itself and no other machine has. On a bridge of the host's own, where lxm gives
/// no leases, it must be one of the networks that the host itself has there, and the host must find the
/// guest at it and not another machine (`holders`); one that it `had` stays while no other is found.
pub(super) fn is_given(
    layout: &Layout,
    link: &LinkRecord,
    address: IpAddr,
    holders: &HostHolders,
    had: bool,
) -> Result<bool> {
    if link.addresses.contains(&address) {
        return Ok(true);
    }
    let Some(bridge) = &link.bridge else { return Ok(false) };
    if is_the_hosts(address)? {
        return Ok(false);
    }
    if link.allowance.addresses.iter().any(|net| net.contains(address)) {
        return Ok(true);
    }
    let Some(settings) = NetworkFile::load(layout)?.bridge.remove(bridge) else {
        let is_its_own = match holders.get(&address).copied().flatten() {
            Some(holder) => holder == link.mac,
            None => had,
        };
        return Ok(is_its_own && networks_on(bridge)?.into_iter().any(|net| is_for_guests(net, address)));
    };
    let mut networks = settings.ipv4.map(IpNetwork::V4).into_iter().chain(settings.ipv6.map(IpNetwork::V6));
    Ok(networks.any(|net| is_for_guests(net, address)) && rules::is_held(layout, &Holding { mac: link.mac, address })?)
}

/// Whether this host has the address itself, on whatever link.
fn is_the_hosts(address: IpAddr) -> Result<bool> {
    let mut all = getifaddrs().context(|| "list the addresses of this host")?;
    Ok(all.any(|at| ip(at.address) == Some(address)))
}

fn ip(address: Option<SockaddrStorage>) -> Option<IpAddr> {
    let address = address?;
    let four = address.as_sockaddr_in().map(|four| four.ip().into());
    four.or_else(|| address.as_sockaddr_in6().map(|six| six.ip().into()))
}

/// Whether a guest can have an address of `net`, which is written with the bridge's own address.
fn is_for_guests(net: IpNetwork, address: IpAddr) -> bool {
    match (net, address) {
        (IpNetwork::V4(net), IpAddr::V4(address)) => subnet::is_for_guests(net, address),
        (IpNetwork::V6(net), IpAddr::V6(address)) => net.contains(address) && address != net.ip(),
        _ => false,
    }
}

/// The networks that the host has an address in on a link, but for link-local ones.
fn networks_on(link: &str) -> Result<Vec<IpNetwork>> {
    let all = getifaddrs().context(|| "list the addresses of this host")?;
    let network = |at: nix::ifaddrs::InterfaceAddress| -> Option<IpNetwork> {
        let (address, mask) = (ip(at.address)?, ip(at.netmask)?);
        let is_link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        IpNetwork::with_netmask(address, mask).ok().filter(|_| !is_link_local)
    };
    Ok(all.filter(|at| at.interface_name == link).filter_map(network).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_bridge_s_own_nor_one_of_elsewhere_is_a_guest_s() {
        for (net, address, is_one) in [
            ("10.0.3.1/24", "10.0.3.9", true),
            ("10.0.3.1/24", "10.0.3.1", false),
            ("10.0.3.1/24", "10.0.3.255", false),
            ("10.0.3.1/24", "169.254.169.254", false),
            ("10.0.3.1/24", "127.0.0.1", false),
            ("fd00::1/64", "fd00::9", true),
            ("fd00::1/64", "fd00::1", false),
            ("fd00::1/64", "2001:db8::1", false),
            ("fd00::1/64", "10.0.3.9", false),
        ] {
            assert_eq!(is_for_guests(net.parse().unwrap(), address.parse().unwrap()), is_one, "{address} of {net}");
        }
        assert!(is_the_hosts("127.0.0.1".parse().unwrap()).unwrap());
        assert!(!is_the_hosts("127.0.0.2".parse().unwrap()).unwrap());
        assert_eq!(networks_on("lo").unwrap().first(), Some(&"127.0.0.1/8".parse().unwrap()));
    }
}
