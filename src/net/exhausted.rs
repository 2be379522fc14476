//! Guests for which their bridge has no address: noted when they are wired, before they ask for one in vain.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use super::record::GuestRecord;
use crate::config::bridge::BridgeSettings;
use crate::error::{Context, Result};
use crate::net::bridge::Bridge;
use crate::netserver::{guests_of, how_many_guests};
use crate::store::Layout;
use crate::types::ContainerName;
use crate::types::subnet;

fn file(layout: &Layout, name: &ContainerName) -> PathBuf {
    layout.run_dir(name).join("no-address")
}

/// Notes that a bridge has more guests than addresses, this one among them, or that it has not.
pub(super) fn note(
    layout: &Layout,
    name: &ContainerName,
    record: &GuestRecord,
    bridges: &BTreeMap<String, Bridge>,
) -> Result<()> {
    for link in &record.links {
        let has_own = link.reserved.is_some() || link.addresses.iter().any(IpAddr::is_ipv4);
        let Some(bridge) = link.bridge.as_ref().filter(|_| !has_own) else { continue };
        let Some(settings) = bridges[bridge].settings.as_ref().filter(|settings| settings.dhcp) else { continue };
        if let Some(size) = exhausted(layout, bridge, settings)? {
            let text = format!(
                "`{name}` may get no IPv4 address: bridge `{bridge}` has {size} to lease, and more containers; \
                 `lxm network set {bridge} range` and `ipv4` change that"
            );
            let file = file(layout, name);
            return std::fs::write(&file, text).context(|| format!("write `{}`", file.display()));
        }
    }
    Ok(())
}

/// How many addresses there are, where there are fewer than guests that ask for one.
fn exhausted(layout: &Layout, bridge: &str, settings: &BridgeSettings) -> Result<Option<usize>> {
    let (Some(net), Some((first, last))) = (settings.ipv4, settings.pool()) else { return Ok(None) };
    let is_leasable =
        |address: &std::net::Ipv4Addr| (first..=last).contains(address) && subnet::is_for_guests(net, *address);
    let gateway = usize::from((first..=last).contains(&net.ip()));
    let size = (u32::from(last) - u32::from(first)) as usize + 1 - gateway;
    // Few have so many that the guests have to be looked at.
    if how_many_guests(layout, bridge)? <= size {
        return Ok(None);
    }
    let (mut asking, mut taken) = (0, 0);
    for guest in guests_of(layout, bridge)?.into_values() {
        let own = guest.addresses.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        let own: Vec<_> = own.chain(guest.reserved).collect();
        asking += usize::from(own.is_empty());
        taken += own.iter().filter(|address| is_leasable(address)).count();
    }
    let left = size.saturating_sub(taken);
    Ok((asking > left).then_some(left))
}

/// What was noted of a guest that runs.
pub(crate) fn without_address(layout: &Layout, name: &ContainerName) -> Option<String> {
    std::fs::read_to_string(file(layout, name)).ok()
}

/// Forgets it.
pub(super) fn forget(layout: &Layout, name: &ContainerName) {
    let _ = std::fs::remove_file(file(layout, name));
}
