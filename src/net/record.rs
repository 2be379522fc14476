//! `/run/lxm/NAME/network.toml`: how a started container is wired.
//!
//! Written before the first link is made and removed after the last is gone, so that a killed
//! supervisor's links can be found.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::allow::Allowance;
use crate::config::{self, PublishedPort};
use crate::error::{Context, Error, Result};
use crate::netserver::GuestEntry;
use crate::store::Layout;
use crate::sys::fs::read_text;
use crate::types::{ContainerName, Mac};

/// Its name in a container's run directory.
const FILE: &str = "network.toml";

/// The manager of links whose guest does nothing for them.
pub(crate) const MANAGED_BY_HOST: &str = "host";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct GuestRecord {
    /// The guest's PID 1 seen from the host.
    pub leader: i32,
    #[serde(default, rename = "link", skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkRecord>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LinkRecord {
    /// Its name in the guest.
    pub guest: String,
    pub mac: Mac,
    /// The host's end of a veth pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Other links of the host made for it, to be deleted with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub helpers: Vec<String>,
    /// The bridge that the host's end is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// The link group of the host's end, by which the rules know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// The VLAN that the host's end is in on its bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The address that is to be leased to it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Allowance::is_none")]
    pub allowance: Allowance,
    /// What a link moved to the guest is called on the host.
    #[serde(rename = "lent", default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
    /// Who configures it: `host`, or what in the guest does that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manager: String,
    /// Its lease is kept from outside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lease: bool,
    /// Addresses that lxm has set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<PublishedPort>,
}

impl LinkRecord {
    /// What the bridge's server and rules are to know of it.
    pub(super) fn entry(&self, name: ContainerName) -> GuestEntry {
        let (reserved, addresses) = (self.reserved, self.addresses.clone());
        let (allowed, allowed_macs) = (self.allowance.addresses.clone(), self.allowance.macs.clone());
        GuestEntry { name, mac: self.mac, reserved, addresses, allowed, allowed_macs }
    }
}

impl GuestRecord {
    fn file(layout: &Layout, name: &ContainerName) -> PathBuf {
        layout.run_dir(name).join(FILE)
    }

    pub(super) fn exists(layout: &Layout, name: &ContainerName) -> bool {
        Self::file(layout, name).exists()
    }

    /// Reads it; `None` where the container is not wired.
    pub(crate) fn read(layout: &Layout, name: &ContainerName) -> Result<Option<Self>> {
        Self::read_file(&Self::file(layout, name))
    }

    fn read_file(file: &Path) -> Result<Option<Self>> {
        match read_text(file) {
            Ok(text) => config::parse(&text, file).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).context(|| format!("read `{}`", file.display())),
        }
    }

    /// All containers of this directory that are wired, by name. One that cannot be read is left
    /// out: it is another command's to report, and must not keep the rest from working.
    pub(crate) fn all(layout: &Layout) -> Vec<(ContainerName, Self)> {
        let found = Self::all_in(&layout.own_run()).into_iter();
        found.filter_map(|(dir, record)| Some((dir.file_name()?.to_str()?.parse().ok()?, record))).collect()
    }

    /// Those of every directory, by their run directories: bridges, rules and ports are shared.
    pub(super) fn of_all_directories(layout: &Layout) -> Vec<(PathBuf, Self)> {
        layout.runs().iter().flat_map(|run| Self::all_in(run)).collect()
    }

    fn all_in(run: &Path) -> Vec<(PathBuf, Self)> {
        let Ok(entries) = std::fs::read_dir(run) else { return Vec::new() };
        let record_of = |entry: std::fs::DirEntry| {
            entry.file_name().to_str()?.parse::<ContainerName>().ok()?;
            let record = Self::read_file(&entry.path().join(FILE)).ok()??;
            Some((entry.path(), record))
        };
        let mut all: Vec<_> = entries.filter_map(|entry| record_of(entry.ok()?)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    pub(super) fn write(&self, layout: &Layout, name: &ContainerName) -> Result<()> {
        let dir = layout.run_dir(name);
        std::fs::create_dir_all(&dir).context(|| format!("make `{}`", dir.display()))?;
        crate::store::write_volatile(&Self::file(layout, name), self)
    }

    pub(super) fn remove(layout: &Layout, name: &ContainerName) -> Result<()> {
        let file = Self::file(layout, name);
        match std::fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::from(e).step(format!("remove `{}`", file.display())))
            }
            _ => Ok(()),
        }
    }
}
