//! Addresses given, taken back and learnt: elements of the sets of the running tables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::command::{list, lock};
use super::elements::{self, Element, Kernel};
use super::holding::{Holding, Permit};
use crate::error::{Context, Result};
use crate::net::owner;
use crate::store::Layout;
use crate::types::Mac;

/// The pairs of numbers in a set of the table that keeps guests honest.
fn pairs(tag: &str, set: &str) -> Result<Vec<(u128, u128)>> {
    let listing = list(&["list", "set", "bridge", tag, set])?.unwrap_or_default();
    Ok(listing.sets.iter().flat_map(|set| set.pairs()).collect())
}

fn mac_of(number: u128) -> Option<Mac> {
    let [0, 0, a, b, c, d, e, f] = u64::try_from(number).ok()?.to_be_bytes() else { return None };
    Some(Mac([a, b, c, d, e, f]))
}

/// What the rules have learnt from the lease server's answers.
pub(super) fn leased(tag: &str) -> Result<Vec<Holding>> {
    let holding = |(mac, address)| {
        let address = Ipv4Addr::from(u32::try_from(address).ok()?).into();
        Some(Holding { mac: mac_of(mac)?, address })
    };
    Ok(pairs(tag, "leased")?.into_iter().filter_map(holding).collect())
}

/// Reserves addresses for their MAC address, before its first packet; the guest's file exists already, so
/// that tables that are written later have them too.
pub(crate) fn give(layout: &Layout, holdings: &[Holding], permits: &[Permit]) -> Result<()> {
    let _lock = lock(layout)?;
    let tag = owner::tag(layout)?;
    let mut kernel = Kernel::new(&tag)?;
    let all: Vec<_> = holdings.iter().flat_map(elements::of).chain(of_permits(permits)).collect();
    if !kernel.add(&all)? {
        // The tables were flushed; they are written again from the guest's file.
        return Ok(());
    }
    let mut taken = Vec::new();
    let macs: BTreeSet<Mac> = holdings.iter().map(|holding| holding.mac).collect();
    for mac in macs {
        // What the guest has claimed beyond that in an earlier run does not count, nor what was dropped then.
        kernel.take(&[elements::count(mac), elements::drop_count(mac)])?;
    }
    for holding in holdings {
        if let IpAddr::V6(address) = holding.address
            && kernel.take(&[elements::claimed(address)])?
        {
            taken.push(address);
        }
    }
    if taken.is_empty() { Ok(()) } else { evict(&tag, &taken) }
}

/// Takes addresses from guests that claimed them before their holder ran.
fn evict(tag: &str, taken: &[Ipv6Addr]) -> Result<()> {
    let bound = pairs(tag, "bound6")?.into_iter();
    let of_taken = bound.filter(|(address, _)| taken.contains(&Ipv6Addr::from(*address)));
    let mut kernel = Kernel::new(tag)?;
    for (address, mac) in of_taken {
        let Some(mac) = mac_of(mac) else { continue };
        let [_, bound] = elements::proofs(&Holding { mac, address: Ipv6Addr::from(address).into() });
        kernel.take(&[bound])?;
    }
    Ok(())
}

fn of_permits(permits: &[Permit]) -> impl Iterator<Item = Element> {
    permits
        .iter()
        .flat_map(|permit| std::iter::once(elements::of_permit(permit)).chain(permit.single6().map(elements::kept)))
}

/// Ends what [`give`] began; what is gone already is fine.
pub(crate) fn take_back(layout: &Layout, holdings: &[Holding], permits: &[Permit]) -> Result<()> {
    let _lock = lock(layout)?;
    let mut kernel = Kernel::new(&owner::tag(layout)?)?;
    let all = holdings.iter().flat_map(elements::of).chain(of_permits(permits));
    kernel.take(&all.collect::<Vec<_>>()).map(drop)
}

/// Whether the rules let a MAC address use an address: lxm gave it, or no other has claimed it.
pub fn is_held(layout: &Layout, holding: &Holding) -> Result<bool> {
    let mut kernel = Kernel::new(&owner::tag(layout)?)?;
    for proof in elements::proofs(holding) {
        if kernel.has(&proof)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes leased addresses from every MAC address but their present holder, if they have one. An earlier
/// holder could else use them for as long as the set keeps its element.
pub(super) fn reassign(layout: &Layout, holders: &BTreeMap<Ipv4Addr, Option<Mac>>) -> Result<()> {
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
    kernel.add(&held.collect::<Vec<_>>()).map(drop).context(|| "take addresses from their earlier holders")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_48_bits_is_a_mac_address() {
        assert_eq!(mac_of(0x0200_0000_0007), Some(Mac([2, 0, 0, 0, 0, 7])));
        assert_eq!(mac_of(1 << 48), None);
    }
}
