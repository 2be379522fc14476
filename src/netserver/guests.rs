//! Which containers run on a bridge: one small file each, written by whoever wires them, read by
//! the bridge's server, which watches the directory.
//!
//! The file's presence is the fact. A supervisor that was killed leaves its file behind; the sweep
//! of its container retracts it.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use rustix::fs::{Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::{Context, Error, Result};
use crate::store::{Layout, remove_tree, replace_run_file};
use crate::types::{ContainerName, Mac};

/// One interface of a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GuestEntry {
    pub name: ContainerName,
    pub mac: Mac,
    /// The address that its lease must have; unset means any of the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Ipv4Addr>,
    /// Addresses that lxm itself set before init ran: known by name without a lease.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Networks that it may use addresses of without a lease, which none is leased from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<IpNetwork>,
    /// Further MAC addresses that it may send from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_macs: Vec<Mac>,
}

/// The running guests of one bridge, by MAC.
pub(crate) type Guests = HashMap<Mac, GuestEntry>;

pub(super) fn directory(layout: &Layout, bridge: &str) -> PathBuf {
    layout.network_run().join(bridge).join("guests")
}

fn file(layout: &Layout, bridge: &str, mac: Mac) -> PathBuf {
    directory(layout, bridge).join(mac.to_string())
}

/// Announces a guest to the bridge's server before its init runs; repeated, it replaces what was announced.
///
/// Needs no running server: one that starts later reads the file.
pub fn announce(layout: &Layout, bridge: &str, entry: &GuestEntry) -> Result<()> {
    let text = toml::to_string(entry).map_err(|e| Error::failed(format!("write a guest as TOML: {e}")))?;
    replace_run_file(&file(layout, bridge, entry.mac), text.as_bytes(), 0o644)
        .context(|| format!("announce `{}` on `{bridge}`", entry.name))
}

/// Ends what [`announce`] began: the name goes at once; an unknown guest is fine.
pub fn retract(layout: &Layout, bridge: &str, mac: Mac) -> Result<()> {
    remove_tree(&file(layout, bridge, mac))
}

/// The bridges that guests were ever announced on since the host booted.
pub(crate) fn bridges(layout: &Layout) -> Result<Vec<String>> {
    let dir = layout.network_run();
    let entries = match fs::read_dir(&dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.context(|| format!("read `{}`", dir.display()))?,
    };
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

/// How many interfaces of guests are on a bridge, about: their files are counted and not read.
pub(crate) fn how_many(layout: &Layout, bridge: &str) -> Result<usize> {
    match fs::read_dir(directory(layout, bridge)) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(0),
        entries => Ok(entries.context(|| format!("read the guests of `{bridge}`"))?.count()),
    }
}

/// Reads all guests of a bridge.
pub(crate) fn read(layout: &Layout, bridge: &str) -> Result<Guests> {
    match File::open(directory(layout, bridge)) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Guests::new()),
        opened => read_dir(&opened.context(|| format!("open the guests of `{bridge}`"))?.into()),
    }
}

/// Reads all guests from their open directory, whose path the caller need not be able to walk.
/// A file that is not a guest's is left out: it is a half-made one.
pub(super) fn read_dir(dir: &OwnedFd) -> Result<Guests> {
    let entries = rustix::fs::Dir::read_from(dir).context(|| "read the directory of guests")?;
    let guest = |file: &CStr| -> Option<GuestEntry> {
        let mac: Mac = file.to_str().ok()?.parse().ok()?;
        let fd = openat(dir, file, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = String::new();
        File::from(fd).take(64 << 10).read_to_string(&mut text).ok()?;
        config::parse::<GuestEntry>(&text, Path::new("guest")).ok().filter(|guest| guest.mac == mac)
    };
    let guests = entries.filter_map(|entry| guest(entry.ok()?.file_name()));
    Ok(guests.map(|guest| (guest.mac, guest)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_there_from_announce_to_retract() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let entry = GuestEntry {
            name: "web".parse().unwrap(),
            mac: "10:66:6a:00:00:01".parse().unwrap(),
            reserved: Some(Ipv4Addr::new(10, 0, 3, 9)),
            addresses: vec!["fd00::9".parse().unwrap()],
            allowed: vec!["10.0.4.0/24".parse().unwrap()],
            allowed_macs: vec!["00:00:5e:00:01:0a".parse().unwrap()],
        };
        assert!(read(&layout, "lxmbr0").unwrap().is_empty());
        announce(&layout, "lxmbr0", &entry).unwrap();
        announce(&layout, "lxmbr0", &entry).unwrap();
        assert_eq!(read(&layout, "lxmbr0").unwrap(), Guests::from([(entry.mac, entry.clone())]));
        retract(&layout, "lxmbr0", "10:66:6a:00:00:02".parse().unwrap()).unwrap();
        assert_eq!(read(&layout, "lxmbr0").unwrap().len(), 1);
        retract(&layout, "lxmbr0", entry.mac).unwrap();
        retract(&layout, "lxmbr0", entry.mac).unwrap();
        assert!(read(&layout, "lxmbr0").unwrap().is_empty());
    }

    #[test]
    fn what_is_not_a_guest_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let guests = directory(&layout, "b");
        fs::create_dir_all(&guests).unwrap();
        fs::write(guests.join(".tmp12"), "x").unwrap();
        fs::write(guests.join("10:66:6a:00:00:01"), "name = \"we").unwrap();
        fs::write(guests.join("10:66:6a:00:00:02"), "name = \"web\"\nmac = \"10:66:6a:00:00:03\"\n").unwrap();
        assert!(read(&layout, "b").unwrap().is_empty());
    }
}
