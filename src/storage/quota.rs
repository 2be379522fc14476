//! What a container's files may take up, on ext4 and xfs: by project quotas.
//!
//! A container is the project that has the first of its ids for a number: no other container of the
//! host has that. Directories are made part of it while they are empty, because a file of another
//! project cannot be renamed into them (EXDEV), and special files cannot be changed afterwards.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;

use crate::error::{Context, Error, Result};
use crate::store::Origin;
use crate::sys::quota;

/// Makes the empty directory `dir` the container's whose place, or place of a snapshot, `place` is.
///
/// Nothing to do where the file system has no projects.
pub(super) fn mark(dir: &Path, place: &Path) -> Result<()> {
    let Some(project) = project_of(place)? else { return Ok(()) };
    let step = || format!("mark `{}` for quotas", dir.display());
    let dir = File::open(dir).context(step)?;
    match quota::set_project(&dir, project) {
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EINVAL) => return Ok(()),
        other => other.context(step)?,
    }
    // Whoever had these ids before may have had a limit; ours is set at the next start.
    match quota::limit_project(&dir, project, 0) {
        Err(Errno::ESRCH | Errno::ENOSYS | Errno::EOPNOTSUPP) => Ok(()),
        other => other.context(step),
    }
}

/// Lets what is in the marked directories `dirs` of `place` take up at most `bytes`; `None` lifts the limit.
pub(super) fn limit(dirs: &[&Path], place: &Path, bytes: Option<u64>) -> Result<()> {
    let project = project_of(place)?.ok_or_else(|| Error::failed(format!("`{}` is no container", place.display())))?;
    for path in dirs {
        let dir = File::open(path).context(|| format!("open `{}`", path.display()))?;
        let marked = quota::project(&dir).is_ok_and(|found| found == project);
        let Some(bytes) = bytes else {
            if marked && let Err(e @ (Errno::EPERM | Errno::EIO)) = quota::limit_project(&dir, project, 0) {
                return Err(e).context(|| format!("lift the limit on `{}`", path.display()));
            }
            continue;
        };
        match quota::limit_project(&dir, project, bytes) {
            Ok(()) if marked => {}
            Ok(()) => {
                return Err(Error::host_lacks(format!(
                    "`{}` was made when its file system did not have project quotas",
                    path.display()
                ))
                .hint("a copy of the container (`lxm copy`) can be limited"));
            }
            Err(Errno::ESRCH | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::ENOTTY) => {
                return Err(Error::host_lacks(format!(
                    "the file system of `{}` has no project quotas",
                    path.display()
                ))
                .hint("xfs is mounted with `prjquota` for them; ext4 too, after `tune2fs -O project,quota`"));
            }
            Err(e) => return Err(e).context(|| format!("limit `{}`", path.display())),
        }
    }
    Ok(())
}

/// The container's project; a snapshot's origin is found in the container that it is of.
fn project_of(place: &Path) -> Result<Option<u32>> {
    let own = place.join("origin.toml");
    let of_container = place.parent().and_then(Path::parent).map(|container| container.join("origin.toml"));
    match [Some(own), of_container].into_iter().flatten().find(|file| file.exists()) {
        Some(file) => Ok(Some(Origin::read_file(&file)?.ids.base)),
        None => Ok(None),
    }
}
