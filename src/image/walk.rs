//! Visits all that is in a tree, which may be deeper than a path is long and than a process has descriptors.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};

use crate::error::{Context, Result};
use crate::sys::fs::open_beneath;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is opened of a path at once: the kernel takes no more than PATH_MAX, 4096, and a name has 255 at most.
const STRETCH: usize = 3500;

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
}

/// Shows `visit` the directory `root` and all that is below it, following no link.
pub(super) fn walk(root: &Path, visit: &mut dyn FnMut(&Visited<'_>) -> Result<()>) -> Result<()> {
    let root = rustix::fs::openat(CWD, root, DIRECTORY, Mode::empty())?;
    visit(&Visited { dir: root.as_fd(), name: c".", path: Path::new("."), stat: rustix::fs::fstat(&root)? })?;
    let mut dirs = vec![PathBuf::new()];
    while let Some(path) = dirs.pop() {
        let dir = open_deep(root.as_fd(), &path)?;
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
    }
    Ok(())
}

/// Opens the directory `path` below `root`, stretch by stretch.
fn open_deep(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let mut stretches = vec![PathBuf::from(".")];
    for name in path {
        match stretches.last_mut() {
            Some(last) if last.as_os_str().len() < STRETCH => last.push(name),
            _ => stretches.push(name.into()),
        }
    }
    let open = |at: BorrowedFd<'_>, stretch: &PathBuf| {
        open_beneath(at, stretch, DIRECTORY, Mode::empty()).context(|| format!("open `{}`", path.display()))
    };
    let first = open(root, &stretches[0])?;
    stretches[1..].iter().try_fold(first, |at, stretch| open(at.as_fd(), stretch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_visited_to_its_end_where_no_path_is_long_enough() {
        let top = tempfile::tempdir().unwrap();
        let name = "n".repeat(200);
        let mut dir = OwnedFd::from(std::fs::File::open(top.path()).unwrap());
        for _ in 0..50 {
            rustix::fs::mkdirat(&dir, &name, Mode::RWXU).unwrap();
            dir = rustix::fs::openat(&dir, &name, DIRECTORY, Mode::empty()).unwrap();
        }
        rustix::fs::symlinkat("/", &dir, "deepest").unwrap();
        let mut seen = Vec::new();
        let mut visit = |visited: &Visited<'_>| {
            seen.push((visited.name.to_owned(), visited.is_dir()));
            Ok(())
        };
        walk(top.path(), &mut visit).unwrap();
        assert_eq!((seen.len(), seen.last().unwrap()), (52, &(c"deepest".to_owned(), false)));
    }
}
