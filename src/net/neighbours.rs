//! What the host knows of its neighbours on a bridge: which station has which address (arp(7)).

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use crate::error::{Context, Result};
use crate::types::Mac;

/// Makes the host forget those of its neighbours on `bridge` that `is_stale` says so of.
///
/// What the host knows it sends at once, and what comes to a station that does not have the address,
/// or not yet, is lost: a first SYN is sent again after a second. What it does not know it asks for,
/// and keeps what is to be sent.
pub(super) async fn forget(host: &Handle, bridge: u32, is_stale: impl Fn(IpAddr, Mac) -> bool) -> Result<()> {
    for neighbour in list(host, bridge).await? {
        if entry(&neighbour).is_some_and(|(address, station)| is_stale(address, station)) {
            // It may have gone by itself.
            let _ = host.neighbours().del(neighbour).execute().await;
        }
    }
    Ok(())
}

/// The neighbours on `bridge` whose MAC address the host knows.
pub(super) async fn known(host: &Handle, bridge: u32) -> Result<BTreeMap<IpAddr, Mac>> {
    Ok(list(host, bridge).await?.iter().filter_map(entry).collect())
}

/// Has the host ask whose an address on `bridge` is, if it does not know.
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

/// The address and the station of a neighbour that has one.
fn entry(neighbour: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    let address = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    let station = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(station) => <[u8; 6]>::try_from(&station[..]).ok().map(Mac),
        _ => None,
    })?;
    Some((address, station))
}
