//! The attributes in which overlayfs keeps its own state (`trusted.overlay.opaque`, `.redirect`, …).

use std::path::Path;

use rustix::fs::{llistxattr, lremovexattr};

use super::attributes::xattr_names;
use crate::error::{Context, Result};

const PREFIX: &[u8] = b"trusted.overlay.";

/// Removes overlayfs's own attributes from a tree that somebody else made and that is to be a layer.
///
/// An archive can have any, and the kernel believes them: directories hidden, or shown elsewhere.
pub fn remove_overlay_marks(root: &Path) -> Result<()> {
    let mut dirs = vec![root.to_owned()];
    let step = |path: &Path| format!("remove the attributes of overlayfs from `{}`", path.display());
    clean(root).context(|| step(root))?;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).context(|| step(&dir))? {
            let entry = entry.context(|| step(&dir))?;
            let path = entry.path();
            clean(&path).context(|| step(&path))?;
            if entry.file_type().context(|| step(&path))?.is_dir() {
                dirs.push(path);
            }
        }
    }
    Ok(())
}

fn clean(path: &Path) -> rustix::io::Result<()> {
    let names = xattr_names(|names| llistxattr(path, names))?;
    names.iter().filter(|name| name.starts_with(PREFIX)).try_for_each(|name| lremovexattr(path, &**name))
}
