//! The attributes in which overlayfs keeps its own state (`trusted.overlay.opaque`, `.redirect`, …).

use std::path::Path;

use rustix::fs::{llistxattr, lremovexattr};

use super::attributes::{in_dir, xattr_names};
use super::walk::{Visited, walk};
use crate::error::{Context, Result};

const PREFIX: &[u8] = b"trusted.overlay.";

/// Removes overlayfs's own attributes from an untrusted tree that is to be a layer.
///
/// An archive can have any, and the kernel believes them: directories hidden, or shown elsewhere.
pub(crate) fn remove_overlay_marks(root: &Path) -> Result<()> {
    let mut visit = |visited: &Visited<'_>| {
        let path = in_dir(visited.dir, visited.name.to_bytes());
        clean(&path).context(|| format!("`{}`", visited.path.display()))
    };
    walk(root, &mut visit).context(|| format!("remove the attributes of overlayfs below `{}`", root.display()))
}

fn clean(path: &[u8]) -> rustix::io::Result<()> {
    let names = xattr_names(|names| llistxattr(path, names))?;
    names.iter().filter(|name| name.starts_with(PREFIX)).try_for_each(|name| lremovexattr(path, &**name))
}
