//! What guests have sent from addresses that are not theirs, and was dropped.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::elements::{self, Kernel};
use crate::error::Result;
use crate::net::owner;
use crate::store::Layout;
use crate::types::Mac;

/// What of a guest's was dropped within the last hour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub packets: u64,
    /// The addresses that it has used within the last minutes; some of them where they are very many.
    pub addresses: Vec<IpAddr>,
}

/// By the MAC addresses of the senders.
pub(crate) type Drops = BTreeMap<Mac, Dropped>;

/// What the rules have dropped. Two questions to the kernel, whatever the number of guests.
pub(crate) fn drops(layout: &Layout) -> Result<Drops> {
    let mut kernel = Kernel::new(&owner::tag(layout)?)?;
    let mut drops = Drops::new();
    for (key, packets) in kernel.dump("dropped")? {
        if let Some(mac) = mac(&key, 0) {
            drops.insert(mac, Dropped { packets: packets.unwrap_or(0), addresses: Vec::new() });
        }
    }
    if drops.is_empty() {
        return Ok(drops);
    }
    for (key, _) in kernel.dump("dropped4")? {
        let address = key.get(8..12).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        note(&mut drops, mac(&key, 0), address.map(|bytes| Ipv4Addr::from(bytes).into()));
    }
    for (key, _) in kernel.dump("dropped6")? {
        let address = key.get(..16).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        note(&mut drops, mac(&key, 16), address.map(|bytes| Ipv6Addr::from(bytes).into()));
    }
    drops.values_mut().for_each(|dropped| dropped.addresses.sort());
    Ok(drops)
}

/// Forgets what was dropped of these MAC addresses, which may use more from now on.
pub(crate) fn forget_drops(layout: &Layout, macs: &[Mac]) -> Result<()> {
    let all = drops(layout)?;
    let mut kernel = Kernel::new(&owner::tag(layout)?)?;
    for (mac, dropped) in all.iter().filter(|(mac, _)| macs.contains(mac)) {
        let addresses = dropped.addresses.iter().map(|address| elements::dropped(*mac, *address));
        kernel.take(&addresses.chain([elements::drop_count(*mac)]).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn note(drops: &mut Drops, mac: Option<Mac>, address: Option<IpAddr>) {
    // A guest whose address is not ready yet sends from others that are nobody's.
    let is_told = |address: &IpAddr| !address.is_loopback() && !address.is_unspecified() && !address.is_multicast();
    if let (Some(mac), Some(address)) = (mac, address.filter(is_told)) {
        // Without a count it is of an earlier run.
        drops.entry(mac).and_modify(|dropped| dropped.addresses.push(address));
    }
}

fn mac(key: &[u8], at: usize) -> Option<Mac> {
    key.get(at..at + 6).and_then(|bytes| <[u8; 6]>::try_from(bytes).ok()).map(Mac)
}
