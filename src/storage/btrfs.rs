//! `btrfs`: the root file system is a subvolume, its image, snapshots and clones share its blocks.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::backend::exchange_paths;
use super::backend::rootfs;
use super::dir::mount_rootfs;
use super::idmap::GuestIds;
use super::{Activity, Backend, Purpose, Usage, usage};
use crate::error::{Context, Error, Result};
use crate::image::Remarks;
use crate::image::copy::copy_tree;
use crate::progress::Progress;
use crate::store;
use crate::sys::btrfs;

pub(super) const NAME: &str = "btrfs";

#[derive(Debug)]
pub(super) struct Btrfs;

impl Backend for Btrfs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self, image: &Path, container: &Path, progress: &Progress) -> Result<Remarks> {
        if can_snapshot(image, container)? {
            snapshot_all(image, &rootfs(container))?;
            return Ok(Remarks::default());
        }
        let rootfs = rootfs(container);
        btrfs::create_subvolume(&rootfs)?;
        copy_tree(image, &rootfs, progress)
    }

    fn fill(&self, container: &Path, fill: &mut dyn FnMut(&Path) -> Result<()>) -> Result<Remarks> {
        let rootfs = rootfs(container);
        btrfs::create_subvolume(&rootfs)?;
        fill(&rootfs)?;
        Ok(Remarks::default())
    }

    fn duplicate(&self, from: &Path, _: Activity, to: &Path, purpose: Purpose, _: &Progress) -> Result<Remarks> {
        let target = rootfs(to);
        snapshot_all(&rootfs(from), &target)?;
        if purpose == Purpose::Snapshot {
            btrfs::set_read_only(&target, true)?;
        }
        Ok(Remarks::default())
    }

    fn exchange(&self, a: &Path, b: &Path) -> Result<()> {
        exchange_paths(&rootfs(a), &rootfs(b))
    }

    fn mount(&self, place: &Path, ids: Option<GuestIds<'_>>) -> Result<OwnedFd> {
        mount_rootfs(place, ids)
    }

    fn tree(&self, place: &Path) -> Result<Option<PathBuf>> {
        Ok(Some(rootfs(place)))
    }

    fn limit(&self, place: &Path, bytes: Option<u64>) -> Result<()> {
        btrfs::limit_subvolume(&rootfs(place), bytes)
    }

    fn usage(&self, place: &Path) -> Result<Usage> {
        usage::of_tree(&rootfs(place))
    }

    fn destroy(&self, place: &Path) -> Result<()> {
        remove_subvolume_or_tree(&rootfs(place))
    }
}

/// Whether `container` can be a snapshot of `image`: a subvolume on the same file system.
fn can_snapshot(image: &Path, container: &Path) -> Result<bool> {
    Ok(btrfs::is_subvolume(image)?
        && btrfs::is_btrfs(container)?
        && btrfs::file_system_id(image)? == btrfs::file_system_id(container)?)
}

/// Snapshots `source` with the subvolumes below it, which a plain snapshot shows as empty directories.
fn snapshot_all(source: &Path, target: &Path) -> Result<()> {
    btrfs::snapshot(source, target)?;
    for child in btrfs::children(source)? {
        let place = target.join(&child);
        // The empty directory in the snapshot stands where the child is to be.
        std::fs::remove_dir(&place).context(|| format!("remove `{}`", place.display()))?;
        snapshot_all(&source.join(&child), &place)?;
    }
    Ok(())
}

/// Removes a tree that was made as a subvolume, or else as a directory.
fn remove_subvolume_or_tree(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::from(e).step(format!("look at `{}`", path.display()))),
        Ok(_) if btrfs::is_subvolume(path)? => btrfs::delete_subvolume(path),
        Ok(_) => store::remove_tree(path),
    }
}
