//! `boot.toml` and `failure.toml`: what of a run cannot be observed.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::Layout;
use crate::config;
use crate::error::{Context, Error, Result};
use crate::sys::fs::read_text;
use crate::sys::process;
use crate::types::{ContainerName, Generation, IdRange};

/// `boot.toml`: what of a running container cannot be observed from outside.
///
/// It is only worth anything while the alive lock is held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BootRecord {
    pub supervisor: Generation,
    /// The guest's PID 1 seen from the host.
    pub leader: Generation,
    /// RFC 3339, UTC.
    pub started: String,
    pub privileged: bool,
    pub init: String,
    /// What kind of init it is, as `boot.init-type` writes it; empty in records of an earlier lxm.
    #[serde(default)]
    pub init_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<IdRange>,
    /// Its cgroup below each hierarchy's mount point, without a leading slash: `lxm/web`.
    pub cgroup: String,
    /// Host-side names of its network links.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// Where the time of the start went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageTime>,
}

/// The time as records have it: UTC, to the second (RFC 3339).
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct StageTime {
    pub stage: String,
    pub us: u64,
}

impl BootRecord {
    /// Reads it; `None` where there is none.
    pub(crate) fn read(layout: &Layout, name: &ContainerName) -> Result<Option<Self>> {
        let file = layout.boot_record(name);
        match read_text(&file) {
            Ok(text) => config::parse(&text, &file).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).context(|| format!("read `{}`", file.display())),
        }
    }

    /// That of a container whose guest runs; fails with `Kind::Conflict` where none does.
    pub(crate) fn of_running(layout: &Layout, name: &ContainerName) -> Result<Self> {
        layout.require(name)?;
        let record = Self::read(layout, name)?.filter(|record| process::is_same(&record.leader));
        record.ok_or_else(|| layout.not_running(name))
    }

    /// The guest's root directory as it sees it itself; fails with `Kind::Conflict` once the guest has ended.
    pub(crate) fn open_root(&self, name: &ContainerName) -> Result<OwnedFd> {
        let path = format!("/proc/{}/root", self.leader.pid);
        let root = rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        // Asked after it was opened: a pid that was given to another process in between is found out.
        if !process::is_same(&self.leader) {
            return Err(Error::conflict(format!("`{name}` has just stopped")).hint("try again"));
        }
        root.context(|| format!("open `{path}`"))
    }

    /// The cgroup of a running container below each hierarchy's mount point.
    pub(crate) fn cgroup_of(layout: &Layout, name: &ContainerName) -> Result<String> {
        Ok(Self::read(layout, name)?.map_or_else(|| layout.cgroup(name), |record| record.cgroup))
    }

    /// Writes it. Not synced: it is on a tmpfs and worthless after a crash of the host.
    pub(crate) fn write(&self, layout: &Layout, name: &ContainerName) -> Result<()> {
        write_volatile(&layout.boot_record(name), self)
    }
}

/// Keeps why a boot failed. What cannot be kept is in the log all the same.
pub(crate) fn write_failure(layout: &Layout, name: &ContainerName, error: &Error) {
    let _ = write_volatile(&layout.failure_record(name), error);
}

/// Why the last boot failed is of no interest in the next one.
pub(crate) fn forget_failure(layout: &Layout, name: &ContainerName) {
    let _ = std::fs::remove_file(layout.failure_record(name));
}

/// Why the last boot of a container failed, in its supervisor's own words, if it has left some.
pub(crate) fn read_failure(layout: &Layout, name: &ContainerName) -> Option<Error> {
    let text = read_text(&layout.failure_record(name)).ok()?;
    toml::from_str(&text).ok()
}

/// Replaces a record under /run by rename, so that a reader sees the old or the new.
pub(crate) fn write_volatile<T: Serialize>(file: &Path, record: &T) -> Result<()> {
    let text = toml::to_string(record).map_err(|e| Error::failed(e.to_string()))?;
    let temp = file.with_extension("tmp");
    std::fs::write(&temp, text)
        .and_then(|()| std::fs::rename(&temp, file))
        .context(|| format!("write `{}`", file.display()))
}
