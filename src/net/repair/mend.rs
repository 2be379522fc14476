//! Puts a bridge and its ports right again.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Handle, LinkUnspec};

use super::compare::{LinkFault, Port, PortFault, bridge_faults, is_locked, port_fault, port_faults, ports};
use super::tally::{Attempt, attempt};
use crate::config::bridge::{BridgeSettings, NetworkFile};
use crate::error::{Context, Error, Result};
use crate::net::bridge::link::{add_addresses, is_up, make, mtu, settings_of_kernel, usable};
use crate::net::netlink::{Netlink, link_by_name};
use crate::net::{groups, link, owner};
use crate::store::Layout;

/// Puts right what of the bridge and its ports is not as it should be: all of them, or where `suspects` are named
/// those links alone. A bridge that is gone is for its next server to make. Returns whether the bridge had lost its
/// IPv6 address, and its server with that perhaps the groups that it had joined.
pub(crate) fn mend(layout: &Layout, name: &str, suspects: Option<&BTreeSet<u32>>) -> Result<bool> {
    let Some(settings) = NetworkFile::load(layout)?.bridge.remove(name) else { return Ok(false) };
    if !owner::has(layout, name) {
        return Ok(false);
    }
    let mut lost_ipv6 = false;
    let mark = owner::mark(layout)?;
    let group = groups::of_owner(&owner::tag(layout)?);
    let netlink = Netlink::new()?;
    let host = netlink.open()?;
    let mended: Result<()> = netlink.run(async {
        let Some(bridge) = link_by_name(&host, name).await? else { return Ok(()) };
        let found = bridge_faults(&host, &bridge, name, &settings).await?;
        if may(layout, name, &found)? {
            lost_ipv6 = found.iter().any(|fault| matches!(fault, LinkFault::Address(IpNetwork::V6(_))));
            mend_bridge(&mark, &host, name, &settings).await?;
        }
        let Some(bridge) = link_by_name(&host, name).await? else { return Ok(()) };
        if let Some(suspects) = suspects
            && !any_astray(&host, &bridge, group, suspects).await?
        {
            return Ok(());
        }
        for fault in port_faults(&host, &bridge, ports(layout, name)).await? {
            let LinkFault::Port(port, kind) = &fault else { continue };
            // With the host's end the kernel has taken the guest's.
            if *kind != PortFault::Gone && may(layout, name, std::slice::from_ref(&fault))? {
                mend_port(&host, &bridge, port, *kind).await?;
            }
        }
        Ok(())
    });
    mended.map(|()| lost_ipv6).context(|| format!("repair bridge `{name}`"))
}

/// Whether a bridge that was deleted under its guests is to be made again.
pub(crate) fn may_make_again(layout: &Layout, name: &str) -> Result<bool> {
    may(layout, name, &[LinkFault::Gone(ports(layout, name).len())])
}

/// Whether these faults, if there are any, are to be mended; says so in the log.
fn may(layout: &Layout, name: &str, faults: &[LinkFault]) -> Result<bool> {
    let mut may = false;
    for fault in faults.iter().filter(|fault| **fault != LinkFault::NotABridge) {
        match attempt(layout, name, &fault.to_string())? {
            Attempt::GoesOn => {
                crate::sys::log::line(&format!("bridge `{name}`: {fault}: mended"));
                may = true;
            }
            Attempt::GivesUp => crate::sys::log::line(&format!(
                "bridge `{name}`: {fault}, however often it is mended: lxm gives up until `lxm network up {name}`"
            )),
            Attempt::HasGivenUp => {}
        }
    }
    Ok(may)
}

/// Whether one of the links is not locked, in the owner's group and up. Those of other bridges of lxm's are, as a
/// rule, so that the records need not be read for them.
async fn any_astray(host: &Handle, bridge: &LinkMessage, group: u32, suspects: &BTreeSet<u32>) -> Result<bool> {
    for index in suspects {
        // Most reports are of links that have come and gone.
        let link = match host.link().get().match_index(*index).execute().try_next().await.map_err(Error::from) {
            Err(e) if e.errno() == Some(libc::ENODEV) => continue,
            link => link.context(|| "look at a link")?,
        };
        let Some(link) = link else { continue };
        let is_on = link.attributes.contains(&LinkAttribute::Controller(bridge.header.index));
        let in_group = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::Group(of) if of & !3 == group);
        let is_ours = is_locked(&link) == Some(true) && link.attributes.iter().any(in_group);
        if !is_ours || !is_up(&link) || (is_on && mtu(&link) < mtu(bridge)) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn mend_bridge(mark: &str, host: &Handle, name: &str, settings: &BridgeSettings) -> Result<()> {
    let index = make(mark, host, name, settings).await?;
    let usable = usable(name, settings.clone());
    settings_of_kernel(name, &usable)?;
    let up = LinkUnspec::new_with_index(index).up().build();
    host.link().change(up).execute().await.context(|| "bring it up")?;
    add_addresses(host, index, &usable).await
}

/// Puts the ports of all running guests on a bridge that was made, or was found.
pub(crate) async fn mend_ports(layout: &Layout, host: &Handle, name: &str) -> Result<()> {
    let Some(bridge) = link_by_name(host, name).await? else { return Ok(()) };
    for fault in port_faults(host, &bridge, ports(layout, name)).await? {
        let LinkFault::Port(port, kind) = &fault else { continue };
        if *kind != PortFault::Gone {
            mend_port(host, &bridge, port, *kind).await?;
        }
    }
    Ok(())
}

async fn mend_port(host: &Handle, bridge: &LinkMessage, port: &Port, kind: PortFault) -> Result<()> {
    let step = || format!("`{}` of container `{}`", port.link, port.name);
    let repaired = async {
        let Some(link) = link_by_name(host, &port.link).await? else { return Ok(()) };
        // It may have ended, or been mended, meanwhile.
        if port_fault(Some(&link), bridge, port).is_none() {
            return Ok(());
        }
        let index = link.header.index;
        if kind == PortFault::NotOnTheBridge {
            // Down, so that nothing passes before the port is locked.
            let down = LinkUnspec::new_with_index(index).down().controller(bridge.header.index);
            host.link().change(down.build()).execute().await.context(|| "put it on the bridge")?;
        }
        let mut right = LinkUnspec::new_with_index(index).mtu(mtu(&link).max(mtu(bridge)));
        if let Some(group) = port.group {
            right = right.link_group(group);
        }
        host.link().change(right.build()).execute().await.context(|| "set its group and MTU")?;
        let macs = link::PortMacs { own: port.mac, allowance: &port.allowance };
        link::set_up_port(host, index, bridge.header.index, macs, port.vlan).await
    };
    match repaired.await {
        // A guest that stops takes its link with it.
        Err(e) if e.errno() == Some(libc::ENODEV) => Ok(()),
        result => result.context(step),
    }
}
