//! The tables `inet lxm` and `bridge lxm`, or those of another owner's names ([`super::owner`]): written whole each time, and again when somebody has
//! flushed them. Nothing but these two tables is ever touched here.

mod keep;
pub mod tables;

pub use keep::{Keeper, repair, spawn as spawn_keeper};

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use super::serve::{self, guests};
use super::settings::NetworkFile;
use super::{owner, publish};
use crate::error::{Context, Error, Result};
use crate::store::{FileLock, Layout};
use crate::types::Mac;
use tables::Facts;

/// Writes both tables for the bridges that are there; without any, removes them.
pub fn apply(layout: &Layout) -> Result<()> {
    // Two writers would each write what they knew, and the older might come last.
    let _lock = FileLock::acquire(&layout.network_run().join("nft.lock"))?;
    let facts = facts(layout)?;
    if facts.bridges.is_empty() && facts.published.is_empty() {
        return remove_tables(&facts.tag);
    }
    run(&(tables::inet_table(&facts) + &tables::bridge_table(&facts))).context(|| "write the rules of the firewall")
}

/// Writes the table that translates, after published ports or their guests' addresses changed. The
/// other one keeps what it has learnt.
pub fn apply_translation(layout: &Layout) -> Result<()> {
    let _lock = FileLock::acquire(&layout.network_run().join("nft.lock"))?;
    let facts = facts(layout)?;
    if facts.bridges.is_empty() && facts.published.is_empty() {
        let tag = &facts.tag;
        return run(&format!("table inet {tag}\ndelete table inet {tag}\n"));
    }
    run(&tables::inet_table(&facts)).context(|| "write the rules of the firewall")
}

fn facts(layout: &Layout) -> Result<Facts> {
    let mut facts = Facts { tag: owner::tag(layout)?, published: publish::all(layout)?, ..Facts::default() };
    for (name, settings) in NetworkFile::load(layout)?.bridge {
        if !owner::has(layout, &name) {
            continue;
        }
        for guest in guests::read(layout, &name)?.into_values() {
            let ipv4 = guest.addresses.iter().filter_map(|address| match address {
                IpAddr::V4(address) => Some((guest.mac, *address)),
                IpAddr::V6(_) => None,
            });
            facts.fixed.extend(ipv4);
        }
        let leases = serve::status(layout, &name).ok().flatten().map(|status| status.guests).unwrap_or_default();
        facts.leased.extend(leases.into_iter().filter_map(|guest| Some((guest.mac, guest.leased?))));
        facts.bridges.push((name, settings));
    }
    // What passed since the servers last wrote their status.
    facts.leased.extend(learnt(&list(&["list", "set", "bridge", &facts.tag, "leased"])?.unwrap_or_default()));
    facts.fixed.sort();
    facts.leased.sort();
    facts.leased.dedup();
    Ok(facts)
}

/// Runs `nft` on a whole transaction.
pub fn run(script: &str) -> Result<()> {
    let child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(not_run)?;
    // Short enough for the pipe, or read by nft while we write; a failure to write is nft's death,
    // which its status tells better.
    let _ = child.stdin.take().expect("it is piped").write_all(script.as_bytes());
    let output = child.wait_with_output().context(|| "run `nft`")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or("it does not say why").trim();
    Err(Error::failed(format!("`nft` refuses the rules: {first}")))
}

/// The pairs of a set as nft lists it: `0x263a9a147be0 . 0xac0ee05 expires 1h59m59s984ms, …`.
fn learnt(listing: &str) -> Vec<(Mac, Ipv4Addr)> {
    let hexadecimal = |text: &str| u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok();
    let pair = |element: &str| {
        let (mac, address) = element.rsplit_once('{').map_or(element, |(_, first)| first).split_once(" . ")?;
        let [0, 0, a, b, c, d, e, f] = hexadecimal(mac)?.to_be_bytes() else { return None };
        let address = hexadecimal(address.split_whitespace().next()?)?;
        Some((Mac([a, b, c, d, e, f]), Ipv4Addr::from(u32::try_from(address).ok()?)))
    };
    listing.split(',').filter_map(pair).collect()
}

/// Lets a station use an address that lxm has set, before its first packet.
pub fn add_fixed(layout: &Layout, pairs: &[(Mac, Ipv4Addr)]) -> Result<()> {
    let tag = owner::tag(layout)?;
    run(&format!("add element bridge {tag} fixed {{ {} }}\n", tables::pairs(pairs)))
}

/// Takes leased addresses from every station but the one that each belongs to now. A station that
/// had one before would else be believed for as long as the set remembers.
pub fn hand_on(layout: &Layout, holders: &BTreeMap<Ipv4Addr, Mac>) -> Result<()> {
    let tag = owner::tag(layout)?;
    let listing = list(&["list", "set", "bridge", &tag, "leased"])?.unwrap_or_default();
    let is_another_s = |(mac, address): &(Mac, Ipv4Addr)| holders.get(address).is_some_and(|holder| holder != mac);
    let stale: Vec<_> = learnt(&listing).into_iter().filter(is_another_s).collect();
    let mut script = String::new();
    if !stale.is_empty() {
        // Added first: one that has timed out meanwhile would fail the deletion.
        let stale = tables::pairs(&stale);
        script = format!(
            "add element bridge {tag} leased {{ {stale} }}\ndelete element bridge {tag} leased {{ {stale} }}\n"
        );
    }
    let holders: Vec<_> = holders.iter().map(|(address, mac)| (*mac, *address)).collect();
    script.push_str(&format!("add element bridge {tag} leased {{ {} }}\n", tables::pairs(&holders)));
    run(&script).context(|| "take addresses from those who had them")
}

/// Whether both tables are there.
pub fn is_whole(layout: &Layout) -> Result<bool> {
    let tag = owner::tag(layout)?;
    let tables = list(&["list", "tables"])?.unwrap_or_default();
    let has = |name: &str| tables.lines().any(|line| line.trim() == format!("table {name}"));
    Ok(has(&format!("inet {tag}")) && has(&format!("bridge {tag}")))
}

/// What `nft` lists; `None` where it knows no such object.
pub fn list(args: &[&str]) -> Result<Option<String>> {
    let output = Command::new("nft").args(args).stdin(Stdio::null()).output().map_err(not_run)?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn not_run(e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::host_lacks("the program `nft` is not there").hint("install the package nftables")
        }
        _ => Error::from(e).step("run `nft`"),
    }
}

/// Removes both tables; absent ones are fine.
pub fn remove_tables(tag: &str) -> Result<()> {
    let removal = |family: &str| format!("table {family} {tag}\ndelete table {family} {tag}\n");
    run(&(removal("inet") + &removal("bridge")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_nft_lists_them() {
        let listing = "table bridge lxm {\n\tset leased {\n\t\ttypeof @ll,48,48 . @nh,96,32\n\t\tsize 65535\n\t\t\
                       flags dynamic,timeout\n\t\ttimeout 2h\n\t\telements = { 0x20000000007 . 0xa630005 expires 1h59m,\n\t\t\t     \
                       0x263a9a147be0 . 0xac0ee05 expires 59m }\n\t}\n}\n";
        let pairs = learnt(listing);
        assert_eq!(pairs[0], (Mac([2, 0, 0, 0, 0, 7]), Ipv4Addr::new(10, 99, 0, 5)));
        assert_eq!(pairs[1], ("26:3a:9a:14:7b:e0".parse().unwrap(), Ipv4Addr::new(10, 192, 238, 5)));
        assert_eq!(pairs.len(), 2);
        assert!(learnt("").is_empty());
    }
}
