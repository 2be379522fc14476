//! What immutable and append-only files and directories do not let be done (ioctl_iflags(2)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, IFlags, Mode, OFlags};

use super::fs::open_in_root;

/// The two flags.
const FIXED: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);

/// A file or directory that can be changed until this is dropped.
#[derive(Debug)]
pub(crate) struct Changeable<F: AsFd> {
    file: F,
    flags: IFlags,
}

impl<F: AsFd> Changeable<F> {
    /// `None` where it can be changed anyway, or its file system has no such flags.
    pub(crate) fn make(file: F) -> rustix::io::Result<Option<Self>> {
        let flags = rustix::fs::ioctl_getflags(&file).unwrap_or(IFlags::empty());
        if !flags.intersects(FIXED) {
            return Ok(None);
        }
        rustix::fs::ioctl_setflags(&file, flags - FIXED)?;
        Ok(Some(Changeable { file, flags }))
    }
}

impl<F: AsFd> Drop for Changeable<F> {
    fn drop(&mut self) {
        // What it was made for is done; of a file that was replaced there is nothing to set.
        let _ = rustix::fs::ioctl_setflags(&self.file, self.flags);
    }
}

/// Does what the flags of an open file may not let be done.
pub(crate) fn changeable<T>(file: impl AsFd, change: impl FnOnce() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    let _held = Changeable::make(file)?;
    change()
}

/// Makes changeable what is at `path` below `root`, and the directories on the way to it: no name is made in, nor
/// taken from, one that is fixed.
pub(crate) fn way_to(root: BorrowedFd<'_>, path: &Path) -> Vec<Changeable<OwnedFd>> {
    let open = |part: &Path| {
        let part = if part.as_os_str().is_empty() { Path::new(".") } else { part };
        // Of what is neither a file nor a directory an open may do something.
        let looked = open_in_root(root, part, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).ok()?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&looked).ok()?.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return None;
        }
        open_in_root(root, part, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty()).ok()
    };
    path.ancestors().filter_map(|part| Changeable::make(open(part)?).ok()?).collect()
}
