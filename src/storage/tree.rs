//! A place's tree as a directory to work on, from a process that runs in the host's mount namespace.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::Backend;
use crate::error::{Context, Result};
use crate::store::{self, DirectoryLock};
use crate::sys;

/// A place's tree, ids from 0, for as long as this lives.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    /// Its mount, attached nowhere, where it takes one.
    mount: Option<OwnedFd>,
    /// Keeps others from mounting what it writes to. After the mount: fields are dropped in order.
    _exclusive: Option<DirectoryLock>,
}

impl Tree {
    /// Opens the tree of `place`, which is mounted nowhere else.
    pub fn open(backend: &dyn Backend, place: &Path) -> Result<Self> {
        Self::open_as(backend, place, || backend.mount(place, None))
    }

    /// Opens the tree of a container in the making.
    pub fn open_in_the_making(backend: &dyn Backend, place: &Path) -> Result<Self> {
        Self::open_as(backend, place, || backend.mount_in_the_making(place))
    }

    fn open_as(backend: &dyn Backend, place: &Path, mount: impl FnOnce() -> Result<OwnedFd> + Send) -> Result<Self> {
        if let Some(path) = backend.tree(place)? {
            let tree = Tree { path, mount: None, _exclusive: None };
            store::sweep_aside(tree.dir()?)?;
            return Ok(tree);
        }
        let exclusive = backend.exclusive(place)?.map(|dir| DirectoryLock::acquire(&dir)).transpose()?;
        let mount = sys::mount::in_private_namespace(mount)?;
        // With the dot, who follows no symbolic link at the end of a path comes to it too.
        let tree = Tree {
            path: format!("/proc/self/fd/{}/.", mount.as_raw_fd()).into(),
            mount: Some(mount),
            _exclusive: exclusive,
        };
        // No other process uses it: what is there is a leftover.
        store::sweep_aside(tree.dir()?)?;
        Ok(tree)
    }

    /// A path that leads to it, in this process.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It, opened, to be the root of look-ups.
    pub fn dir(&self) -> Result<OwnedFd> {
        crate::sys::fs::open_dir(&self.path)
    }

    /// Its mount, where it has one of its own.
    pub fn mount(&self) -> Option<&OwnedFd> {
        self.mount.as_ref()
    }
}

/// Whether something is mounted on `path`; a missing one is no mount point.
pub(crate) fn is_mount_point(path: &Path) -> Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::empty()) {
        Ok(stat) => Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(e) => Err(e).context(|| format!("look at `{}`", path.display())),
    }
}
