//! The tables `inet lxm` and `bridge lxm`: written whole each time, and again when somebody has
//! flushed them. Nothing but these two tables is ever touched here.

pub mod tables;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use super::serve::guests;
use super::settings::NetworkFile;
use crate::error::{Context, Error, Result};
use crate::store::{FileLock, Layout};
use crate::types::Mac;
use tables::Facts;

/// Writes both tables for the bridges that are there; without any, removes them.
pub fn apply(layout: &Layout) -> Result<()> {
    // Two writers would each write what they knew, and the older might come last.
    let _lock = FileLock::acquire(&layout.network_run().join("nft.lock"))?;
    let facts = facts(layout)?;
    if facts.bridges.is_empty() {
        return remove_tables();
    }
    run(&(tables::inet_table(&facts) + &tables::bridge_table(&facts))).context(|| "write the rules of the firewall")
}

fn facts(layout: &Layout) -> Result<Facts> {
    let mut facts = Facts::default();
    for (name, settings) in NetworkFile::load(layout)?.bridge {
        if nix::net::if_::if_nametoindex(name.as_str()).is_err() {
            continue;
        }
        for guest in guests::read(layout, &name)?.into_values() {
            let ipv4 = guest.addresses.iter().filter_map(|address| match address {
                IpAddr::V4(address) => Some((guest.mac, *address)),
                IpAddr::V6(_) => None,
            });
            facts.fixed.extend(ipv4);
        }
        facts.bridges.push((name, settings));
    }
    facts.fixed.sort();
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
    let mut child = child.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::host_lacks("the program `nft` is not there").hint("install the package nftables")
        }
        _ => Error::from(e).step("run `nft`"),
    })?;
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

/// Lets a station use an address that lxm has set, before its first packet.
pub fn add_fixed(pairs: &[(Mac, Ipv4Addr)]) -> Result<()> {
    let list = pairs.iter().map(|(mac, address)| format!("{} . {:#010x}", tables::number(*mac), u32::from(*address)));
    run(&format!("add element bridge lxm fixed {{ {} }}\n", list.collect::<Vec<_>>().join(", ")))
}

/// Removes both tables; absent ones are fine.
pub fn remove_tables() -> Result<()> {
    run("table inet lxm\ndelete table inet lxm\ntable bridge lxm\ndelete table bridge lxm\n")
}
