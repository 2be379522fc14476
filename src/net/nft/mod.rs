//! The tables `inet lxm` and `bridge lxm`, or those of another owner's names ([`super::owner`]): written
//! whole each time, and again when somebody has flushed them. Nothing else is ever touched here.

mod elements;
mod guard;
mod keep;
pub mod tables;

pub use keep::{Keeper, repair, spawn as spawn_keeper};

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

use super::serve::{self, GuestEntry, guests};
use super::settings::{BridgeSettings, NetworkFile};
use super::{bridge, owner, publish};
use crate::error::{Context, Error, Result};
use crate::store::{FileLock, Layout};
use crate::types::Mac;
use elements::Kernel;
use tables::Facts;

/// An address, and the station that it is the one's of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holding {
    pub mac: Mac,
    pub address: IpAddr,
}

/// What a guest on a bridge of lxm's has from its start to its end, besides leases: the addresses that
/// lxm sets, and those that its kernel makes of the hardware address that lxm chose (RFC 4291,
/// appendix A), which anybody can know beforehand.
pub fn holdings(settings: &BridgeSettings, guest: &GuestEntry) -> Vec<Holding> {
    let link_local = bridge::link_local(guest.mac);
    let identifier = u128::from(link_local) & u128::from(u64::MAX);
    let made = settings.ipv6.map(|net| Ipv6Addr::from(u128::from(prefix_of(net.network())) << 64 | identifier));
    let six = [Some(link_local), made].into_iter().flatten().map(IpAddr::V6);
    let all = guest.addresses.iter().copied().chain(six);
    all.map(|address| Holding { mac: guest.mac, address }).collect()
}

/// The upper half of an address, which is its network: a /64.
fn prefix_of(address: Ipv6Addr) -> u64 {
    (u128::from(address) >> 64) as u64
}

/// Writes both tables for the bridges that are there; without any, removes them.
pub fn apply(layout: &Layout) -> Result<()> {
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
pub fn apply_translation(layout: &Layout) -> Result<()> {
    let _lock = lock(layout)?;
    let facts = facts(layout)?;
    if facts.bridges.is_empty() && facts.published.is_empty() {
        let tag = &facts.tag;
        return run(&format!("table inet {tag}\ndelete table inet {tag}\n"));
    }
    run(&tables::inet_table(&facts)).context(|| "write the rules of the firewall")
}

/// Held by who writes the tables, and by who changes what they are made of.
fn lock(layout: &Layout) -> Result<FileLock> {
    FileLock::acquire(&layout.network_run().join("nft.lock"))
}

fn facts(layout: &Layout) -> Result<Facts> {
    let mut facts = Facts { tag: owner::tag(layout)?, published: publish::all(layout)?, ..Facts::default() };
    for (name, settings) in NetworkFile::load(layout)?.bridge {
        if !owner::has(layout, &name) {
            continue;
        }
        for guest in guests::read(layout, &name)?.into_values() {
            facts.fixed.extend(holdings(&settings, &guest));
        }
        let leases = serve::status(layout, &name).ok().flatten().map(|status| status.guests).unwrap_or_default();
        facts.leased.extend(
            leases.into_iter().filter_map(|guest| Some(Holding { mac: guest.mac, address: guest.leased?.into() })),
        );
        facts.bridges.push((name, settings));
    }
    // What passed since the servers last wrote their status.
    facts.leased.extend(leased(&facts.tag)?);
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
fn pairs(listing: &str) -> impl Iterator<Item = (u128, u128)> {
    let hexadecimal = |text: &str| u128::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok();
    listing.split(',').filter_map(move |element| {
        let (first, second) = element.rsplit_once('{').map_or(element, |(_, first)| first).split_once(" . ")?;
        Some((hexadecimal(first)?, hexadecimal(second.split_whitespace().next()?)?))
    })
}

fn station(number: u128) -> Option<Mac> {
    let [0, 0, a, b, c, d, e, f] = u64::try_from(number).ok()?.to_be_bytes() else { return None };
    Some(Mac([a, b, c, d, e, f]))
}

/// What the rules have learnt from the lease server's answers.
fn leased(tag: &str) -> Result<Vec<Holding>> {
    let listing = list(&["list", "set", "bridge", tag, "leased"])?.unwrap_or_default();
    let holding = |(mac, address)| {
        let address = Ipv4Addr::from(u32::try_from(address).ok()?).into();
        Some(Holding { mac: station(mac)?, address })
    };
    Ok(pairs(&listing).filter_map(holding).collect())
}

/// Makes addresses their station's alone, before its first packet; its guest's file is there already, so
/// that tables that are written later have them too.
pub fn give(layout: &Layout, holdings: &[Holding]) -> Result<()> {
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
    let listing = list(&["list", "set", "bridge", tag, "bound6"])?.unwrap_or_default();
    let of_taken = pairs(&listing).filter(|(address, _)| taken.contains(&Ipv6Addr::from(*address)));
    let mut kernel = Kernel::new(tag)?;
    for (address, mac) in of_taken {
        let Some(mac) = station(mac) else { continue };
        let [_, bound] = elements::proofs(&Holding { mac, address: Ipv6Addr::from(address).into() });
        kernel.take(&[bound])?;
    }
    Ok(())
}

/// Ends what [`give`] began; what is gone already is fine.
pub fn take_back(layout: &Layout, holdings: &[Holding]) -> Result<()> {
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
pub fn hand_on(layout: &Layout, holders: &BTreeMap<Ipv4Addr, Option<Mac>>) -> Result<()> {
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
        let pairs_of = |listing| pairs(listing).collect::<Vec<_>>();
        assert_eq!(pairs_of(listing), [(0x0200_0000_0007, 0x0a63_0005), (0x263a_9a14_7be0, 0x0ac0_ee05)]);
        assert_eq!(station(0x0200_0000_0007), Some(Mac([2, 0, 0, 0, 0, 7])));
        assert_eq!((station(1 << 48), pairs_of("").len()), (None, 0));
    }

    #[test]
    fn a_guest_has_the_addresses_that_lxm_gives_from_its_start() {
        let settings: BridgeSettings = toml::from_str("ipv6 = \"fd00:1::1/64\"").unwrap();
        let guest = GuestEntry {
            name: "web".parse().unwrap(),
            mac: Mac([0x10, 0x66, 0x6a, 0, 0, 1]),
            reserved: None,
            addresses: vec!["10.0.3.9".parse().unwrap()],
        };
        let held: Vec<String> = holdings(&settings, &guest).iter().map(|held| held.address.to_string()).collect();
        assert_eq!(held, ["10.0.3.9", "fe80::1266:6aff:fe00:1", "fd00:1::1266:6aff:fe00:1"]);
    }
}
