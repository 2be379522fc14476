//! The flags of an inode that chattr(1) sets and that are part of what a file is: immutable, append-only, not
//! to be dumped. Others say how a file system is to store it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, IFlags, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::{Remarks, shown};
use crate::error::{Context, Result};

/// Of [`IFlags`], the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileFlags(IFlags);

impl Default for FileFlags {
    fn default() -> Self {
        FileFlags(IFlags::empty())
    }
}

/// As libarchive names them in a record `SCHILY.fflags`, which bsdtar and star read.
const NAMES: [(IFlags, StatxAttributes, &str); 3] = [
    (IFlags::APPEND, StatxAttributes::APPEND, "sappnd"),
    (IFlags::IMMUTABLE, StatxAttributes::IMMUTABLE, "schg"),
    (IFlags::NODUMP, StatxAttributes::NODUMP, "nodump"),
];

impl FileFlags {
    /// Those of an open file.
    pub(super) fn of(file: impl AsFd) -> rustix::io::Result<Self> {
        let found = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
        Ok(Self::among(found.stx_attributes))
    }

    /// Those of what `name` in `dir` is.
    pub(super) fn named(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<Self> {
        let found = rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())?;
        Ok(Self::among(found.stx_attributes))
    }

    /// Those that statx(2) has told.
    pub(super) fn among(attributes: StatxAttributes) -> Self {
        let has = NAMES.iter().filter(|(_, attribute, _)| attributes.contains(*attribute));
        FileFlags(has.map(|(flag, ..)| *flag).collect())
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Those that a record names; others are of no file system here.
    pub(super) fn parse(record: &[u8]) -> Self {
        let known = |name: &[u8]| NAMES.iter().find(|(_, _, known)| known.as_bytes() == name).map(|(flag, ..)| *flag);
        FileFlags(record.split(|&byte| byte == b',').filter_map(known).collect())
    }

    /// For a record.
    pub(super) fn text(self) -> String {
        let names = NAMES.iter().filter(|(flag, ..)| self.0.contains(*flag)).map(|(_, _, name)| *name);
        names.collect::<Vec<_>>().join(",")
    }

    fn set(self, file: impl AsFd) -> rustix::io::Result<()> {
        let now = rustix::fs::ioctl_getflags(&file)?;
        rustix::fs::ioctl_setflags(&file, now | self.0)
    }
}

/// Flags to be set once a tree is whole: nothing is linked to an immutable file, nor made in such a
/// directory (ioctl_iflags(2)).
#[derive(Debug, Default)]
pub(super) struct PendingFlags(Vec<(Vec<u8>, FileFlags)>);

impl PendingFlags {
    pub(super) fn add(&mut self, path: Vec<u8>, flags: FileFlags) {
        if !flags.is_empty() {
            self.0.push((path, flags));
        }
    }

    /// Sets them, on files that `open` opens by their path in the tree.
    pub(super) fn set(&self, remarks: &mut Remarks, open: impl Fn(&[u8], OFlags) -> Result<OwnedFd>) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        for (path, wanted) in &self.0 {
            let step = || format!("set the flags of `{}`", shown(path));
            let file = match open(path, flags) {
                // A later entry of the archive took its place.
                Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENXIO)) => {
                    continue;
                }
                other => other.context(step)?,
            };
            match wanted.set(&file) {
                Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => {
                    remarks
                        .add(&format!("left out, the flags `{}` that this file system lacks, of", wanted.text()), path);
                }
                other => other.context(step)?,
            }
        }
        Ok(())
    }
}
