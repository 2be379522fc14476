//! What the host knows of its neighbours on a bridge: which station has which address (arp(7)).

use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};

use crate::error::{Context, Result};
use crate::types::Mac;

/// Makes the host forget those of its neighbours on `bridge` that `is_stale` says so of.
///
/// What the host knows it sends at once, and what comes to a station that does not have the address,
/// or not yet, is lost: a first SYN is sent again after a second. What it does not know it asks for,
/// and keeps what is to be sent.
pub async fn forget(host: &Handle, bridge: u32, is_stale: impl Fn(IpAddr, Mac) -> bool) -> Result<()> {
    let step = || "list the neighbours on the bridge";
    let mut known = host.neighbours().get();
    known.message_mut().attributes.push(NeighbourAttribute::IfIndex(bridge));
    let mut known = known.execute();
    let mut stale = Vec::new();
    while let Some(neighbour) = known.try_next().await.context(step)? {
        let is_it = entry(&neighbour).is_some_and(|(address, station)| is_stale(address, station));
        if neighbour.header.ifindex == bridge && is_it {
            stale.push(neighbour);
        }
    }
    for neighbour in stale {
        // It may have gone by itself.
        let _ = host.neighbours().del(neighbour).execute().await;
    }
    Ok(())
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
