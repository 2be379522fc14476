//! The directory of an image as a tree of files: removed, written to disk.

use std::fs;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::error::{Context, Result};
use crate::store::remove_tree;
use crate::sys::btrfs;

pub(super) const ROOTFS: &str = "rootfs";

/// Removes an image's directory, whole or half made; a missing one is removed already.
pub(super) fn remove_image(place: &Path) -> Result<()> {
    if !place.exists() {
        return Ok(());
    }
    detach_mounts(place)?;
    let rootfs = place.join(ROOTFS);
    if rootfs.exists() && btrfs::is_subvolume(&rootfs)? {
        btrfs::delete_subvolume(&rootfs)?;
    }
    remove_tree(place)
}

/// Unmounts what a killed builder left mounted, before a removal walks into it.
fn detach_mounts(place: &Path) -> Result<()> {
    let place = place.canonicalize().context(|| format!("find `{}`", place.display()))?;
    let table = fs::read_to_string("/proc/thread-self/mountinfo").context(|| "read the mount table")?;
    // Field 5 of proc_pid_mountinfo(5). Odd characters are escaped in it; below an image's
    // directory no builder mounts on such a path.
    let below =
        table.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| Path::new(point).starts_with(&place));
    for point in below.collect::<Vec<_>>().into_iter().rev() {
        use nix::mount::{MntFlags, umount2};
        umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).context(|| format!("unmount `{point}`"))?;
    }
    Ok(())
}

pub(super) fn sync_file_system(path: &Path) -> Result<()> {
    let dir = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    dir.and_then(rustix::fs::syncfs).context(|| format!("write `{}` to disk", path.display()))
}
