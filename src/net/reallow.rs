//! What a running guest may use, changed (`allow-addresses`, `allow-macs`).

use super::netlink::{Netlink, link_by_name};
use super::plan::{LinkKind, PlannedInterface};
use super::record::{GuestRecord, LinkRecord};
use super::{announce, bridge, groups, link, plan};
use crate::config::Config;
use crate::config::bridge::NetworkFile;
use crate::error::{Context, Result};
use crate::store::Layout;
use crate::types::{ContainerName, Mac};

/// Has a running guest use what its configuration allows it from now on, and no more. One that is not wired will
/// find it at its start.
pub(crate) fn reallow(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    let Some(mut record) = GuestRecord::read(layout, name)? else { return Ok(()) };
    for interface in plan::interfaces(name, config, bridge::default_name(&layout.host_config()?))? {
        let is_it = |link: &&mut LinkRecord| link.guest == interface.guest && link.allowance != interface.allowance;
        let Some(link) = record.links.iter_mut().find(is_it) else { continue };
        if !matches!(interface.kind, LinkKind::Veth { .. }) {
            continue;
        }
        let before = link.clone();
        let now = allowed(layout, &before, &interface)?;
        announce::change(layout, name, &before, &now)?;
        set_port(&before, &now).context(|| format!("network.{}", interface.guest))?;
        // Last: what is recorded is not done again.
        *link = now;
        record.write(layout, name)?;
    }
    Ok(())
}

/// The link as it is from now on.
fn allowed(layout: &Layout, before: &LinkRecord, interface: &PlannedInterface) -> Result<LinkRecord> {
    let is_ours = before.bridge.as_ref().is_some_and(|bridge| owned(layout, bridge));
    let group = before.group.map(|group| groups::checked(group, is_ours && !interface.allowance.any_address));
    Ok(LinkRecord { group, allowance: interface.allowance.clone(), ..before.clone() })
}

fn owned(layout: &Layout, bridge: &str) -> bool {
    NetworkFile::load(layout).is_ok_and(|file| file.bridge.contains_key(bridge))
}

/// Has the port carry what the guest may send.
fn set_port(before: &LinkRecord, now: &LinkRecord) -> Result<()> {
    let (Some(host_link), Some(bridge)) = (&now.host, &now.bridge) else { return Ok(()) };
    let netlink = Netlink::new()?;
    let host = netlink.open()?;
    netlink.run(async {
        let (Some(port), Some(bridge)) = (link_by_name(&host, host_link).await?, link_by_name(&host, bridge).await?)
        else {
            return Ok(());
        };
        let index = port.header.index;
        let gone = |mac: &&Mac| !now.allowance.macs.contains(mac);
        let gone: Vec<Mac> = before.allowance.macs.iter().filter(gone).copied().collect();
        link::untie(&host, index, &gone).await;
        if let Some(group) = now.group {
            link::set_group(&host, index, group).await?;
        }
        let macs = link::PortMacs { own: now.mac, allowance: &now.allowance };
        link::set_up_port(&host, index, bridge.header.index, macs, now.vlan).await
    })
}
