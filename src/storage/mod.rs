//! Where a container's root file system lives: one narrow trait, one file a backend.

mod choose;
mod dir;
mod idmap;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

pub use choose::{Choice, choose};

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::store::Layout;

/// A way to keep root file systems. `container` is the container's directory
/// (`/var/lib/lxm/NAME`, or its staging place while it is made).
pub trait Backend {
    /// As recorded in `origin.toml`: `dir`, `overlay`, `btrfs`.
    fn name(&self) -> &'static str;

    /// Makes the root file system of `container` from the read-only tree `image`.
    fn create(&self, image: &Path, container: &Path, progress: &Progress) -> Result<()>;

    /// Makes a detached mount of the root file system, with ids mapped as `userns` maps them.
    ///
    /// Called by the supervisor in a mount namespace of its own, so nothing it mounts outlives it.
    /// The mount is private and has no submounts.
    fn mount(&self, container: &Path, userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd>;

    /// Removes the root file system; `container` is in the trash and used by nobody.
    fn destroy(&self, container: &Path) -> Result<()>;
}

/// The names that `--storage` takes, `auto` apart.
pub const BACKENDS: [&str; 1] = [dir::NAME];

/// The backend that `origin.toml` names.
pub fn backend(_layout: &Layout, name: &str) -> Result<Box<dyn Backend>> {
    match name {
        dir::NAME => Ok(Box::new(dir::Dir)),
        _ => Err(Error::usage(format!("there is no storage backend `{name}`"))
            .hint(format!("there are `auto` and {}", BACKENDS.map(|b| format!("`{b}`")).join(", ")))),
    }
}
