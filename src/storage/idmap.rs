//! Mounts whose ids are shifted by the kernel (mount_setattr(2), MOUNT_ATTR_IDMAP).

use std::os::fd::{AsFd, BorrowedFd};

use crate::error::{Context, Result};
use crate::sys;
use crate::sys::mount::{MountAttributes, set_attributes};
use crate::types::IdRange;

/// Whose a guest's files are: a user namespace that has its mounts' ids, and what it maps a guest's own to.
#[derive(Debug, Clone, Copy)]
pub struct GuestIds<'a> {
    pub userns: BorrowedFd<'a>,
    pub range: IdRange,
}

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

impl<'a> From<Option<GuestIds<'a>>> for Ids<'a> {
    fn from(ids: Option<GuestIds<'a>>) -> Self {
        ids.map_or(Ids::Host, |ids| Ids::Mapped(ids.userns))
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
        // EINVAL: its file system cannot (mount_setattr(2)). EPERM: its ids are mapped already, or we are in a
        // container and the file system is the host's (can_idmap_mount() in fs/namespace.c).
        Err(e) if change.idmap.is_some() && matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => Ok(false),
        Err(e) => Err(e).context(|| "set the attributes of the mount"),
    }
}

/// Whether the file system that `dir` is on can map ids. Nothing stays of the try.
pub(crate) fn maps_ids(dir: &std::path::Path, userns: BorrowedFd<'_>) -> Result<bool> {
    prepare_mount(&sys::mount::copy_tree(dir, false)?, Ids::Mapped(userns))
}

/// As [`prepare_mount`] for an overlay, whose layers have their ids mapped already.
pub(super) fn prepare_merged(mount: impl AsFd, ids: Option<GuestIds<'_>>) -> Result<()> {
    let change = MountAttributes {
        set: if ids.is_some() { libc::MOUNT_ATTR_NODEV } else { 0 },
        propagation: libc::MS_PRIVATE,
        ..MountAttributes::default()
    };
    set_attributes(mount, &change).context(|| "set the attributes of the mount")
}
