//! Writing both tables whole, from what is on record.

use super::command::{list, lock, run};
use super::guard;
use super::holding::{Holding, holdings, permits};
use super::learnt::leased;
use super::shape::Shape;
use super::tables::{self, RuleInputs};
use crate::config::bridge::{BridgeSettings, NetworkFile};
use crate::error::{Context, Result};
use crate::net::{owner, publish};
use crate::netserver::{self, guests};
use crate::store::Layout;

/// Writes both tables for the bridges that are there; without any, removes them.
pub(crate) fn apply(layout: &Layout) -> Result<()> {
    // Two writers would each write what they knew, and the older might come last.
    let _lock = lock(layout)?;
    let facts = facts(layout)?;
    if facts.bridges.is_empty() && facts.published.is_empty() {
        return remove_tables(&facts.tag);
    }
    run(&(tables::inet_table(&facts) + &guard::bridge_table(&facts))).context(|| "write the rules of the firewall")
}

/// Writes the table that translates, after published ports or their guests' addresses changed. The
/// other one keeps what it has learnt.
pub(crate) fn apply_translation(layout: &Layout) -> Result<()> {
    let _lock = lock(layout)?;
    let facts = facts(layout)?;
    if facts.bridges.is_empty() && facts.published.is_empty() {
        let tag = &facts.tag;
        return run(&format!("table inet {tag}\ndelete table inet {tag}\n"));
    }
    run(&tables::inet_table(&facts)).context(|| "write the rules of the firewall")
}

fn facts(layout: &Layout) -> Result<RuleInputs> {
    let mut facts = RuleInputs { tag: owner::tag(layout)?, published: publish::all(layout)?, ..RuleInputs::default() };
    for (name, settings) in bridges(layout)? {
        for guest in guests::read(layout, &name)?.into_values() {
            facts.fixed.extend(holdings(&settings, &guest));
            facts.permits.extend(permits(&guest));
        }
        let leases = netserver::status(layout, &name).ok().flatten().map(|status| status.guests).unwrap_or_default();
        facts.leased.extend(
            leases.into_iter().filter_map(|guest| Some(Holding { mac: guest.mac, address: guest.leased?.into() })),
        );
        facts.bridges.push((name, settings));
    }
    // What passed since the servers last wrote their status.
    facts.leased.extend(leased(&facts.tag)?);
    facts.fixed.sort();
    facts.permits.sort();
    facts.permits.dedup();
    facts.leased.sort();
    facts.leased.dedup();
    Ok(facts)
}

/// The bridges of lxm's that are there.
fn bridges(layout: &Layout) -> Result<Vec<(String, BridgeSettings)>> {
    let all = NetworkFile::load(layout)?.bridge.into_iter();
    Ok(all.filter(|(name, _)| owner::has(layout, name)).collect())
}

/// Whether both tables are there with all of their chains, sets and rules: `nft flush table`, and who deletes a
/// rule, leave the rest.
pub(crate) fn is_whole(layout: &Layout) -> Result<bool> {
    let tag = owner::tag(layout)?;
    let bridges = bridges(layout)?;
    let shape = RuleInputs { tag: tag.clone(), bridges, published: publish::all(layout)?, ..RuleInputs::default() };
    for (family, text) in [("inet", tables::inet_table(&shape)), ("bridge", guard::bridge_table(&shape))] {
        // Without the elements of sets, which may be many.
        let Some(listing) = list(&["-t", "list", "table", family, &tag])? else { return Ok(false) };
        if listing.shape() != Shape::of_text(&text) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes both tables; absent ones are fine.
pub(super) fn remove_tables(tag: &str) -> Result<()> {
    let removal = |family: &str| format!("table {family} {tag}\ndelete table {family} {tag}\n");
    run(&(removal("inet") + &removal("bridge")))
}
