//! Announces a guest to its bridges' servers and to the firewall's rules.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::record::{GuestRecord, LinkRecord};
use super::rules;
use crate::config::bridge::NetworkFile;
use crate::config::{Address, Config};
use crate::error::{Error, Result};
use crate::net::bridge::Bridge;
use crate::net::plan::{LinkKind, PlannedInterface};
use crate::netserver::GuestEntry;
use crate::store::Layout;
use crate::types::ContainerName;

/// Refuses the reservation of an address that no server would lease to this guest, which would never be
/// reported later.
pub(super) fn check_reservation(
    layout: &Layout,
    name: &ContainerName,
    config: &Config,
    interface: &PlannedInterface,
    bridges: &BTreeMap<String, Bridge>,
) -> Result<()> {
    let Address::Reserved(IpAddr::V4(address)) = config.network[&interface.guest].ipv4 else { return Ok(()) };
    let refused = |why: String| {
        let error = Error::config(format!("{address} cannot be leased to it: {why}"));
        Err(error.hint(format!("with a prefix length (`{address}/24`) it is set before the guest boots")))
    };
    let LinkKind::Veth { bridge } = &interface.kind else {
        return refused("only a bridge of lxm's has a server for that".into());
    };
    let Some(settings) = bridges[bridge].settings.as_ref().filter(|settings| settings.dhcp) else {
        return refused(format!("no server of lxm's gives leases on `{bridge}`"));
    };
    let net = settings.ipv4.ok_or_else(|| Error::failed(format!("`{bridge}` has no IPv4 network")))?;
    if !crate::types::subnet::is_for_guests(net, address) {
        return refused(format!("it is outside {net}, the network of `{bridge}`"));
    }
    // What has a lease is read from a file that may be a moment old; who runs is not.
    let leases = crate::netserver::status(layout, bridge)?.unwrap_or_default().guests;
    let has_it = |guest: &GuestEntry| {
        let is_leased = leases.iter().any(|lease| lease.mac == guest.mac && lease.leased == Some(address));
        is_leased || guest.reserved == Some(address) || guest.addresses.contains(&address.into())
    };
    let own = layout.name_on_bridge(name);
    match crate::netserver::guests_of(layout, bridge)?.into_values().find(|guest| guest.name != own && has_it(guest)) {
        Some(other) => {
            Err(Error::conflict(format!("{address} is the address of container `{}`, which runs", other.name)))
        }
        None => Ok(()),
    }
}

/// Announces the guest to the bridges' servers and rules.
pub(super) fn announce(
    layout: &Layout,
    name: &ContainerName,
    config: &Config,
    record: &GuestRecord,
    bridges: &BTreeMap<String, Bridge>,
) -> Result<()> {
    let mut holdings = Vec::new();
    for link in &record.links {
        let Some((bridge, made)) = link.bridge.as_ref().and_then(|bridge| bridges.get_key_value(bridge)) else {
            continue;
        };
        let Some(settings) = &made.settings else { continue };
        let reserved = match config.network[&link.guest].ipv4 {
            Address::Reserved(IpAddr::V4(address)) => Some(address),
            _ => None,
        };
        let addresses = link.addresses.clone();
        let entry = GuestEntry { name: layout.name_on_bridge(name), mac: link.mac, reserved, addresses };
        crate::netserver::announce(layout, bridge, &entry)?;
        holdings.extend(rules::holdings(settings, &entry));
    }
    if holdings.is_empty() { Ok(()) } else { rules::give(layout, &holdings) }
}

/// Ends what [`announce`] began.
pub(super) fn retract(layout: &Layout, name: &ContainerName, links: &[LinkRecord]) -> Result<()> {
    let file = NetworkFile::load(layout)?;
    let mut holdings = Vec::new();
    for link in links {
        let Some(bridge) = &link.bridge else { continue };
        crate::netserver::retract(layout, bridge, link.mac)?;
        let Some(settings) = file.bridge.get(bridge) else { continue };
        let addresses = link.addresses.clone();
        let entry = GuestEntry { name: layout.name_on_bridge(name), mac: link.mac, reserved: None, addresses };
        holdings.extend(rules::holdings(settings, &entry));
    }
    if holdings.is_empty() { Ok(()) } else { rules::take_back(layout, &holdings) }
}
