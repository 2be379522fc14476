//! Directories of container managers in the guest, where its root file system is an overlay.
//!
//! They make overlays of their own, whose upper layer must not be on one. Each is a plain directory of
//! the host below `nested` in the container's own, shown in the guest where the manager looks for it.
//! It belongs to the container alone: snapshots, copies and exports do not have it.

use std::fs::{self, DirBuilder};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::idmap::{GuestIds, prepare_mount};
use crate::error::{Context, Error, Result};
use crate::sys::mount::copy_tree;

/// Where docker, containerd, podman and lxm keep images and containers.
pub(crate) const DIRECTORIES: [&str; 4] =
    ["/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/lxm"];

/// A detached mount of the directory that the guest sees at `target`, made where it is missing.
pub(crate) fn open(place: &Path, target: &str, ids: Option<GuestIds<'_>>) -> Result<OwnedFd> {
    let dir = directory(place, target);
    let step = || format!("make `{}`", dir.display());
    // 0700 like the container's: a guest's root can make set-user-id programs of root's in it.
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).context(step)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)).context(step)?;
    let mount = copy_tree(&dir, false)?;
    // Where the layers beside it have their ids mapped, it can too.
    if !prepare_mount(&mount, ids.into()).context(step)? {
        return Err(Error::host_lacks(format!("the file system of `{}` cannot map ids", dir.display())));
    }
    Ok(mount)
}

/// Those of the directories in which a manager of the container keeps something.
pub(crate) fn in_use(place: &Path) -> Vec<&'static str> {
    let is_used =
        |target: &&str| fs::read_dir(directory(place, target)).is_ok_and(|mut entries| entries.next().is_some());
    DIRECTORIES.into_iter().filter(is_used).collect()
}

fn directory(place: &Path, target: &str) -> PathBuf {
    place.join("nested").join(target.rsplit('/').next().unwrap_or(target))
}
