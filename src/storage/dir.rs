//! `dir`: a plain tree of files at `rootfs`. Works everywhere; reflinks where the file system has them.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::backend::exchange_paths;
use super::backend::rootfs;
use super::idmap::{self, GuestIds, Ids};
use super::{Activity, Backend, Purpose, Usage, quota, shift, usage};
use crate::error::{Context, Result};
use crate::image::Remarks;
use crate::image::copy::copy_tree;
use crate::progress::Progress;
use crate::store;
use crate::sys;

pub(super) const NAME: &str = "dir";

#[derive(Debug)]
pub(super) struct Dir;

fn make_rootfs(place: &Path) -> Result<PathBuf> {
    let rootfs = rootfs(place);
    std::fs::create_dir(&rootfs).context(|| format!("make `{}`", rootfs.display()))?;
    Ok(rootfs)
}

/// One that counts as what `container` takes up.
fn make_own_rootfs(container: &Path) -> Result<PathBuf> {
    let rootfs = make_rootfs(container)?;
    quota::mark(&rootfs, container)?;
    Ok(rootfs)
}

/// The mount of a place whose tree is at `rootfs`.
///
/// Where the file system cannot map ids, those of the files are shifted, once.
pub(super) fn mount_rootfs(place: &Path, ids: Option<GuestIds<'_>>) -> Result<OwnedFd> {
    let rootfs = rootfs(place);
    let mount = sys::mount::copy_tree(&rootfs, false)?;
    let step = || format!("mount `{}`", rootfs.display());
    let Some(ids) = ids else {
        shift::ensure(place, &rootfs, None)?;
        idmap::prepare_mount(&mount, Ids::Host).context(step)?;
        return Ok(mount);
    };
    if !shift::is_stored_plain(place)? || !idmap::prepare_mount(&mount, Ids::Mapped(ids.userns)).context(step)? {
        shift::ensure(place, &rootfs, Some(ids.range))?;
        idmap::prepare_mount(&mount, Ids::Shifted).context(step)?;
    }
    Ok(mount)
}

/// The tree of a place that is not mounted, ids from 0.
pub(super) fn idle_rootfs(place: &Path) -> Result<PathBuf> {
    let rootfs = rootfs(place);
    shift::ensure(place, &rootfs, None)?;
    Ok(rootfs)
}

impl Backend for Dir {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self, image: &Path, container: &Path, progress: &Progress) -> Result<Remarks> {
        copy_tree(image, &make_own_rootfs(container)?, progress)
    }

    fn fill(&self, container: &Path, fill: &mut dyn FnMut(&Path) -> Result<()>) -> Result<Remarks> {
        fill(&make_own_rootfs(container)?)?;
        Ok(Remarks::default())
    }

    fn duplicate(
        &self,
        from: &Path,
        activity: Activity,
        to: &Path,
        purpose: Purpose,
        progress: &Progress,
    ) -> Result<Remarks> {
        let source = match activity {
            Activity::Idle => idle_rootfs(from)?,
            Activity::Running => rootfs(from),
        };
        shift::copy_record(from, to)?;
        match purpose {
            Purpose::Container => self.create(&source, to, progress),
            // What is kept does not count as what the container takes up.
            Purpose::Snapshot => copy_tree(&source, &make_rootfs(to)?, progress),
        }
    }

    fn shares(&self) -> bool {
        false
    }

    fn exchange(&self, a: &Path, b: &Path) -> Result<()> {
        exchange_paths(&idle_rootfs(a)?, &idle_rootfs(b)?)
    }

    fn mount(&self, place: &Path, ids: Option<GuestIds<'_>>) -> Result<OwnedFd> {
        mount_rootfs(place, ids)
    }

    fn tree(&self, place: &Path) -> Result<Option<PathBuf>> {
        idle_rootfs(place).map(Some)
    }

    fn limit(&self, place: &Path, bytes: Option<u64>) -> Result<()> {
        quota::limit(&[&rootfs(place)], place, bytes)
    }

    fn usage(&self, place: &Path) -> Result<Usage> {
        usage::of_tree(&rootfs(place))
    }

    fn destroy(&self, place: &Path) -> Result<()> {
        store::remove_tree(&rootfs(place))
    }
}
