//! Shows a stopped container's files to the host, at its `rootfs`.

use std::path::PathBuf;

use nix::mount::{MntFlags, umount2};

use crate::error::{Context, Error, Result};
use crate::identity;
use crate::storage::{self, Tree, is_mount_point};
use crate::store::{AliveLock, Layout, OperationLock};
use crate::sys;
use crate::types::ContainerName;

/// Makes the files of a stopped container seen at the path that it gives, ids from 0.
///
/// Nothing is mounted where the backend keeps them as a directory there anyway. Mounted already is
/// done already.
pub(crate) fn mount(layout: &Layout, name: &ContainerName) -> Result<PathBuf> {
    layout.require(name)?;
    let _lock = OperationLock::acquire(layout, name)?;
    if AliveLock::is_held(layout, name)? {
        return Err(Error::conflict(format!("mount `{name}`: it runs"))
            .hint("`lxm attach`, `lxm push` and `lxm pull` reach the files of a running guest"));
    }
    let rootfs = layout.rootfs(name);
    if is_mount_point(&rootfs)? {
        return Ok(rootfs);
    }
    // Mounted, it stays so when this command has ended and holds no lock any more.
    identity::require_own(layout, name)?;
    let backend = storage::of_container(layout, name)?;
    let tree = Tree::open(backend.as_ref(), &layout.container(name)).context(|| format!("mount `{name}`"))?;
    if let Some(mount) = tree.mount() {
        sys::mount::attach(mount, &rootfs)?;
    }
    Ok(rootfs)
}

/// Undoes [`mount`]; what is not mounted is undone already.
pub(crate) fn umount(layout: &Layout, name: &ContainerName) -> Result<()> {
    layout.require(name)?;
    let _lock = OperationLock::acquire(layout, name)?;
    let rootfs = layout.rootfs(name);
    if !is_mount_point(&rootfs)? {
        return Ok(());
    }
    match umount2(&rootfs, MntFlags::UMOUNT_NOFOLLOW) {
        Err(nix::errno::Errno::EBUSY) => Err(Error::conflict(format!("unmount `{}`: it is in use", rootfs.display()))
            .hint(format!("`fuser -vm {}` shows by whom", rootfs.display()))),
        other => other.context(|| format!("unmount `{}`", rootfs.display())),
    }
}
