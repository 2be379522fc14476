//! What overlayfs takes for its own state in a layer: attributes (`trusted.overlay.opaque`, `.redirect`, …) and
//! character devices 0:0, its whiteouts.

use std::path::Path;

use rustix::fs::{AtFlags, FileType, llistxattr, lremovexattr};
use rustix::io::Errno;

use super::Remarks;
use super::attributes::{in_dir, xattr_names};

use super::walk::{Visited, walk};
use crate::error::{Context, Result};
use crate::sys::inode_flags::changeable;

const PREFIX: &[u8] = b"trusted.overlay.";

/// Removes it from an untrusted tree that is to be a layer, and says what that was.
///
/// An archive can have any, and the kernel believes them: directories hidden, or shown elsewhere. What is a
/// whiteout of the guest's own, of docker's layers in it for one, would not be seen any more.
pub(crate) fn remove_overlay_marks(root: &Path) -> Result<Remarks> {
    let mut remarks = Remarks::default();
    let mut visit =
        |visited: &Visited<'_>| clean(visited, &mut remarks).context(|| format!("`{}`", visited.path.display()));
    walk(root, &mut visit).context(|| format!("remove the marks of overlayfs below `{}`", root.display()))?;
    Ok(remarks)
}

fn clean(visited: &Visited<'_>, remarks: &mut Remarks) -> rustix::io::Result<()> {
    let shown = visited.path.as_os_str().as_encoded_bytes();
    if FileType::from_raw_mode(visited.stat.st_mode) == FileType::CharacterDevice && visited.stat.st_rdev == 0 {
        remarks.add("left out, because overlayfs would take them for its own whiteouts", shown);
        return changeable(visited.dir, || rustix::fs::unlinkat(visited.dir, visited.name, AtFlags::empty()));
    }
    let path = in_dir(visited.dir, visited.name.to_bytes());
    for name in xattr_names(|names| llistxattr(&path, names))?.iter().filter(|name| name.starts_with(PREFIX)) {
        match lremovexattr(&path, &**name) {
            Err(Errno::PERM) => changeable(&visited.open()?, || lremovexattr(&path, &**name))?,
            other => other?,
        }
        let kind = format!("left out, because overlayfs would take it for its own, `{}` of", super::shown(name));
        remarks.add(&kind, shown);
    }
    Ok(())
}
