//! What `[[mount]]` names, as a detached mount: found without trust in other users of this host,
//! restricted, and with the ids that are asked for.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::mount_ids;
use super::setup::Setup;
use crate::config::{Mount, MountIds};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::fs::open_in_root;
use crate::sys::host_path::{open_host_path, owner_of};
use crate::sys::mount::{MountAttributes, copy_tree_at, set_attributes};

/// The mount, and whether it is a directory; `None` for an optional one that is missing.
///
/// `rootfs` is the guest's root file system, where the target's owner is looked up.
pub(super) fn open(entry: &Mount, setup: &Setup, rootfs: &OwnedFd) -> Result<Option<(OwnedFd, bool)>> {
    open_source(entry, setup, rootfs).map_err(|e| refusal(entry, e))
}

/// The refusal of a mount whose source does not exist.
pub(super) fn missing(entry: &Mount) -> Error {
    refusal(entry, nix::errno::Errno::ENOENT.into())
}

fn refusal(entry: &Mount, cause: Error) -> Error {
    cause.step(format!("mount `{}`", entry.source.display())).with_kind(Kind::Config)
}

fn open_source(entry: &Mount, setup: &Setup, rootfs: &OwnedFd) -> Result<Option<(OwnedFd, bool)>> {
    let Some(source) = open_host_path(&entry.source)? else {
        return if entry.optional { Ok(None) } else { Err(nix::errno::Errno::ENOENT.into()) };
    };
    let (owner, is_directory) = owner_of(&source)?;
    let mount = copy_tree_at(&source, entry.recursive)?;
    let made;
    let userns = match entry.idmap {
        // A privileged guest's ids are the host's.
        MountIds::Guest => setup.mount_ids().map(|ids| ids.userns),
        _ => {
            made = one_id(entry, setup, owner, rootfs)?;
            made.as_ref().map(AsFd::as_fd)
        }
    };
    if userns.is_some() {
        let change = MountAttributes { idmap: userns, recursive: true, ..MountAttributes::default() };
        set_attributes(&mount, &change).context(|| "map its ids").map_err(|e| {
            e.hint("its file system, or one mounted below it, cannot map ids: `idmap = \"none\"` shows it as it is")
        })?;
    }
    restrict(entry, &mount)?;
    Ok(Some((mount, is_directory)))
}

/// The mapping of one id of the host's to one of the guest's; `None` where ids stay as they are.
fn one_id(entry: &Mount, setup: &Setup, owner: u32, rootfs: &OwnedFd) -> Result<Option<File>> {
    let of_guest = |id: u32| match setup.ids {
        None => Ok(id),
        Some(ids) => ids.to_host(id).ok_or_else(|| Error::config(format!("the guest has no id {id}"))),
    };
    let (stored, seen) = match entry.idmap {
        MountIds::None | MountIds::Guest => return Ok(None),
        MountIds::Root => (owner, of_guest(0)?),
        MountIds::Pair { host, guest } => (host, of_guest(guest)?),
        MountIds::Owner => match open_in_root(rootfs, entry.target.as_path(), OFlags::PATH, Mode::empty()) {
            // The mount of its root file system has the guest's ids as the host has them.
            Ok(target) => (owner, owner_of(target)?.0),
            // It is made for the mount, by the guest's root.
            Err(e) if e.errno() == Some(libc::ENOENT) => (owner, of_guest(0)?),
            Err(e) => return Err(e),
        },
    };
    mount_ids::pair(stored, seen).map(Some)
}

/// Takes away what the entry does not ask for. Submounts too; what the host mounts below the source later
/// would not have these restrictions, so it does not come in.
fn restrict(entry: &Mount, mount: &OwnedFd) -> Result<()> {
    let flags = [
        (entry.read_only, libc::MOUNT_ATTR_RDONLY),
        (!entry.suid, libc::MOUNT_ATTR_NOSUID),
        (!entry.dev, libc::MOUNT_ATTR_NODEV),
    ];
    let set = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum();
    let change = MountAttributes { set, propagation: libc::MS_PRIVATE, recursive: true, ..MountAttributes::default() };
    set_attributes(mount, &change).context(|| "restrict it")
}
