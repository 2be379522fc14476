//! What a killed supervisor leaves on the host, and how it goes.

use std::path::{Path, PathBuf};

use crate::cgroup::{ContainerCgroup, Hierarchies};
use crate::error::{Context, Error, Result};
use crate::host::force::Stray;
use crate::net::{self, GuestRecord};
use crate::storage;
use crate::store::{self, AliveLock, BootRecord, LastRun, Layout, OperationLock, Origin};
use crate::types::ContainerName;

/// A leftover that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removed {
    /// `cgroup`, `links`, `records`, `staging`, `trash`, `key`, `image`, `layers`
    pub what: &'static str,
    pub which: String,
}

/// Removes what a supervisor of `name` left when it died: processes and groups, links, its run directory.
/// Returns what there was, normally nothing.
///
/// Fails with `Kind::Conflict` if it runs. The caller holds the operation lock.
pub(crate) fn sweep_run(
    layout: &Layout,
    name: &ContainerName,
    hierarchies: &Hierarchies,
    _lock: &OperationLock,
) -> Result<Vec<Removed>> {
    Stray::refuse(layout, name)?;
    // Held to the end, so that a start that does not take the operation lock, such as systemd's, is refused
    // meanwhile.
    let Some(_alive) = AliveLock::take(layout, name)? else {
        return Err(Error::conflict(format!("container `{name}` is running")));
    };
    let mut removed = Vec::new();
    // An unreadable record is a leftover like any other.
    let record = BootRecord::read(layout, name).ok().flatten();
    for group in groups(layout, name, record.as_ref()) {
        let mounts = hierarchies.v1_mounts().into_iter().chain(hierarchies.unified.as_deref());
        if mounts.map(|mount| mount.join(&group)).any(|dir| dir.exists()) {
            let cgroup = ContainerCgroup::new(hierarchies.clone(), group.as_str());
            cgroup.kill_and_wait()?;
            cgroup.remove()?;
            removed.push(Removed { what: "cgroup", which: group });
        }
    }
    if !matches!(GuestRecord::read(layout, name), Ok(None)) {
        net::sweep(layout, name)?;
        removed.push(Removed { what: "links", which: name.to_string() });
    }
    let run = layout.run_dir(name);
    if record.is_some() || layout.control_socket(name).exists() {
        removed.push(Removed { what: "records", which: run.display().to_string() });
    }
    if record.is_some() {
        LastRun::lost().write(layout, name);
    }
    store::remove_tree(&run)?;
    Ok(removed)
}

/// The groups that may be left: ours of this name, and the one it was started in if that is ours
/// too. systemd removes its own.
fn groups(layout: &Layout, name: &ContainerName, record: Option<&BootRecord>) -> Vec<String> {
    let mut groups = vec![layout.cgroup(name)];
    let recorded = record.map(|record| record.cgroup.clone());
    groups.extend(recorded.filter(|group| group.starts_with("lxm") && *group != groups[0]));
    groups
}

/// The place where a container waits for its removal.
pub(crate) fn trash_path(layout: &Layout, name: &ContainerName) -> PathBuf {
    layout.trash().join(name)
}

/// The same where that is taken by one that could not be removed; under a name that a sweep finds.
pub(crate) fn free_trash_path(layout: &Layout, name: &ContainerName) -> Result<PathBuf> {
    let names = (2..100).filter_map(|number| format!("{name}-{number}").parse::<ContainerName>().ok());
    let mut places = names.map(|name| trash_path(layout, &name));
    let free = places.find(|place| place.symlink_metadata().is_err());
    free.ok_or_else(|| {
        Error::conflict(format!("earlier containers `{name}` are still in `{}`", layout.trash().display()))
            .hint("`lxm gc` says why they cannot be removed")
    })
}

/// Removes a container that is in the trash already, with its snapshots.
pub(crate) fn empty(layout: &Layout, place: &Path) -> Result<()> {
    let snapshots = place.join("snapshots");
    let entries = std::fs::read_dir(&snapshots).into_iter().flatten().flatten();
    let places = entries.map(|entry| entry.path()).chain([place.to_owned()]);
    // What of one cannot be removed keeps nothing else from it.
    let failed: Vec<Error> = places.filter_map(|place| discard_tree(layout, &place).err()).collect();
    let removed = store::remove_tree(place);
    // What the backend says of it knows more than what is left says.
    failed
        .into_iter()
        .map(Err)
        .chain([removed])
        .find(Result::is_err)
        .unwrap_or(Ok(()))
        .context(|| "remove what was destroyed")
}

/// Removes the tree of a place; where no origin names the backend, every backend removes what it knows.
fn discard_tree(layout: &Layout, place: &Path) -> Result<()> {
    if discard(layout, place).is_ok() && !place.join("rootfs").exists() {
        return Ok(());
    }
    discard_any(layout, place)
}

/// Removes what the backend keeps for a place that never became a container.
pub(crate) fn discard(layout: &Layout, place: &Path) -> Result<()> {
    match Origin::read_file(&place.join("origin.toml")) {
        Ok(origin) => storage::backend(layout, &origin.storage)?.destroy(place),
        // It is written before the backend makes anything.
        Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(()),
        Err(_) => discard_any(layout, place),
    }
}

/// Every backend removes what it knows.
fn discard_any(layout: &Layout, place: &Path) -> Result<()> {
    storage::BACKENDS.iter().try_for_each(|name| storage::backend(layout, name)?.destroy(place))
}
