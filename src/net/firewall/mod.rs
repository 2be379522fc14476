//! Firewalls of others, where they would keep guests from the network.
//!
//! An `accept` in a table of ours ends our chain alone: a `drop` in another table still drops. So where
//! iptables' tables (docker's, ufw's) or firewalld rule, the bridge is let through there, at run time only.
//! Tables that an administrator wrote for nft are theirs: `lxm check` reports them.

mod firewalld;
mod iptables;
mod wanted;

use super::{bridge, rules};
use crate::config::bridge::NetworkFile;
use crate::error::{Context, Result};
use crate::store::Layout;

pub(crate) use firewalld::stands_in_the_way as firewalld_stands_in_the_way;
pub(crate) use iptables::{Gate, closed_gate, has_legacy};

/// Lets the bridges through the firewalls that are there. Repeating it changes nothing.
pub(super) fn open(layout: &Layout) -> Result<()> {
    let _lock = rules::lock(layout)?;
    let bridges = bridges(layout)?;
    iptables::open_legacy(&bridges);
    let script = iptables::insertions(&bridges)?;
    if !script.is_empty() {
        rules::run(&script).context(|| "let the bridge through iptables' rules")?;
    }
    bridges.iter().try_for_each(|bridge| firewalld::trust(bridge))
}

/// The same for the tables of the old iptables alone, whose changes the kernel does not report.
pub(super) fn open_legacy(layout: &Layout) -> Result<()> {
    let _lock = rules::lock(layout)?;
    iptables::open_legacy(&bridges(layout)?);
    Ok(())
}

/// Takes back what [`open`] has done for a bridge.
pub(super) fn close(bridge: &str) -> Result<()> {
    iptables::close_legacy(bridge);
    let script = iptables::deletions(bridge)?;
    if !script.is_empty() {
        rules::run(&script).context(|| "take the bridge out of iptables' rules")?;
    }
    firewalld::distrust(bridge)
}

/// The bridges of ours that are there.
fn bridges(layout: &Layout) -> Result<Vec<String>> {
    Ok(NetworkFile::load(layout)?.bridge.into_keys().filter(|name| bridge::exists(name)).collect())
}
