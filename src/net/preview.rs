//! What of a container's network can be refused before anything of it is made, or taken from a guest that
//! still runs.

use super::netlink::{self, Netlink, link_by_name};
use super::plan::{self, LinkKind};
use super::publish;
use super::record::GuestRecord;
use super::{addresses, bridge, link, owner};
use crate::config::bridge::NetworkFile;
use crate::config::{Config, NetworkType};
use crate::error::{Context, Result};
use crate::store::Layout;
use crate::types::ContainerName;

/// Refuses what [`connect`](super::connect()) would refuse for want of a link, a port or an address. What the
/// container's guest has now, if it runs, counts as free.
///
/// Run it in a short-lived process: it builds a runtime.
pub(crate) fn check(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    if config.network.values().any(|network| network.kind == NetworkType::Host) {
        return Ok(());
    }
    require_links(layout, name, config)?;
    let now = GuestRecord::read(layout, name).ok().flatten().unwrap_or_default();
    let interfaces = plan::interfaces(name, config, &bridge::default_of(layout, config)?)?;
    for interface in &interfaces {
        let step = || format!("network.{}", interface.guest);
        if let LinkKind::Veth { bridge } = &interface.kind {
            require_bridge(layout, &owner::bridge_name(layout, bridge)?).context(step)?;
        }
        let is_ours = |port| now.links.iter().any(|link| link.publish.contains(port));
        for port in interface.publish.iter().filter(|port| !is_ours(port)) {
            publish::require_free(layout, name, &interface.guest, *port).context(step)?;
        }
    }
    addresses::check_addresses(layout, name, config)
}

/// Fails with `Kind::NotFound` where the host lacks a link that an interface needs and that lxm does not make:
/// it may come yet.
pub(crate) fn require_links(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    let moved = || {
        let record = GuestRecord::read(layout, name).ok().flatten().unwrap_or_default();
        record.links.into_iter().filter_map(|link| link.moved).collect::<Vec<_>>()
    };
    for (guest, network) in &config.network {
        let step = || format!("network.{guest}");
        if let (NetworkType::Veth, Some(vlan)) = (network.kind, network.vlan) {
            let bridge = network.bridge.clone().map_or_else(|| bridge::default_of(layout, config), Ok)?;
            require_vlans(&owner::bridge_name(layout, &bridge)?, vlan).context(step)?;
        }
        match (network.kind, &network.bridge, &network.parent) {
            (NetworkType::Veth, Some(bridge), _) => {
                let bridge = owner::bridge_name(layout, bridge)?;
                if !bridge::exists(&bridge) && !is_made_by_us(layout, &bridge)? {
                    return Err(bridge::missing(&bridge).step(step()));
                }
            }
            (NetworkType::Macvlan | NetworkType::Ipvlan | NetworkType::Physical, _, Some(parent))
                if !bridge::exists(parent) && !moved().contains(parent) =>
            {
                return Err(netlink::missing(parent).step(step()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses a VLAN on a bridge that is there and keeps none apart.
fn require_vlans(bridge: &str, vlan: u16) -> Result<()> {
    let netlink = Netlink::new()?;
    let host = netlink.open()?;
    netlink.run(async {
        match link_by_name(&host, bridge).await? {
            Some(link) if !link::filters_vlans(&host, link.header.index).await? => Err(link::without_vlans(vlan)),
            _ => Ok(()),
        }
    })
}

fn is_made_by_us(layout: &Layout, bridge: &str) -> Result<bool> {
    Ok(bridge == owner::default_bridge(layout)? || NetworkFile::load(layout)?.bridge.contains_key(bridge))
}

/// A link that is there has to be a bridge.
fn require_bridge(layout: &Layout, name: &str) -> Result<()> {
    if is_made_by_us(layout, name)? {
        return Ok(());
    }
    let netlink = Netlink::new()?;
    match netlink.run(link_by_name(&netlink.open()?, name))? {
        Some(link) if !bridge::is_bridge(&link) => Err(bridge::is_none(name)),
        _ => Ok(()),
    }
}
