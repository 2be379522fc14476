//! `dir`: a plain tree of files at `rootfs`. Works everywhere; reflinks where the file system has them.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::{Activity, Backend, Purpose, copy, exchange_paths, idmap};
use crate::error::{Context, Result};
use crate::progress::Progress;
use crate::store;
use crate::sys;

pub(super) const NAME: &str = "dir";

#[derive(Debug)]
pub(super) struct Dir;

pub(super) fn rootfs(place: &Path) -> PathBuf {
    place.join("rootfs")
}

/// The mount of a place whose tree is at `rootfs`.
pub(super) fn mount_rootfs(place: &Path, userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let rootfs = rootfs(place);
    let mount = sys::mount::copy_tree(&rootfs, false)?;
    idmap::prepare_mount(&mount, userns).context(|| format!("mount `{}`", rootfs.display()))?;
    Ok(mount)
}

impl Backend for Dir {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self, image: &Path, container: &Path, progress: &Progress) -> Result<()> {
        self.fill(container, &mut |rootfs| copy::tree(image, rootfs, progress))
    }

    fn fill(&self, container: &Path, fill: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
        let rootfs = rootfs(container);
        std::fs::create_dir(&rootfs).context(|| format!("make `{}`", rootfs.display()))?;
        fill(&rootfs)
    }

    fn duplicate(&self, from: &Path, _: Activity, to: &Path, _: Purpose, progress: &Progress) -> Result<()> {
        self.create(&rootfs(from), to, progress)
    }

    fn exchange(&self, a: &Path, b: &Path) -> Result<()> {
        exchange_paths(&rootfs(a), &rootfs(b))
    }

    fn mount(&self, place: &Path, userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
        mount_rootfs(place, userns)
    }

    fn tree(&self, place: &Path) -> Option<PathBuf> {
        Some(rootfs(place))
    }

    fn destroy(&self, place: &Path) -> Result<()> {
        store::remove_tree(&rootfs(place))
    }
}
