//! Where in the guest the mounts of `[[mount]]` go.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, readlinkat, statx};
use rustix::mount::MountAttrFlags;

use crate::error::{Context, Error, Result};
use crate::sys::fs::{open_dir, open_in_root};
use crate::sys::mount::{attach, new_filesystem};

/// As many links as the kernel follows in one path (MAXSYMLINKS).
const MAX_LINKS: usize = 40;

/// On these an init mounts a file system of its own when it boots, unless one is there: systemd's
/// tmp.mount and Debian's run-lock.mount. It would cover what is mounted below them (systemd#4789).
const MOUNTED_AT_BOOT: [&str; 2] = ["/tmp", "/run/lock"];

/// Where a target of `[[mount]]` is, asked before any of them is attached: as far as it exists, without links.
///
/// Links of the guest are followed within its root. Those of /proc are not: what they lead to is not
/// found by a path, and may be one of this process's descriptors (CVE-2024-21626, CVE-2025-52881). Those
/// on other mounts are not there yet: on a volume that guests share, another one may have made them, and would
/// choose what its contents cover here (CVE-2021-30465).
pub(super) fn resolve(target: &str) -> Result<PathBuf> {
    let root = open_dir("/")?;
    let find = || -> Result<PathBuf> {
        let path = follow_dangling(root.as_fd(), target)?;
        for known in path.ancestors() {
            let found = match open_in_root(&root, known, OFlags::PATH, Mode::empty()) {
                Err(e) if e.errno() == Some(libc::ENOENT) => continue,
                other => other?,
            };
            let place = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
            let rest = path.strip_prefix(known).unwrap_or(Path::new(""));
            // Collected, because to join nothing would end it with a slash.
            return Ok(place.join(rest).components().collect());
        }
        Err(Error::failed("it is not an absolute path"))
    };
    find().context(|| format!("make the mount point `{target}` in the guest"))
}

/// The path that `asked` means, with links followed that lead to nothing yet.
///
/// openat2(2) follows the others, but what a link leads to cannot be made by the link's name. In many
/// guests /etc/resolv.conf is such a link: below /run nothing is there before they boot.
fn follow_dangling(root: BorrowedFd<'_>, asked: &str) -> Result<PathBuf> {
    let open = |path: &Path, flags| open_in_root(root, path, OFlags::PATH | flags, Mode::empty());
    let is_missing = |path: &Path| open(path, OFlags::empty()).is_err_and(|e| e.errno() == Some(libc::ENOENT));
    let mut path = PathBuf::from(asked);
    for _ in 0..MAX_LINKS {
        let parts: Vec<&Path> = path.ancestors().collect();
        let missing = parts.into_iter().rev().find(|part| is_missing(part));
        let Some((part, above, name)) = missing.and_then(|part| Some((part, part.parent()?, part.file_name()?))) else {
            return Ok(path);
        };
        let Ok(link) = readlinkat(open(above, OFlags::DIRECTORY)?, name, Vec::new()) else {
            return Ok(path);
        };
        // What is absolute replaces what it is joined to.
        let leads_to = above.join(OsStr::from_bytes(link.as_bytes()));
        path = leads_to.components().chain(path.components().skip(part.components().count())).collect();
    }
    Err(Error::from(rustix::io::Errno::LOOP))
}

/// Mounts an empty file system where the guest's init would mount one over `target`.
pub(super) fn keep_visible(target: &Path) -> Result<()> {
    let is_below = |place: &&str| target != Path::new(place) && target.starts_with(place);
    let Some(place) = MOUNTED_AT_BOOT.into_iter().find(is_below) else { return Ok(()) };
    match statx(CWD, place, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        // The guest mounts nothing on a link (ConditionPathIsSymbolicLink= of tmp.mount).
        Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.stx_mode.into()).is_symlink() => return Ok(()),
        Ok(stat) if stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT) => return Ok(()),
        _ => {}
    }
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    attach_in_root(new_filesystem("tmpfs", &["mode=1777", "size=50%", "nr_inodes=1m"], attributes)?.as_fd(), place)
}

/// Attaches on a directory of the root file system, which is made if the archive lacked it.
pub(super) fn attach_in_root(mount: impl AsFd, target: &str) -> Result<()> {
    if let Err(e) = std::fs::create_dir(target) {
        let is_directory = std::fs::symlink_metadata(target).is_ok_and(|meta| meta.is_dir());
        if !is_directory {
            return Err(Error::from(e).step(format!("`{target}` is not a directory of the root file system")));
        }
    }
    attach(mount, target)
}
