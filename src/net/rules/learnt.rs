//! Addresses given, taken back and learnt: elements of the sets of the running tables.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::command::{list, lock};
use super::elements::{self, Kernel};
use super::holding::Holding;
use crate::error::{Context, Result};
use crate::net::owner;
use crate::store::Layout;
use crate::types::Mac;

/// The pairs of numbers in a set of the table that keeps guests honest.
fn pairs(tag: &str, set: &str) -> Result<Vec<(u128, u128)>> {
    let listing = list(&["list", "set", "bridge", tag, set])?.unwrap_or_default();
    Ok(listing.sets.iter().flat_map(|set| set.pairs()).collect())
}

fn station(number: u128) -> Option<Mac> {
    let [0, 0, a, b, c, d, e, f] = u64::try_from(number).ok()?.to_be_bytes() else { return None };
    Some(Mac([a, b, c, d, e, f]))
}

/// What the rules have learnt from the lease server's answers.
pub(super) fn leased(tag: &str) -> Result<Vec<Holding>> {
    let holding = |(mac, address)| {
        let address = Ipv4Addr::from(u32::try_from(address).ok()?).into();
        Some(Holding { mac: station(mac)?, address })
    };
    Ok(pairs(tag, "leased")?.into_iter().filter_map(holding).collect())
}

/// Makes addresses their station's alone, before its first packet; its guest's file is there already, so
/// that tables that are written later have them too.
pub(crate) fn give(layout: &Layout, holdings: &[Holding]) -> Result<()> {
    let _lock = lock(layout)?;
    let tag = owner::tag(layout)?;
    let mut kernel = Kernel::new(&tag)?;
    let all: Vec<_> = holdings.iter().flat_map(elements::of).collect();
    if !kernel.add(&all)? {
        // Somebody has flushed the tables; whoever writes them again reads the guest's file.
        return Ok(());
    }
    let mut taken = Vec::new();
    for holding in holdings {
        // What the guest has taken beyond that in an earlier run is not held against it.
        kernel.take(&[elements::count(holding.mac)])?;
        if let IpAddr::V6(address) = holding.address
            && kernel.take(&[elements::claimed(address)])?
        {
            taken.push(address);
        }
    }
    if taken.is_empty() { Ok(()) } else { evict(&tag, &taken) }
}

/// Takes addresses from those who took them before their station was there.
fn evict(tag: &str, taken: &[Ipv6Addr]) -> Result<()> {
    let bound = pairs(tag, "bound6")?.into_iter();
    let of_taken = bound.filter(|(address, _)| taken.contains(&Ipv6Addr::from(*address)));
    let mut kernel = Kernel::new(tag)?;
    for (address, mac) in of_taken {
        let Some(mac) = station(mac) else { continue };
        let [_, bound] = elements::proofs(&Holding { mac, address: Ipv6Addr::from(address).into() });
        kernel.take(&[bound])?;
    }
    Ok(())
}

/// Ends what [`give`] began; what is gone already is fine.
pub(crate) fn take_back(layout: &Layout, holdings: &[Holding]) -> Result<()> {
    let _lock = lock(layout)?;
    let mut kernel = Kernel::new(&owner::tag(layout)?)?;
    kernel.take(&holdings.iter().flat_map(elements::of).collect::<Vec<_>>()).map(drop)
}

/// Whether the rules let a station use an address: lxm gave it, or nobody else has it.
pub fn is_held(layout: &Layout, holding: &Holding) -> Result<bool> {
    let mut kernel = Kernel::new(&owner::tag(layout)?)?;
    for proof in elements::proofs(holding) {
        if kernel.has(&proof)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes leased addresses from every station but the one that each belongs to now, if to any. A station
/// that had one before would else be believed for as long as the set remembers.
pub(super) fn hand_on(layout: &Layout, holders: &BTreeMap<Ipv4Addr, Option<Mac>>) -> Result<()> {
    let is_another_s = |holding: &Holding| {
        let IpAddr::V4(address) = holding.address else { return false };
        holders.get(&address).is_some_and(|holder| *holder != Some(holding.mac))
    };
    let tag = owner::tag(layout)?;
    let mut kernel = Kernel::new(&tag)?;
    for stale in leased(&tag)?.into_iter().filter(is_another_s) {
        let [_, leased] = elements::proofs(&stale);
        kernel.take(&[leased])?;
    }
    let holding =
        |(address, mac): (&Ipv4Addr, &Option<Mac>)| Some(Holding { mac: (*mac)?, address: (*address).into() });
    let held = holders.iter().filter_map(holding).map(|holding| {
        let [_, leased] = elements::proofs(&holding);
        leased
    });
    kernel.add(&held.collect::<Vec<_>>()).map(drop).context(|| "take addresses from those who had them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_station_s_if_it_is_short_enough() {
        assert_eq!(station(0x0200_0000_0007), Some(Mac([2, 0, 0, 0, 0, 7])));
        assert_eq!(station(1 << 48), None);
    }
}
