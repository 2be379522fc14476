//! What statx(2) tells of a file that is copied: with one call, the flags too.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dev, FileType, Statx, StatxFlags, Timespec, makedev};

use crate::image::attributes::FileAttributes;
use crate::image::inode_flags::FileFlags;

pub(super) struct Seen(Statx);

impl Seen {
    /// An open file.
    pub(super) fn of(file: impl AsFd) -> rustix::io::Result<Self> {
        rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map(Seen)
    }

    /// What `name` in `dir` is, be it a symbolic link.
    pub(super) fn named(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<Self> {
        rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).map(Seen)
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.0.stx_mode.into())
    }

    pub(super) fn links(&self) -> u32 {
        self.0.stx_nlink
    }

    /// What names of the same file have in common: device and inode.
    pub(super) fn id(&self) -> (u64, u64) {
        (makedev(self.0.stx_dev_major, self.0.stx_dev_minor), self.0.stx_ino)
    }

    pub(super) fn size(&self) -> u64 {
        self.0.stx_size
    }

    /// Without a hole it takes up at least as many blocks as its size needs.
    pub(super) fn may_have_holes(&self) -> bool {
        self.0.stx_blocks * 512 < self.0.stx_size
    }

    /// Of a device node, which device.
    pub(super) fn device(&self) -> Dev {
        makedev(self.0.stx_rdev_major, self.0.stx_rdev_minor)
    }

    pub(super) fn flags(&self) -> FileFlags {
        FileFlags::among(self.0.stx_attributes)
    }

    pub(super) fn attributes(&self, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> FileAttributes {
        let mtime = &self.0.stx_mtime;
        FileAttributes {
            mode: u32::from(self.0.stx_mode) & 0o7777,
            uid: self.0.stx_uid,
            gid: self.0.stx_gid,
            mtime: Timespec { tv_sec: mtime.tv_sec, tv_nsec: mtime.tv_nsec.into() },
            xattrs,
            flags: self.flags(),
        }
    }
}
