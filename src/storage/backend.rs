//! What a way to keep root file systems has to do.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::idmap::GuestIds;
use super::usage::Usage;
use crate::error::{Context, Result};
use crate::image::Remarks;
use crate::progress::Progress;

/// Whether a tree may be written to while it is duplicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It is mounted nowhere.
    Idle,
    /// It is mounted, by a guest that is frozen for the moment.
    Running,
}

/// What a duplicate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be started.
    Container,
    /// To be kept as it is.
    Snapshot,
}

/// A way to keep root file systems.
pub trait Backend: Send + Sync {
    /// As recorded in `origin.toml`: `dir`, `overlay`, `btrfs`.
    fn name(&self) -> &'static str;

    /// Makes the root file system of `container` from the read-only tree `image`. Says what of it could not be
    /// had here.
    fn create(&self, image: &Path, container: &Path, progress: &Progress) -> Result<Remarks>;

    /// Makes the root file system of `container` from what `fill` puts into the empty directory it is given.
    /// Says what of it could not be kept.
    fn fill(&self, container: &Path, fill: &mut dyn FnMut(&Path) -> Result<()>) -> Result<Remarks>;

    /// Makes in the place `to` a duplicate of the tree of `from`, sharing what can be shared. Says what of it
    /// could not be had there; within one file system, nothing.
    fn duplicate(
        &self,
        from: &Path,
        activity: Activity,
        to: &Path,
        purpose: Purpose,
        progress: &Progress,
    ) -> Result<Remarks>;

    /// A directory beside `place` that its tree needs and that does not exist: another file system may not
    /// be mounted yet.
    fn missing(&self, _place: &Path) -> Option<PathBuf> {
        None
    }

    /// Whether a duplicate shares everything with what it is made from, and so is made at once.
    fn shares(&self) -> bool {
        true
    }

    /// Exchanges the trees of two places on one file system, at once.
    fn exchange(&self, a: &Path, b: &Path) -> Result<()>;

    /// The file or directory of a place that holds its tree or leads to it: what an exchange exchanges.
    fn holder(&self, place: &Path) -> PathBuf {
        rootfs(place)
    }

    /// Makes a detached mount of a place's tree, with the ids that the guest of `ids` has.
    ///
    /// Called in a mount namespace of the caller's own, so nothing it mounts outlives it; from elsewhere use
    /// [`super::Tree::open`]. The mount is private and has no submounts; a snapshot's must not be written to.
    fn mount(&self, place: &Path, ids: Option<GuestIds<'_>>) -> Result<OwnedFd>;

    /// Makes a detached mount of the tree of a container in the making, ids from 0. A power cut may take
    /// what is written to it: the container is not there before its making is done.
    ///
    /// Called as [`Backend::mount`] is.
    fn mount_in_the_making(&self, place: &Path) -> Result<OwnedFd> {
        self.mount(place, None)
    }

    /// Where the tree of a place, mounted nowhere, can be worked on, if that takes no mount.
    fn tree(&self, place: &Path) -> Result<Option<PathBuf>>;

    /// Lets what is written to a container's tree take up at most `bytes`; `None` lifts the limit.
    ///
    /// Fails with `Kind::HostLacks` where the file system cannot hold it.
    fn limit(&self, place: &Path, bytes: Option<u64>) -> Result<()>;

    /// Whether what a container is filled with counts towards that limit.
    fn counts_first_files(&self) -> bool {
        true
    }

    /// What the tree of a place takes up.
    fn usage(&self, place: &Path) -> Result<Usage>;

    /// Whether an overlay can be made on its trees, as container managers in a guest do.
    fn carries_overlays(&self) -> bool {
        true
    }

    /// The directory that must not be written to by two at once, where a mount of the tree of `place`
    /// writes to one that another place may lead to.
    fn exclusive(&self, _place: &Path) -> Result<Option<PathBuf>> {
        Ok(None)
    }

    /// Makes what the tree of `place` writes to its own, where a copy of the place's directory, made by hand,
    /// leads to it too. Fails with `Kind::Conflict` while another process writes to it.
    fn separate(&self, _place: &Path) -> Result<()> {
        Ok(())
    }

    /// Removes a place's tree, which is not in use.
    fn destroy(&self, place: &Path) -> Result<()>;
}

/// Exchanges two paths on one file system, at once.
pub(super) fn exchange_paths(a: &Path, b: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)
        .context(|| format!("exchange `{}` and `{}`", a.display(), b.display()))
}

pub(super) fn rootfs(place: &Path) -> PathBuf {
    place.join("rootfs")
}
