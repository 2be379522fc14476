//! The snapshots of a container: `snapshots/NAME`, with the tree in its backend's form, the
//! configuration and the origin of then, and `snapshot.toml`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Layout, replace_file};
use crate::config;
use crate::error::{Context, Error, Result};
use crate::sys::fs::read_text;
use crate::types::{ContainerName, SnapshotName};

/// `snapshot.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SnapshotRecord {
    #[serde(with = "as_text")]
    pub created: jiff::Timestamp,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The schedule made it, and may remove it.
    #[serde(default)]
    pub scheduled: bool,
    /// The guest ran.
    #[serde(default)]
    pub running: bool,
}

/// A snapshot that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub name: SnapshotName,
    pub place: PathBuf,
    pub record: SnapshotRecord,
}

impl SnapshotRecord {
    pub const FILE: &str = "snapshot.toml";

    pub fn write(&self, place: &std::path::Path) -> Result<()> {
        let text = toml::to_string(self).map_err(|e| Error::failed(e.to_string()))?;
        replace_file(&place.join(Self::FILE), text.as_bytes(), 0o644)
    }
}

impl Snapshot {
    /// The snapshot `snapshot` of the container `name`; fails with `Kind::NotFound` where it has none.
    pub fn read(layout: &Layout, name: &ContainerName, snapshot: &SnapshotName) -> Result<Self> {
        layout.require(name)?;
        let place = layout.snapshots(name).join(snapshot);
        let file = place.join(SnapshotRecord::FILE);
        let text = match read_text(&file) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::not_found(format!("`{name}` has no snapshot `{snapshot}`")).hint(format!(
                    "`{}` shows those that it has",
                    layout.command(format_args!("snapshot list {name}"))
                )));
            }
            other => other.context(|| format!("read `{}`", file.display()))?,
        };
        Ok(Snapshot { name: snapshot.clone(), place, record: config::parse(&text, &file)? })
    }

    /// The snapshots of a container, oldest first.
    pub fn list(layout: &Layout, name: &ContainerName) -> Result<Vec<Self>> {
        layout.require(name)?;
        let dir = layout.snapshots(name);
        let entries = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.context(|| format!("read `{}`", dir.display()))?,
        };
        let mut snapshots = Vec::new();
        for entry in entries {
            let entry = entry.context(|| format!("read `{}`", dir.display()))?;
            // What has no such name is a snapshot in the making or on its way out.
            if let Some(snapshot) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                snapshots.push(Snapshot::read(layout, name, &snapshot)?);
            }
        }
        snapshots.sort_by(|a, b| (a.record.created, &a.name).cmp(&(b.record.created, &b.name)));
        Ok(snapshots)
    }
}

/// RFC 3339, UTC.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &jiff::Timestamp, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<jiff::Timestamp, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
