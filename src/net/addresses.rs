//! Whether addresses that a configuration sets can be the guest's on a bridge of lxm's.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::allow::Allowance;
use super::plan::{self, LinkKind, PlannedInterface};
use super::{bridge, owner};
use crate::config::bridge::{BridgeSettings, NetworkFile};
use crate::config::{Address, Config, NetworkType};
use crate::error::{Context, Error, Result};
use crate::netserver;
use crate::store::Layout;
use crate::types::ContainerName;

/// Refuses interfaces that no start could make, whatever the host has.
pub(crate) fn check_plan(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    let host = layout.host_config().unwrap_or_default();
    plan::interfaces(name, config, bridge::default_name(&host)).map(drop)
}

/// Whether lxm makes a bridge of this name when a container needs it.
pub(crate) fn is_own_bridge(layout: &Layout, name: &str) -> bool {
    let of_file = || NetworkFile::load(layout).is_ok_and(|file| file.bridge.contains_key(name));
    owner::bridge_name(layout, owner::DEFAULT_BRIDGE).is_ok_and(|own| own == name)
        || name == owner::DEFAULT_BRIDGE
        || of_file()
}

/// Refuses a configuration whose addresses are the bridge's own, outside its network, or leased to
/// another guest. Of a bridge that is not made yet nothing is known.
pub(crate) fn check_addresses(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    let sets = |address: Address| matches!(address, Address::Static(_) | Address::Reserved(_));
    let is_set = config.network.values().filter(|network| network.kind == NetworkType::Veth).any(|network| {
        let allows = !network.allow_addresses.is_empty() || !network.allow_macs.is_empty();
        sets(network.ipv4) || sets(network.ipv6) || network.mac.is_some() || allows
    });
    if !is_set {
        return Ok(());
    }
    let file = NetworkFile::load(layout)?;
    for interface in plan::interfaces(name, config, &bridge::default_of(layout, config)?)? {
        let LinkKind::Veth { bridge } = &interface.kind else { continue };
        let bridge = owner::bridge_name(layout, bridge)?;
        let Some(settings) = file.bridge.get(&bridge) else { continue };
        let network = &config.network[&interface.guest];
        check(layout, &interface, network.ipv4, &bridge, settings)
            .context(|| format!("network.{}", interface.guest))?;
    }
    Ok(())
}

/// The same for one interface on a bridge with these settings.
pub(super) fn check(
    layout: &Layout,
    interface: &PlannedInterface,
    ipv4: Address,
    bridge: &str,
    settings: &BridgeSettings,
) -> Result<()> {
    let own = settings.ipv4.map(IpNetwork::V4).into_iter().chain(settings.ipv6.map(IpNetwork::V6));
    let own: Vec<IpNetwork> = own.collect();
    let reserved = match ipv4 {
        Address::Reserved(address) => Some(address),
        _ => None,
    };
    let all: Vec<IpAddr> = interface.addresses.iter().map(IpNetwork::ip).chain(reserved).collect();
    let mac_of_bridge = bridge::link::mac(bridge, settings);
    if interface.allowance.macs.contains(&mac_of_bridge) || interface.mac == mac_of_bridge {
        return Err(Error::config(format!("{mac_of_bridge} is the MAC address of the bridge `{bridge}` itself"))
            .hint("the host would lose its place on it"));
    }
    if all.is_empty() && interface.allowance.is_none() {
        return Ok(());
    }
    let leases = netserver::status(layout, bridge)?.unwrap_or_default().guests;
    check_allowance(interface, &own, bridge, &leases)?;
    for address in all {
        if own.iter().any(|net| net.ip() == address) {
            return Err(Error::config(format!("{address} is the address of the bridge `{bridge}` itself"))
                .hint("guests have the others of its network"));
        }
        if let Some(net) = own.iter().find(|net| net.is_ipv4() == address.is_ipv4()) {
            check_within(address, *net, bridge, interface)?;
        }
        let has_it = |guest: &&netserver::GuestStatus| {
            guest.mac != interface.mac && guest.leased.map(IpAddr::V4) == Some(address)
        };
        if let Some(other) = leases.iter().find(has_it) {
            return Err(Error::conflict(format!("{address} is leased to container `{}`", other.name))
                .hint(format!("choose another, or stop `{}` until its lease has ended", other.name)));
        }
    }
    Ok(())
}

/// Refuses to allow what is the bridge's own, or leased to another guest.
fn check_allowance(
    interface: &PlannedInterface,
    own: &[IpNetwork],
    bridge: &str,
    leases: &[netserver::GuestStatus],
) -> Result<()> {
    let Allowance { addresses, macs, .. } = &interface.allowance;
    for allowed in addresses {
        let is_single = |net: &&IpNetwork| net.ip() == allowed.ip() && net.ip() == allowed.broadcast();
        if own.iter().any(|net| is_single(&net)) {
            return Err(Error::config(format!("{} is the address of the bridge `{bridge}` itself", allowed.ip()))
                .hint("guests have the others of its network"));
        }
        let leased = |guest: &&netserver::GuestStatus| {
            let is_its_own = guest.mac == interface.mac || macs.contains(&guest.mac);
            !is_its_own && guest.leased.is_some_and(|address| allowed.contains(address.into()))
        };
        if let Some(other) = leases.iter().find(leased) {
            let address = other.leased.map(|address| address.to_string()).unwrap_or_default();
            let what = format!("`allow-addresses`: {address} is leased to container `{}`", other.name);
            return Err(Error::conflict(what)
                .hint(format!("choose another, or keep leases off it: `lxm network set {bridge} range FIRST-LAST`")));
        }
    }
    Ok(())
}

/// A guest with another network's address reaches no other machine by this bridge, unless it has a gateway
/// and others have a route.
fn check_within(address: IpAddr, net: IpNetwork, bridge: &str, interface: &PlannedInterface) -> Result<()> {
    let told = interface.gateways.iter().any(|gateway| gateway.is_ipv4() == address.is_ipv4());
    if !net.contains(address) && !told {
        let network = format!("{}/{}", net.network(), net.prefix());
        return Err(Error::config(format!("{address} is outside {network}, the network of `{bridge}`"))
            .hint("choose one of that network, or set `gateway` too"));
    }
    let is_end = |end: IpAddr| net.is_ipv4() && net.prefix() < 31 && address == end;
    if is_end(net.network()) || is_end(net.broadcast()) {
        return Err(Error::config(format!(
            "{address} cannot be a guest's address: it is {net}'s network or broadcast address"
        )));
    }
    Ok(())
}
