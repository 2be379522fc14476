//! Mounts whose ids are shifted by the kernel (mount_setattr(2), MOUNT_ATTR_IDMAP).

use std::os::fd::{AsFd, BorrowedFd};

use crate::error::{Context, Error, Result};
use crate::sys;
use crate::sys::mount::{MountAttributes, set_attributes};

/// How the ids of a tree become those of who mounts it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ids<'a> {
    /// As they are stored; the host's own.
    Host,
    /// As they are stored, which is shifted to a guest's.
    Shifted,
    /// As this user namespace maps them.
    Mapped(BorrowedFd<'a>),
}

impl<'a> From<Option<BorrowedFd<'a>>> for Ids<'a> {
    fn from(userns: Option<BorrowedFd<'a>>) -> Self {
        userns.map_or(Ids::Host, Ids::Mapped)
    }
}

/// Makes a detached mount fit to be a guest's: private, free of the host's own restrictions, ids
/// as `ids` says, and without device nodes where the guest has ids of its own.
///
/// Returns `false` where the file system cannot map ids; the mount is then as it was.
pub(super) fn prepare_mount(mount: impl AsFd, ids: Ids<'_>) -> Result<bool> {
    let change = MountAttributes {
        // A tree made elsewhere may hold device nodes, which root of a user namespace could open.
        set: if matches!(ids, Ids::Host) { 0 } else { libc::MOUNT_ATTR_NODEV },
        // `/var` may well be `nosuid` or `noexec` on the host; no guest could work on that.
        clear: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_RDONLY,
        propagation: libc::MS_PRIVATE,
        idmap: if let Ids::Mapped(userns) = ids { Some(userns) } else { None },
        recursive: false,
    };
    match set_attributes(mount, &change) {
        Ok(()) => Ok(true),
        // EINVAL: its file system cannot (mount_setattr(2)).
        Err(e) if change.idmap.is_some() && e.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(e) => Err(e).context(|| "set the attributes of the mount"),
    }
}

/// Whether the file system that `dir` is on can map ids. Nothing stays of the try.
pub(crate) fn maps_ids(dir: &std::path::Path, userns: BorrowedFd<'_>) -> Result<bool> {
    prepare_mount(&sys::mount::copy_tree(dir, false)?, Ids::Mapped(userns))
}

/// As [`prepare_mount`] for an overlay, whose layers have their ids mapped already.
pub(super) fn prepare_merged(mount: impl AsFd, userns: Option<BorrowedFd<'_>>) -> Result<()> {
    let change = MountAttributes {
        set: if userns.is_some() { libc::MOUNT_ATTR_NODEV } else { 0 },
        propagation: libc::MS_PRIVATE,
        ..MountAttributes::default()
    };
    set_attributes(mount, &change).context(|| "set the attributes of the mount")
}

/// The host's id of a guest's root: its user namespace is made with that as the effective uid.
pub(super) fn base(userns: BorrowedFd<'_>) -> Result<u32> {
    match sys::creds::owner_of_user_namespace(userns)? {
        0 => Err(Error::failed("the guest's user namespace belongs to the host's root, so its ids cannot be mapped")),
        base => Ok(base),
    }
}
