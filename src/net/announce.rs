//! Announces a guest to its bridges' servers and to the firewall's rules.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::record::{GuestRecord, LinkRecord};
use super::rules::{self, Permit};
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
    record: &GuestRecord,
    bridges: &BTreeMap<String, Bridge>,
) -> Result<()> {
    let (mut holdings, mut permits) = (Vec::new(), Vec::new());
    for link in &record.links {
        let Some((bridge, made)) = link.bridge.as_ref().and_then(|bridge| bridges.get_key_value(bridge)) else {
            continue;
        };
        let Some(settings) = &made.settings else { continue };
        let entry = link.entry(layout.name_on_bridge(name));
        crate::netserver::announce(layout, bridge, &entry)?;
        holdings.extend(rules::holdings(settings, &entry));
        permits.extend(rules::permits(&entry));
    }
    if holdings.is_empty() { Ok(()) } else { rules::give(layout, &holdings, &permits) }
}

/// Ends what [`announce`] began.
pub(super) fn retract(layout: &Layout, name: &ContainerName, links: &[LinkRecord]) -> Result<()> {
    let file = NetworkFile::load(layout)?;
    let (mut holdings, mut permits, mut shared) = (Vec::new(), Vec::new(), Vec::new());
    for link in links {
        let Some(bridge) = &link.bridge else { continue };
        crate::netserver::retract(layout, bridge, link.mac)?;
        let Some(settings) = file.bridge.get(bridge) else { continue };
        let entry = link.entry(layout.name_on_bridge(name));
        holdings.extend(rules::holdings(settings, &entry));
        shared.extend(permits_of_others(layout, bridge, &entry)?);
        permits.extend(rules::permits(&entry));
    }
    if holdings.is_empty() {
        return Ok(());
    }
    rules::take_back(layout, &holdings, &permits)?;
    if shared.is_empty() { Ok(()) } else { rules::give(layout, &[], &shared) }
}

/// What other guests on the bridge may use that this one may too.
fn permits_of_others(layout: &Layout, bridge: &str, guest: &GuestEntry) -> Result<Vec<Permit>> {
    if guest.allowed.is_empty() {
        return Ok(Vec::new());
    }
    let others = crate::netserver::guests_of(layout, bridge)?.into_values().filter(|other| other.mac != guest.mac);
    Ok(others.flat_map(|other| rules::permits(&other)).filter(|permit| guest.allowed.contains(&permit.net)).collect())
}

/// Tells servers and rules what a guest may use from now on, where it was `before` until now.
pub(super) fn change(layout: &Layout, name: &ContainerName, before: &LinkRecord, now: &LinkRecord) -> Result<()> {
    let Some(bridge) = &now.bridge else { return Ok(()) };
    if !NetworkFile::load(layout)?.bridge.contains_key(bridge) {
        return Ok(());
    }
    let [before, now] = [before, now].map(|link| link.entry(layout.name_on_bridge(name)));
    crate::netserver::announce(layout, bridge, &now)?;
    rules::take_back(layout, &[], &rules::permits(&before))?;
    let mut permits = rules::permits(&now);
    permits.extend(permits_of_others(layout, bridge, &before)?);
    rules::give(layout, &[], &permits)?;
    rules::forget_drops(layout, &[&[now.mac], &now.allowed_macs[..], &before.allowed_macs[..]].concat())
}
