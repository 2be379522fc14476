//! `lxm destroy`: out of the way at once, then removed.

use std::os::unix::fs::DirBuilderExt;

use nix::mount::{MntFlags, umount2};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{autostart, stop};
use crate::cgroup::Hierarchies;
use crate::container::sweep;
use crate::error::{Context, Error, Kind, Result};
use crate::host::StopMode;
use crate::host::force::Stray;
use crate::storage::is_mount_point;
use crate::store::{self, AliveLock, Layout, OperationLock};
use crate::types::ContainerName;

/// What becomes of a container that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InUse {
    /// It stays: `Kind::Conflict`.
    Refuse,
    /// It is killed and unmounted first.
    Force,
}

/// Removes a container with its snapshots and logs.
///
/// It vanishes at once, by a rename, and is removed then: what is killed meanwhile is finished by
/// the next destroy or gc.
pub(crate) fn destroy(layout: &Layout, name: &ContainerName, in_use: InUse) -> Result<()> {
    let trash_path = sweep::trash_path(layout, name);
    let left_over = trash_path.symlink_metadata().is_ok();
    if !left_over {
        layout.require(name)?;
    }
    let lock = OperationLock::acquire(layout, name)?;
    let emptied = if left_over { sweep::empty(layout, &trash_path) } else { Ok(()) };
    match layout.require(name) {
        // The one in the trash was what remained of it.
        Err(e) if left_over && e.kind() == Kind::NotFound => return emptied,
        other => other?,
    }
    // What cannot be removed of an earlier one is no obstacle to this one.
    let trash_path = if emptied.is_ok() { trash_path } else { sweep::free_trash_path(layout, name)? };
    let step = || format!("destroy `{name}`");
    release(layout, name, in_use, &lock).context(step)?;
    sweep::sweep_run(layout, name, &Hierarchies::detect()?, &lock).context(step)?;
    let trash = layout.trash();
    let mut dir = std::fs::DirBuilder::new();
    dir.recursive(true).mode(0o700).create(&trash).context(|| format!("make `{}`", trash.display()))?;
    store::remove_tree(&layout.log_dir(name))?;
    renameat_with(CWD, layout.container(name), CWD, &trash_path, RenameFlags::NOREPLACE)
        .context(|| format!("move `{}` to the trash", layout.container(name).display()))?;
    store::sync_dir(layout.containers())?;
    autostart::forget(layout, name)?;
    sweep::empty(layout, &trash_path).context(step)
}

/// Makes sure that the container is not in use.
fn release(layout: &Layout, name: &ContainerName, in_use: InUse, lock: &OperationLock) -> Result<()> {
    let rootfs = layout.rootfs(name);
    let running = AliveLock::is_held(layout, name)? || Stray::find(layout, name)?.is_some();
    let mounted = is_mount_point(&rootfs)?;
    match in_use {
        InUse::Refuse if running => {
            return Err(Error::conflict("it is running")
                .hint(format!("`{}` stops it first", layout.command(format_args!("destroy -f {name}")))));
        }
        InUse::Refuse if mounted => {
            return Err(Error::conflict(format!("`{}` is mounted", rootfs.display())).hint(format!(
                "`{}` first, or `{}`",
                layout.command(format_args!("umount {name}")),
                layout.command(format_args!("destroy -f {name}"))
            )));
        }
        InUse::Refuse => return Ok(()),
        InUse::Force => {}
    }
    if running {
        match stop::end(layout, name, StopMode::Kill, lock, &|_| ()) {
            // It ended by itself, or its supervisor died: either is what was wanted.
            Err(_) if !AliveLock::is_held(layout, name)? => {}
            other => drop(other?),
        }
    }
    if mounted {
        umount2(&rootfs, MntFlags::UMOUNT_NOFOLLOW).context(|| format!("unmount `{}`", rootfs.display()))?;
    }
    Ok(())
}
