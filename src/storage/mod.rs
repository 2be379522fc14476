//! Where a container's root file system lives: one narrow trait, one file a backend.
//!
//! A *place* is a directory that holds a tree in the backend's own form: a container's directory
//! (`/var/lib/lxm/NAME`, or its staging place while it is made) or a snapshot's below it.

mod assemble;
mod btrfs;
mod choose;
mod dir;
pub mod ephemeral;
mod idmap;
mod layers;
pub mod nested;
mod overlay;
mod quota;
mod shift;
mod tree;
mod usage;
mod xattr_ids;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

pub use choose::{Choice, choose};
pub use idmap::maps_ids;
pub use shift::unshift;
pub use tree::{Tree, is_mount_point};
pub use usage::Usage;

use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::store::Layout;

/// Whether somebody may write to a tree while it is duplicated.
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

    /// Makes the root file system of `container` from the read-only tree `image`.
    fn create(&self, image: &Path, container: &Path, progress: &Progress) -> Result<()>;

    /// Makes the root file system of `container` from what `fill` puts into the empty directory it is given.
    fn fill(&self, container: &Path, fill: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()>;

    /// Makes in the place `to` a duplicate of the tree of `from`, sharing what can be shared.
    fn duplicate(
        &self,
        from: &Path,
        activity: Activity,
        to: &Path,
        purpose: Purpose,
        progress: &Progress,
    ) -> Result<()>;

    /// Whether a duplicate shares everything with what it is made from, and so is made at once.
    fn shares(&self) -> bool {
        true
    }

    /// Exchanges the trees of two places on one file system, at once.
    fn exchange(&self, a: &Path, b: &Path) -> Result<()>;

    /// The file or directory of a place that holds its tree or leads to it: what an exchange exchanges.
    fn holder(&self, place: &Path) -> PathBuf {
        dir::rootfs(place)
    }

    /// Makes a detached mount of a place's tree, with ids mapped as `userns` maps them.
    ///
    /// Called in a mount namespace of the caller's own, so nothing it mounts outlives it; from
    /// elsewhere use [`Tree::open`]. The mount is private and has no submounts; nobody may write to
    /// a snapshot's.
    fn mount(&self, place: &Path, userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd>;

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

    /// Makes what the tree of `place` writes to its own, where a copy of the place's directory, made by
    /// hand, leads to it too. Fails with `Kind::Conflict` while somebody writes to it.
    fn separate(&self, _place: &Path) -> Result<()> {
        Ok(())
    }

    /// Removes a place's tree; it is used by nobody.
    fn destroy(&self, place: &Path) -> Result<()>;
}

/// The names that `--storage` takes, `auto` apart.
pub const BACKENDS: [&str; 3] = [btrfs::NAME, dir::NAME, overlay::NAME];

/// The backend that `origin.toml` names.
pub fn backend(layout: &Layout, name: &str) -> Result<Box<dyn Backend>> {
    match name {
        btrfs::NAME => Ok(Box::new(btrfs::Btrfs)),
        dir::NAME => Ok(Box::new(dir::Dir)),
        overlay::NAME => Ok(Box::new(overlay::Overlay::new(layout))),
        _ => Err(Error::usage(format!("there is no storage backend `{name}`"))
            .hint(format!("there are `auto`, {}", BACKENDS.map(|b| format!("`{b}`")).join(", ")))),
    }
}

/// The backend of a container.
pub fn of_container(layout: &Layout, name: &crate::types::ContainerName) -> Result<Box<dyn Backend>> {
    let origin = crate::store::Origin::read(layout, name)?;
    backend(layout, &origin.storage)
}

/// The directory that the overlay of a place writes to; `None` where its backend is another.
pub fn upper_layer(layout: &Layout, backend: &str, place: &Path) -> Result<Option<PathBuf>> {
    if backend == overlay::NAME { overlay::Overlay::new(layout).exclusive(place) } else { Ok(None) }
}

/// The places whose trees are layered on the image with the tree `image`, below the containers'
/// directory: `web`, `web/snapshots/before`, `.trash/…`.
pub fn users_of_image(layout: &Layout, image: &Path) -> Result<Vec<PathBuf>> {
    let layers = layers::Layers::new(layout);
    let name = layers.image_name(image)?;
    let users = layers.stacks()?.into_iter().filter(|(_, stack)| stack.image.as_ref() == Some(&name));
    let below = |place: PathBuf| place.strip_prefix(layout.containers()).map(Path::to_owned).unwrap_or(place);
    Ok(users.map(|(place, _)| below(place)).collect())
}

/// What the image with the tree `image`, of `bytes` in all, has in common with containers: with those
/// that are layered on it, all.
pub fn usage_of_image(image: &Path, bytes: u64, is_layered_on: bool) -> Result<Usage> {
    match () {
        () if is_layered_on => Ok(Usage { own: 0, shared: bytes }),
        () if usage::shares_blocks(image)? => usage::of_tree(image),
        () => Ok(Usage { own: bytes, shared: 0 }),
    }
}

/// Removes what no container, snapshot or copy uses any more; says how many layers there were.
pub fn sweep(layout: &Layout) -> Result<usize> {
    choose::sweep_trial(layout)?;
    layers::Layers::new(layout).sweep()
}

/// Exchanges two paths on one file system, at once.
fn exchange_paths(a: &Path, b: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)
        .context(|| format!("exchange `{}` and `{}`", a.display(), b.display()))
}
