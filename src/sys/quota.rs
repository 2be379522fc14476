//! Project quotas of ext4 and xfs: a directory belongs to a project, and so does all that is made in it.

use std::mem;
use std::os::fd::{AsFd, AsRawFd};

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FsXattr {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// New files in the directory belong to its project.
const PROJECT_INHERIT: u32 = 0x200;

nix::ioctl_read!(get_xattr, b'X', 31, FsXattr);
nix::ioctl_write_ptr!(set_xattr, b'X', 32, FsXattr);

/// The project that a directory belongs to; 0 is none.
pub(crate) fn project(dir: impl AsFd) -> nix::Result<u32> {
    Ok(attributes(dir)?.project)
}

/// Makes an empty directory belong to a project.
pub(crate) fn set_project(dir: impl AsFd, project: u32) -> nix::Result<()> {
    let mut attributes = attributes(&dir)?;
    attributes.project = project;
    attributes.flags |= PROJECT_INHERIT;
    // SAFETY: the kernel reads one `FsXattr`, whose layout is linux/fs.h's.
    unsafe { set_xattr(dir.as_fd().as_raw_fd(), &raw const attributes) }.map(drop)
}

fn attributes(dir: impl AsFd) -> nix::Result<FsXattr> {
    let mut attributes = FsXattr::default();
    // SAFETY: the kernel fills one `FsXattr`, whose layout is linux/fs.h's.
    unsafe { get_xattr(dir.as_fd().as_raw_fd(), &raw mut attributes) }?;
    Ok(attributes)
}

/// Lets a project take up at most `bytes` of the file system that `dir` is on; 0 lifts the limit.
///
/// Fails with `ESRCH` where its project quotas are off, with `ENOSYS` where it has none.
pub(crate) fn limit_project(dir: impl AsFd, project: u32, bytes: u64) -> nix::Result<()> {
    const PROJECTS: i32 = 2;
    const COMMAND_BITS: i32 = 8;
    // SAFETY: a C structure of numbers, of which zero is one.
    let mut limit: libc::dqblk = unsafe { mem::zeroed() };
    // In blocks of 1 KiB (quotactl(2)); what is left of one counts whole.
    limit.dqb_bhardlimit = bytes.div_ceil(1024);
    limit.dqb_bsoftlimit = 0;
    limit.dqb_valid = libc::QIF_BLIMITS;
    let command = libc::Q_SETQUOTA << COMMAND_BITS | PROJECTS;
    // SAFETY: the kernel reads one `dqblk`, which outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_quotactl_fd, dir.as_fd().as_raw_fd(), command, project, &raw const limit) };
    nix::errno::Errno::result(result).map(drop)
}
