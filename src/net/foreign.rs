//! Addresses that a guest uses and that are not its own: what it sends from them is dropped.

use std::net::IpAddr;

use super::groups;
use super::record::{GuestRecord, LinkRecord};
use super::rules::{self, Dropped, Drops, Holding};
use crate::config::bridge::NetworkFile;
use crate::error::Result;
use crate::store::Layout;
use crate::types::ContainerName;

/// What of a guest's was dropped, of all that was.
pub(crate) fn dropped_of(drops: &Drops, links: &[LinkRecord]) -> Dropped {
    let mut all = Dropped::default();
    for link in links {
        for dropped in std::iter::once(&link.mac).chain(&link.allowance.macs).filter_map(|mac| drops.get(mac)) {
            all.packets += dropped.packets;
            all.addresses.extend(&dropped.addresses);
        }
    }
    all
}

/// The same for a container that runs; nothing was dropped of one that cannot be read.
pub(crate) fn dropped(layout: &Layout, name: &ContainerName, drops: &Drops) -> Dropped {
    if drops.is_empty() {
        return Dropped::default();
    }
    let record = GuestRecord::read(layout, name).ok().flatten().unwrap_or_default();
    dropped_of(drops, &record.links)
}

/// The interface whose addresses a setting has to allow, and the key of that setting.
pub(super) fn allowing(links: &[LinkRecord], addresses: &[IpAddr]) -> String {
    let guest = links.iter().find(|link| link.bridge.is_some()).map_or("eth0", |link| &link.guest);
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("network.{guest}.allow-addresses {}", addresses.join(","))
}

/// Those of the guest's addresses that the rules of a bridge do not let it use; none where not all of its links
/// are on bridges whose rules check that, or where the rules cannot be asked.
pub(super) fn foreign(layout: &Layout, links: &[LinkRecord], addresses: &[IpAddr]) -> Result<Vec<IpAddr>> {
    let bridges = NetworkFile::load(layout)?.bridge;
    let mut networks = Vec::new();
    for link in links {
        let settings = link.bridge.as_ref().and_then(|bridge| bridges.get(bridge));
        let (Some(settings), Some(true)) = (settings, link.group.map(groups::is_checked)) else {
            return Ok(Vec::new());
        };
        networks.extend(settings.ipv6);
    }
    let mut foreign = Vec::new();
    for address in addresses {
        let is_held = |link: &LinkRecord| -> Result<bool> {
            let holding = Holding { mac: link.mac, address: *address };
            Ok(link.allowance.has(*address) || rules::is_held(layout, &holding)?)
        };
        let is_own = match address {
            // Guests make them by themselves.
            IpAddr::V6(address) if networks.iter().any(|net| net.contains(*address)) => true,
            _ => links.iter().map(is_held).collect::<Result<Vec<bool>>>()?.contains(&true),
        };
        if !is_own {
            foreign.push(*address);
        }
    }
    Ok(foreign)
}
