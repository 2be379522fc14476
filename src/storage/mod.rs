//! Where a container's root file system lives: one narrow trait, one file a backend.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use crate::error::Result;

/// A way to keep root file systems. `container` is the container's directory
/// (`/var/lib/lxm/NAME`, or its staging place while it is made).
pub trait Backend {
    /// As recorded in `origin.toml`: `dir`, `overlay`, `btrfs`.
    fn name(&self) -> &'static str;

    /// Makes the root file system of `container` from the read-only tree `image`.
    fn create(&self, image: &Path, container: &Path) -> Result<()>;

    /// Makes a detached mount of the root file system, with ids mapped as `userns` maps them.
    ///
    /// Called by the supervisor in a mount namespace of its own, so nothing it mounts outlives it.
    fn mount(&self, container: &Path, userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd>;

    /// Removes the root file system; `container` is in the trash and used by nobody.
    fn destroy(&self, container: &Path) -> Result<()>;
}
