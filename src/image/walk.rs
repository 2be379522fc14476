//! Visits all that is in a tree, which may be deeper than a path is long and than a process has descriptors.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};

use super::shown;
use crate::error::{Context, Result};
use crate::sys::fs::open_beneath;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is opened of a path at once: the kernel takes no more than PATH_MAX, 4096 with the NUL behind it.
const STRETCH: usize = 4095;

/// Something in a tree; the root itself is `.` in itself.
pub(super) struct Visited<'a> {
    /// The directory that it is in, and its name there.
    pub dir: BorrowedFd<'a>,
    pub name: &'a CStr,
    /// Below the tree.
    pub path: &'a Path,
    pub stat: Stat,
}

impl Visited<'_> {
    pub(super) fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }

    /// Opens it, be it a FIFO; not a link.
    pub(super) fn open(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::openat(self.dir, self.name, flags, Mode::empty())
    }
}

/// Shows `visit` the directory `root` and all that is below it, following no link.
pub(super) fn walk(root: &Path, visit: &mut dyn FnMut(&Visited<'_>) -> Result<()>) -> Result<()> {
    let root = rustix::fs::openat(CWD, root, DIRECTORY, Mode::empty())?;
    visit(&Visited { dir: root.as_fd(), name: c".", path: Path::new("."), stat: rustix::fs::fstat(&root)? })?;
    let mut dirs = vec![PathBuf::new()];
    // The directory before: down a tree a step costs the same at any depth.
    let mut last: Option<(PathBuf, OwnedFd)> = None;
    while let Some(path) = dirs.pop() {
        let open = |at: BorrowedFd<'_>, stretch: &Path| open_beneath(at, stretch, DIRECTORY, Mode::empty());
        let near = last.as_ref().and_then(|(above, dir)| Some((dir.as_fd(), path.strip_prefix(above).ok()?)));
        let (at, below) = near.unwrap_or((root.as_fd(), &path));
        let dir = open_deep(at, below.as_os_str().as_bytes(), open)
            .context(|| format!("open `{}`", shown(path.as_os_str().as_bytes())))?;
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            let visited = Visited { dir: dir.as_fd(), name, path: &path, stat };
            visit(&visited)?;
            if visited.is_dir() {
                dirs.push(path);
            }
        }
        last = Some((path, dir));
    }
    Ok(())
}

/// Opens the directory `path` below `root` (empty for `root` itself) with `open`, which is given a directory
/// and a path below it: `path` whole, or one stretch after the other where it is too long for that.
pub(crate) fn open_deep<E>(
    root: BorrowedFd<'_>,
    path: &[u8],
    mut open: impl FnMut(BorrowedFd<'_>, &Path) -> Result<OwnedFd, E>,
) -> Result<OwnedFd, E> {
    let (mut at, mut rest): (Option<OwnedFd>, _) = (None, if path.is_empty() { b"." } else { path });
    loop {
        let slash = rest.iter().take(STRETCH).rposition(|&byte| byte == b'/');
        let end = if rest.len() <= STRETCH { None } else { slash };
        let stretch = Path::new(OsStr::from_bytes(&rest[..end.unwrap_or(rest.len())]));
        let opened = open(at.as_ref().map_or(root, |at| at.as_fd()), stretch)?;
        let Some(end) = end else { return Ok(opened) };
        (at, rest) = (Some(opened), &rest[end + 1..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::make_deep;

    #[test]
    fn a_tree_is_visited_to_its_end_where_no_path_is_long_enough() {
        let top = tempfile::tempdir().unwrap();
        let deepest = make_deep(top.path());
        rustix::fs::symlinkat("/", &deepest, "deepest").unwrap();
        let mut seen = Vec::new();
        let mut visit = |visited: &Visited<'_>| {
            seen.push((visited.name.to_owned(), visited.is_dir()));
            Ok(())
        };
        walk(top.path(), &mut visit).unwrap();
        assert_eq!((seen.len(), seen.last().unwrap()), (52, &(c"deepest".to_owned(), false)));
    }
}
