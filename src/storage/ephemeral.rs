//! What does not outlive a container's run: all that an ephemeral start changes, or all of an
//! ephemeral container.
//!
//! An ephemeral start keeps the tree as it is then in `snapshots/.before`, and the end of the run
//! puts that back. It is there until then, so a host that goes down meanwhile loses nothing but the
//! changes: the next start puts it back first.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Activity, Purpose, backend};
use crate::error::{Context, Result};
use crate::progress::Progress;
use crate::store::{self, Layout, Origin};
use crate::sys::fs::read_text;
use crate::types::ContainerName;

/// Beside the kept tree: the inode of what holds it, which distinguishes it from the changed one.
const KEPT: &str = "kept";

fn before(layout: &Layout, name: &ContainerName) -> PathBuf {
    layout.snapshots(name).join(".before")
}

/// Whether `place`, among the snapshots of a container, is what an ephemeral start will put back.
pub(crate) fn is_kept(place: &Path) -> bool {
    place.file_name().is_some_and(|file| file == ".before")
}

/// Keeps the tree of a container, which is mounted nowhere, for [`end`] to put back.
pub(crate) fn begin(layout: &Layout, name: &ContainerName) -> Result<()> {
    let step = || format!("keep the files of `{name}` as they are");
    end(layout, name).context(step)?;
    let backend = backend(layout, &Origin::read(layout, name)?.storage)?;
    let making = layout.snapshots(name).join(".making");
    backend.destroy(&making)?;
    store::remove_tree(&making)?;
    fs::create_dir_all(&making).context(step)?;
    let progress = if backend.shares() { Progress::hidden() } else { Progress::bytes(format!("copy `{name}`"), 0) };
    // To be the container again it must be fit to be written to.
    backend
        .duplicate(&layout.container(name), Activity::Idle, &making, Purpose::Container, &progress)
        .and_then(|remarks| remarks.require_none())
        .context(step)?;
    progress.finish();
    let kept = inode(&backend.holder(&making))?;
    store::replace_file(&making.join(KEPT), kept.to_string().as_bytes(), 0o600)?;
    fs::rename(&making, before(layout, name)).context(step)?;
    store::sync_dir(&layout.snapshots(name))
}

/// Undoes what an ephemeral run has changed, or removes the container if all of it is ephemeral.
///
/// Nothing to do is done already. Starts no thread: supervisors call it, at the end and, for those
/// that were killed, at the beginning.
pub(crate) fn end(layout: &Layout, name: &ContainerName) -> Result<()> {
    let kept = before(layout, name);
    if kept.symlink_metadata().is_err() {
        return Ok(());
    }
    let step = || format!("put back the files of `{name}`");
    let backend = backend(layout, &Origin::read(layout, name)?.storage)?;
    let recorded = read_text(&kept.join(KEPT)).context(step)?;
    // Not so where we were killed between this exchange and the next step.
    if recorded.trim() == inode(&backend.holder(&kept))?.to_string() {
        backend.exchange(&kept, &layout.container(name)).context(step)?;
    }
    // Out of sight before it goes piece by piece: half of it must never be put back.
    let away = layout.snapshots(name).join(".after");
    backend.destroy(&away)?;
    store::remove_tree(&away)?;
    fs::rename(&kept, &away).context(step)?;
    backend.destroy(&away)?;
    store::remove_tree(&away)?;
    // Succeeds where there are no snapshots.
    let _ = fs::remove_dir(layout.snapshots(name));
    Ok(())
}

fn inode(path: &Path) -> Result<u64> {
    Ok(path.symlink_metadata().context(|| format!("look at `{}`", path.display()))?.ino())
}

/// Removes a container whose origin says that it is ephemeral. The caller is its supervisor.
pub(crate) fn remove(layout: &Layout, name: &ContainerName) -> Result<()> {
    let origin = Origin::read(layout, name)?;
    if !origin.ephemeral {
        return Ok(());
    }
    let step = || format!("remove `{name}`, which is ephemeral");
    let backend = backend(layout, &origin.storage)?;
    let trash_path = layout.trash().join(name);
    fs::create_dir_all(layout.trash()).context(step)?;
    fs::rename(layout.container(name), &trash_path).context(step)?;
    store::sync_dir(layout.containers())?;
    for snapshot in fs::read_dir(trash_path.join("snapshots")).into_iter().flatten().flatten() {
        backend.destroy(&snapshot.path())?;
    }
    backend.destroy(&trash_path)?;
    store::remove_tree(&trash_path)?;
    store::remove_tree(&layout.log_dir(name))
}
