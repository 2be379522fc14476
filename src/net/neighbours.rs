//! The host's neighbour table on a bridge: which MAC address has which IP address (arp(7)).

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use crate::error::{Context, Result};
use crate::types::Mac;

/// Deletes the entries of the host's neighbour table on `bridge` that `is_stale` selects.
///
/// To an address in the table the host sends at once, and what comes to a MAC address that does not have the
/// address, or not yet, is lost: a first SYN is sent again after a second. For an address that is not in the
/// table it asks, and queues what is to be sent.
pub(super) async fn delete_entries(host: &Handle, bridge: u32, is_stale: impl Fn(IpAddr, Mac) -> bool) -> Result<()> {
    for neighbour in list(host, bridge).await? {
        if entry(&neighbour).is_some_and(|(address, mac)| is_stale(address, mac)) {
            // It may have expired meanwhile.
            let _ = host.neighbours().del(neighbour).execute().await;
        }
    }
    Ok(())
}

/// The neighbours on `bridge` whose MAC address the host knows.
pub(super) async fn known(host: &Handle, bridge: u32) -> Result<BTreeMap<IpAddr, Mac>> {
    Ok(list(host, bridge).await?.iter().filter_map(entry).collect())
}

/// Has the host ask for the MAC address of an address on `bridge`, if it is not in the table.
pub(super) async fn ask(host: &Handle, bridge: u32, address: IpAddr) -> Result<()> {
    // NTF_USE is what a packet to the address would do, without one (neigh_add in net/core/neighbour.c).
    let asked = host.neighbours().add(bridge, address).state(NeighbourState::None).flags(NeighbourFlags::Use);
    asked.replace().execute().await.context(|| format!("ask whose `{address}` is"))
}

async fn list(host: &Handle, bridge: u32) -> Result<Vec<NeighbourMessage>> {
    let mut all = host.neighbours().get();
    all.message_mut().attributes.push(NeighbourAttribute::IfIndex(bridge));
    let all: Vec<_> = all.execute().try_collect().await.context(|| "list the neighbours on the bridge")?;
    Ok(all.into_iter().filter(|neighbour| neighbour.header.ifindex == bridge).collect())
}

/// The IP and the MAC address of an entry that has both.
fn entry(neighbour: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    let address = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    let mac = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => <[u8; 6]>::try_from(&mac[..]).ok().map(Mac),
        _ => None,
    })?;
    Some((address, mac))
}
