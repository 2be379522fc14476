//! What a file carries besides its contents, and how a new one is given it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};

use rustix::io::Errno;

use super::Remarks;
use super::inode_flags::FileFlags;
use crate::error::{Context, Result};

/// Owner, permissions, time and extended attributes of a file; access control lists are two of
/// the latter (`system.posix_acl_*`).
#[derive(Debug, Clone)]
pub(super) struct FileAttributes {
    /// The lower twelve bits of `st_mode`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timespec,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Not set by an [`Attributor`]: what has them cannot be changed any more.
    pub flags: FileFlags,
}

/// Extended attributes that a file system would not take, and why.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Refused(Vec<(Vec<u8>, Errno)>);

impl Refused {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says of the file `path` what it has lost.
    pub(super) fn tell(self, path: &[u8], remarks: &mut Remarks) {
        for (name, why) in self.0 {
            let why = std::io::Error::from(why);
            remarks.add(&format!("left out, the extended attribute `{}` ({why}) of", super::shown(&name)), path);
        }
    }
}

/// Gives new files their attributes, without the calls that would change nothing: most files of
/// a root file system are root's, with permissions that the umask lets through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributor {
    umask: u32,
    uid: u32,
    gid: u32,
    /// Whether a new file may have a group and access control lists from the directory it is in.
    inherits: bool,
}

impl Attributor {
    pub(super) fn new() -> Self {
        Attributor {
            umask: umask(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            inherits: false,
        }
    }

    /// For a tree whose directories have their attributes already, and hand them down.
    pub(super) fn over_others() -> Self {
        Attributor { inherits: true, ..Self::new() }
    }

    /// Makes `dir` hand nothing down to what is made in it: no access control list, no group.
    /// Every directory made by us must be like this until it has been filled.
    pub(super) fn neutralise(&self, dir: impl AsFd) -> Result<()> {
        let dir = dir.as_fd();
        rustix::fs::fchown(dir, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        rustix::fs::fchmod(dir, Mode::RWXU)?;
        remove_lists(|list| rustix::fs::fremovexattr(dir, list))
    }

    /// The permissions to create a file with.
    pub(super) fn creation_mode(&self, attributes: &FileAttributes) -> Mode {
        Mode::from_raw_mode(attributes.mode & 0o777)
    }

    /// Completes a file made with [`Self::creation_mode`] in a neutral directory.
    pub(super) fn complete_file(&self, file: BorrowedFd, attributes: &FileAttributes) -> Result<Refused> {
        let of_others = self.is_of_others(attributes);
        if of_others {
            rustix::fs::fchown(file, Some(uid(attributes)), Some(gid(attributes))).context(|| "set the owner")?;
        }
        if self.inherits {
            remove_lists(|list| rustix::fs::fremovexattr(file, list))?;
        }
        // chown(2) clears set-user-id; and so does write(2).
        if self.inherits || attributes.mode != attributes.mode & 0o777 & !self.umask {
            rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode)).context(|| "set the permissions")?;
        }
        // After chown(2), which removes capabilities; and after chmod(2), because an access
        // control list has the last word on the group's permissions.
        let refused =
            set_xattrs(attributes, |name, value| rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()))?;
        rustix::fs::futimens(file, &times(attributes)).context(|| "set the time")?;
        Ok(refused)
    }

    /// Completes a directory, once nothing will be made in it any more.
    pub(super) fn complete_directory(&self, dir: BorrowedFd, attributes: &FileAttributes) -> Result<Refused> {
        if self.is_of_others(attributes) {
            rustix::fs::fchown(dir, Some(uid(attributes)), Some(gid(attributes))).context(|| "set the owner")?;
        }
        if self.inherits {
            remove_lists(|list| rustix::fs::fremovexattr(dir, list))?;
        }
        rustix::fs::fchmod(dir, Mode::from_raw_mode(attributes.mode)).context(|| "set the permissions")?;
        let refused =
            set_xattrs(attributes, |name, value| rustix::fs::fsetxattr(dir, name, value, XattrFlags::empty()))?;
        rustix::fs::futimens(dir, &times(attributes)).context(|| "set the time")?;
        Ok(refused)
    }

    /// Completes the symbolic link `name` just made in `dir`.
    pub(super) fn complete_symlink(
        &self,
        dir: BorrowedFd,
        name: &[u8],
        attributes: &FileAttributes,
    ) -> Result<Refused> {
        self.complete_named(dir, name, attributes, false)
    }

    /// Completes the fifo, socket or device node `name` just made in `dir`.
    pub(super) fn complete_node(&self, dir: BorrowedFd, name: &[u8], attributes: &FileAttributes) -> Result<Refused> {
        self.complete_named(dir, name, attributes, true)
    }

    fn complete_named(
        &self,
        dir: BorrowedFd,
        name: &[u8],
        attributes: &FileAttributes,
        has_mode: bool,
    ) -> Result<Refused> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if self.is_of_others(attributes) {
            rustix::fs::chownat(dir, name, Some(uid(attributes)), Some(gid(attributes)), nofollow)
                .context(|| "set the owner")?;
        }
        if has_mode && self.inherits {
            remove_lists(|list| rustix::fs::lremovexattr(in_dir(dir, name), list))?;
        }
        if has_mode && (self.inherits || attributes.mode != attributes.mode & 0o777 & !self.umask) {
            // fchmodat(2) has no nofollow before Linux 6.6; no other process reaches this directory.
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(attributes.mode), AtFlags::empty())
                .context(|| "set the permissions")?;
        }
        let refused = set_xattrs(attributes, |xattr, value| {
            rustix::fs::lsetxattr(in_dir(dir, name), xattr, value, XattrFlags::empty())
        })?;
        rustix::fs::utimensat(dir, name, &times(attributes), nofollow).context(|| "set the time")?;
        Ok(refused)
    }

    fn is_of_others(&self, attributes: &FileAttributes) -> bool {
        self.inherits || (attributes.uid, attributes.gid) != (self.uid, self.gid)
    }
}

fn remove_lists(remove: impl Fn(&str) -> rustix::io::Result<()>) -> Result<()> {
    for list in ["system.posix_acl_access", "system.posix_acl_default"] {
        match remove(list) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e).context(|| format!("remove `{list}`")),
        }
    }
    Ok(())
}

fn set_xattrs(attributes: &FileAttributes, set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>) -> Result<Refused> {
    let mut refused = Refused::default();
    for (name, value) in &attributes.xattrs {
        match set(name, value) {
            Ok(()) => {}
            // What a file system, or the kernel, has no room or no meaning for: `btrfs.compression` on ext4,
            // more than a block of ext4 holds (ENOSPC), `security.evm`. A tree is not given up for it.
            Err(
                e @ (Errno::OPNOTSUPP
                | Errno::PERM
                | Errno::ACCESS
                | Errno::INVAL
                | Errno::TOOBIG
                | Errno::RANGE
                | Errno::NOSPC),
            ) => refused.0.push((name.clone(), e)),
            Err(e) => return Err(e).context(|| format!("set the extended attribute `{}`", super::shown(name))),
        }
    }
    Ok(refused)
}

/// The extended attributes of an open file.
pub(super) fn xattrs_of_file(file: BorrowedFd) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    read_xattrs(|list| rustix::fs::flistxattr(file, list), |name, value| rustix::fs::fgetxattr(file, name, value))
}

/// The extended attributes of what `name` in `dir` is, be it a symbolic link or a fifo.
pub(super) fn xattrs_of_named(dir: BorrowedFd, name: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = in_dir(dir, name);
    read_xattrs(|list| rustix::fs::llistxattr(&path, list), |name, value| rustix::fs::lgetxattr(&path, name, value))
}

fn read_xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut xattrs = Vec::new();
    for name in xattr_names(list).context(|| "list the extended attributes")? {
        match growing(|value| get(&name, value)) {
            Ok(value) => xattrs.push((name, value)),
            // Removed since it was listed.
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e).context(|| format!("read the extended attribute `{}`", super::shown(&name))),
        }
    }
    Ok(xattrs)
}

/// The names that one of the `listxattr` calls gives; none where the file system has none.
pub(super) fn xattr_names(list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<Vec<u8>>> {
    // Nearly every file has none, and this is called for each: no allocation for those.
    let mut few = [0; 512];
    let names = match list(&mut few) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(length) => few[..length].to_vec(),
        Err(Errno::RANGE) => growing(&list)?,
        Err(e) => return Err(e),
    };
    Ok(names.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// Calls `fill` with larger and larger buffers; the kernel's own limit is 64 KiB (xattr(7)).
fn growing(fill: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match fill(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(e) => return Err(e),
        }
    }
}

/// A path for the calls on extended attributes, which take no directory descriptor before Linux
/// 6.13. `name` is one component, so nothing but the last one can be a symbolic link.
pub(super) fn in_dir(dir: BorrowedFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

fn uid(attributes: &FileAttributes) -> Uid {
    Uid::from_raw(attributes.uid)
}

fn gid(attributes: &FileAttributes) -> Gid {
    Gid::from_raw(attributes.gid)
}

fn times(attributes: &FileAttributes) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Timestamps { last_access: omit, last_modification: attributes.mtime }
}

/// The process's umask, without changing it as umask(2) would; unknown is all of it.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let digits = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    digits.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok()).unwrap_or(0o777)
}
