//! What trees take up on the disk, and how much of that they have in common with others.

use std::collections::HashSet;
use std::ops::AddAssign;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::sys;

/// Bytes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of this tree alone: what its removal frees.
    pub own: u64,
    /// Shared with images, snapshots or other containers.
    pub shared: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.own += other.own;
        self.shared += other.shared;
    }
}

impl Usage {
    pub fn total(self) -> u64 {
        self.own + self.shared
    }
}

/// Deeper than any real tree, and not so deep that the open directories run out of descriptors.
const DEEPEST: usize = 400;

/// Measures the tree below `root`, in which a guest may be at work: nothing is followed out of it.
pub(super) fn of_tree(root: &Path) -> Result<Usage> {
    let step = || format!("measure `{}`", root.display());
    let mut measure =
        Measure { shares: shares_blocks(root).context(step)?, seen: HashSet::new(), found: Usage::default() };
    let root = open_directory(CWD, root).context(step)?;
    measure.directory(&root, 0).context(step)?;
    Ok(measure.found)
}

/// Whether files on the file system of `path` can have blocks in common.
pub(super) fn shares_blocks(path: &Path) -> Result<bool> {
    const XFS: i64 = 0x5846_5342;
    let kind = rustix::fs::statfs(path).context(|| format!("look at `{}`", path.display()))?.f_type as i64;
    Ok(kind == XFS || sys::btrfs::is_btrfs(path)?)
}

fn open_directory(dir: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

struct Measure {
    shares: bool,
    /// Files of several names, by device and inode.
    seen: HashSet<(u64, u64)>,
    found: Usage,
}

impl Measure {
    fn directory(&mut self, dir: &OwnedFd, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::failed(format!("it is more than {DEEPEST} directories deep")));
        }
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                match self.entry(dir, name, depth) {
                    // Gone, or something else, since it was read.
                    Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, dir: &OwnedFd, name: &std::ffi::CStr, depth: usize) -> Result<()> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            self.found.own += blocks(&stat);
            return self.directory(&open_directory(dir, name)?, depth + 1);
        }
        if stat.st_nlink > 1 && !self.seen.insert((stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        let shared = match kind {
            FileType::RegularFile if self.shares && stat.st_blocks > 0 => shared_bytes(dir, name)?.min(blocks(&stat)),
            _ => 0,
        };
        self.found += Usage { own: blocks(&stat) - shared, shared };
        Ok(())
    }
}

fn blocks(stat: &Stat) -> u64 {
    stat.st_blocks as u64 * 512
}

fn shared_bytes(dir: &OwnedFd, name: &std::ffi::CStr) -> Result<u64> {
    // Non-blocking: what has become a fifo since it was looked at must not hang us.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOATIME | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    match sys::fs::shared_bytes(&file) {
        Err(Errno::OPNOTSUPP | Errno::NOTTY) => Ok(0),
        other => Ok(other?),
    }
}
