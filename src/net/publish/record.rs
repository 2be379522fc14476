//! Where published ports lead: `publish.toml` of each running container that has some.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{self, PublishedPort};
use crate::error::{Context, Result};
use crate::net::GuestRecord;
use crate::store::{FileLock, Layout};
use crate::sys::fs::read_text;
use crate::types::{ContainerName, Generation};

/// A published port whose guest has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub publish: PublishedPort,
    pub guest: IpAddr,
}

impl Published {
    /// Not where it listens on loopback, nor on addresses of the other family.
    pub(crate) fn is_reached_from_outside(&self) -> bool {
        self.publish.listen.is_none_or(|at| !at.is_loopback() && at.is_ipv4() == self.guest.is_ipv4())
    }
}

/// `publish.toml` of a running container: who carries its ports, and where they lead.
///
/// Worth something only while its lock is held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Record {
    pub(super) process: Generation,
    #[serde(default, rename = "interface", skip_serializing_if = "Vec::is_empty")]
    pub(super) interfaces: Vec<PublishTarget>,
}

/// An interface of the guest with published ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct PublishTarget {
    pub(super) guest: String,
    pub(super) addresses: Vec<IpAddr>,
}

const LOCK: &str = "publish.lock";

const RECORD: &str = "publish.toml";

pub(super) fn lock_file(layout: &Layout, name: &ContainerName) -> PathBuf {
    layout.run_dir(name).join(LOCK)
}

pub(super) fn record_file(layout: &Layout, name: &ContainerName) -> PathBuf {
    layout.run_dir(name).join(RECORD)
}

/// Reads the record of a container's run directory.
pub(super) fn read(run_dir: &Path) -> Result<Option<Record>> {
    let file = run_dir.join(RECORD);
    match read_text(&file) {
        Ok(text) => config::parse(&text, &file).map(Some),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).context(|| format!("read `{}`", file.display())),
    }
}

/// Whether somebody carries the ports of the container with this run directory.
pub(crate) fn is_carried(run_dir: &Path) -> Result<bool> {
    FileLock::is_held(&run_dir.join(LOCK))
}

/// Every published port that leads somewhere, of all containers.
pub(crate) fn all(layout: &Layout) -> Result<Vec<Published>> {
    let mut all = Vec::new();
    for (run_dir, record) in GuestRecord::of_all_directories(layout) {
        let publishes = record.links.iter().any(|link| !link.publish.is_empty());
        if !publishes || !is_carried(&run_dir)? {
            continue;
        }
        for target in read(&run_dir)?.map(|record| record.interfaces).unwrap_or_default() {
            let ports = record.links.iter().filter(|link| link.guest == target.guest).flat_map(|link| &link.publish);
            for publish in ports {
                let first = |six: bool| target.addresses.iter().find(|address| address.is_ipv6() == six).copied();
                let guests = [first(false), first(true)].into_iter().flatten();
                all.extend(guests.map(|guest| Published { publish: *publish, guest }));
            }
        }
    }
    Ok(all)
}
