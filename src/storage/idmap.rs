//! Mounts whose ids are shifted by the kernel (mount_setattr(2), MOUNT_ATTR_IDMAP).

use std::os::fd::{AsFd, BorrowedFd};

use crate::error::{Context, Error, Result};
use crate::sys::mount::{Attributes, set_attributes};

/// Makes a detached mount fit to be a guest's: private, free of the host's own restrictions, ids
/// mapped as `userns` maps them, and without device nodes where the guest has ids of its own.
pub(super) fn prepare_mount(mount: impl AsFd, userns: Option<BorrowedFd<'_>>) -> Result<()> {
    let change = Attributes {
        // A tree made elsewhere may hold device nodes, which root of a user namespace could open.
        set: if userns.is_some() { libc::MOUNT_ATTR_NODEV } else { 0 },
        // `/var` may well be `nosuid` or `noexec` on the host; no guest could work on that.
        clear: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_RDONLY,
        propagation: libc::MS_PRIVATE,
        idmap: userns,
        recursive: false,
    };
    match set_attributes(mount, &change) {
        Ok(()) => Ok(()),
        // EINVAL: its file system cannot (mount_setattr(2)).
        Err(e) if userns.is_some() && e.raw_os_error() == Some(libc::EINVAL) => {
            Err(Error::host_lacks("its file system cannot map ids")
                .hint("make the container anew: its ids are then shifted in the files themselves"))
        }
        Err(e) => Err(e).context(|| "set the attributes of the mount"),
    }
}

/// As [`prepare_mount`] for an overlay, whose layers have their ids mapped already.
pub(super) fn prepare_merged(mount: impl AsFd, userns: Option<BorrowedFd<'_>>) -> Result<()> {
    let change = Attributes {
        set: if userns.is_some() { libc::MOUNT_ATTR_NODEV } else { 0 },
        propagation: libc::MS_PRIVATE,
        ..Attributes::default()
    };
    set_attributes(mount, &change).context(|| "set the attributes of the mount")
}
