//! Which backend a new container gets.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::assemble::Durability;
use super::idmap::{GuestIds, maps_ids};
use super::layers::Layers;
use super::{assemble, backend, btrfs, dir, overlay};
use crate::error::{Context, Error, Result};
use crate::store::{FileLock, Layout, remove_tree};
use crate::sys;
use crate::types::IdRange;

/// A backend and why it was taken, to be shown to the admin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendChoice {
    pub backend: &'static str,
    pub why: String,
}

/// The backend for a new container: `requested` (a backend's name, or `auto`).
///
/// `auto` takes what makes containers in milliseconds where they are kept: snapshots of subvolumes
/// on btrfs, reflinks where the file system has them, else an overlay on the image.
pub fn choose(layout: &Layout, requested: &str) -> Result<BackendChoice> {
    let containers = layout.containers();
    std::fs::create_dir_all(containers).context(|| format!("make `{}`", containers.display()))?;
    let on_btrfs = sys::btrfs::is_btrfs(containers)?;
    let dir = containers.display();
    if requested != "auto" {
        let chosen = backend(layout, requested)?.name();
        if chosen == btrfs::NAME && !on_btrfs {
            return Err(Error::host_lacks(format!("storage `btrfs`: `{dir}` is not on a btrfs file system"))
                .hint("`auto` takes what suits the file system"));
        }
        return Ok(BackendChoice { backend: chosen, why: "as asked for".into() });
    }
    let choice = |backend, why: String| Ok(BackendChoice { backend, why });
    if on_btrfs {
        return choice(btrfs::NAME, format!("`{dir}` is on a btrfs"));
    }
    let images = layout.images();
    std::fs::create_dir_all(&images).context(|| format!("make `{}`", images.display()))?;
    if reflinks(&images, containers)? {
        return choice(dir::NAME, format!("the file system of `{dir}` has reflinks"));
    }
    match overlay_works(layout) {
        Ok(()) => choice(overlay::NAME, format!("the file system of `{dir}` has no reflinks")),
        Err(e) => choice(dir::NAME, format!("no overlay on `{dir}`: {e}")),
    }
}

/// Whether a file in `from` can share its blocks with one in `to`.
fn reflinks(from: &Path, to: &Path) -> Result<bool> {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    let device = |dir: &Path| -> std::io::Result<u64> { Ok(dir.metadata()?.dev()) };
    let try_it = || -> std::io::Result<bool> {
        if device(from)? != device(to)? {
            return Ok(false);
        }
        // Both in `to`: nothing can be made where images are kept on a read-only mount.
        let mut source = tempfile::tempfile_in(to)?;
        // Nothing of an empty file can be shared, and any file system may say that this worked.
        source.write_all(&[1; 4096])?;
        let target = tempfile::tempfile_in(to)?;
        Ok(rustix::fs::ioctl_ficlone(&target, &source).is_ok())
    };
    try_it().context(|| format!("look for reflinks in `{}`", to.display()))
}

/// Tries to merge two empty layers where the containers are, with their ids mapped: the kernel alone knows what
/// it can use. In a container, images may be on another file system than `containers` in this.
fn overlay_works(layout: &Layout) -> Result<()> {
    let _lock = FileLock::acquire(&trial_lock(layout))?;
    let place = trial_place(layout);
    remove_tree(&place)?;
    let layers = Layers::new(layout);
    let (upper, lower) = (layers.prepare(&place)?, layers.prepare(&place)?);
    let userns = sys::userns::for_a_try()?;
    let ids = GuestIds { userns: userns.as_fd(), range: IdRange { base: 0, len: 1 } };
    if !maps_ids(&layout.images(), ids.userns)? {
        remove_tree(&place)?;
        return Err(Error::host_lacks(format!("the file system of `{}` cannot map ids", layout.images().display())));
    }
    let parts = assemble::OverlayParts { lowers: vec![lower.join("fs")], upper: Some(upper) };
    let tried = sys::mount::in_private_namespace(|| assemble::merge(&parts, Some(ids), Durability::Volatile, &place));
    remove_tree(&place)?;
    tried.map(drop)
}

/// Where [`overlay_works`] tries, below the staging place; it belongs to the holder of the lock.
fn trial_place(layout: &Layout) -> PathBuf {
    layout.staging().join(".overlay-trial")
}

fn trial_lock(layout: &Layout) -> PathBuf {
    layout.lock_dir().join(".overlay-trial")
}

/// Removes what a killed command has left of its trial.
pub(super) fn sweep_trial(layout: &Layout) -> Result<()> {
    match FileLock::try_acquire(&trial_lock(layout))? {
        Some(_lock) => remove_tree(&trial_place(layout)),
        None => Ok(()),
    }
}
