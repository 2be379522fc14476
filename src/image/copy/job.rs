//! A directory that is to be copied.

use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A directory to copy; it exists in the target, empty.
pub(super) enum CopyJob {
    Root { source: OwnedFd, target: OwnedFd },
    Below { parent: Arc<Directory>, name: Vec<u8> },
}

/// A directory in both trees. Kept open while directories in it are waiting to be copied.
pub(super) struct Directory {
    pub(super) source: OwnedFd,
    pub(super) target: OwnedFd,
    /// Below the root of the tree, empty for the root itself.
    pub(super) path: Vec<u8>,
}

impl Directory {
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        if self.path.is_empty() { name.to_vec() } else { [&self.path, b"/".as_slice(), name].concat() }
    }
}
