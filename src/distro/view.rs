//! A root file system to be looked into, with no way out of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result};
use crate::sys::fs::{open_dir, open_in_root, read_in_root};

/// The most that is read of a configuration file of a guest.
const LIMIT: u64 = 1 << 20;

/// A root file system to be read, never leaving it; what edits are computed from.
pub(crate) struct View {
    root: OwnedFd,
}

impl View {
    pub(crate) fn open(rootfs: &Path) -> Result<Self> {
        Ok(View { root: open_dir(rootfs)? })
    }

    /// A view of the tree whose root is open already.
    pub(crate) fn of(root: BorrowedFd<'_>) -> Result<Self> {
        Ok(View { root: root.try_clone_to_owned()? })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The text of a file; `None` where there is none.
    ///
    /// Fails on text that is not UTF-8: what is edited must not be damaged.
    pub(crate) fn text(&self, path: &str) -> Result<Option<String>> {
        match read_in_root(&self.root, path, LIMIT) {
            Ok(bytes) => String::from_utf8(bytes)
                .map(Some)
                .map_err(|_| Error::failed(format!("`{path}` in the root file system is not UTF-8 text"))),
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether `path` leads to something, links being followed inside the root.
    pub(crate) fn exists(&self, path: &str) -> bool {
        open_in_root(&self.root, path, OFlags::PATH, Mode::empty()).is_ok()
    }

    /// Whether something is at `path`, be it a link that leads nowhere.
    pub(crate) fn is_taken(&self, path: &str) -> bool {
        open_in_root(&self.root, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).is_ok()
    }

    /// The names in a directory, sorted; none where it cannot be read.
    pub(crate) fn names(&self, dir: &str) -> Vec<String> {
        let names = || -> Result<Vec<String>> {
            let fd = open_in_root(&self.root, dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
            let entries = rustix::fs::Dir::read_from(&fd)?;
            let name =
                |e: rustix::io::Result<rustix::fs::DirEntry>| Some(e.ok()?.file_name().to_str().ok()?.to_owned());
            let mut names: Vec<_> = entries.filter_map(name).filter(|n| n != "." && n != "..").collect();
            names.sort();
            Ok(names)
        };
        names().unwrap_or_default()
    }
}
