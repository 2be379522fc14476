//! What a tree holds: how much, and whose.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};

use crate::error::{Context, Result};
use crate::sys::fs::open_beneath;

/// What is in a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// On disk, a file of several names counted once.
    pub bytes: u64,
    pub entries: u64,
    pub highest: Owner,
}

/// The highest user or group id that something in a tree belongs to, and the first that does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    pub id: u32,
    /// Below the tree.
    pub path: PathBuf,
}

impl Measured {
    fn take(&mut self, stat: &Stat, path: &Path, counts: bool) {
        self.entries += 1;
        if counts {
            self.bytes += stat.st_blocks as u64 * 512;
        }
        let id = stat.st_uid.max(stat.st_gid);
        if id > self.highest.id {
            self.highest = Owner { id, path: path.to_owned() };
        }
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is opened of a path at once: the kernel takes no more than PATH_MAX, 4096, and a name has 255 at most.
const STRETCH: usize = 3500;

/// Opens the directory `path` below `root`, which may be deeper than one path can say.
fn open_deep(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let mut stretches = vec![PathBuf::from(".")];
    for name in path {
        match stretches.last_mut() {
            Some(last) if last.as_os_str().len() < STRETCH => last.push(name),
            _ => stretches.push(name.into()),
        }
    }
    let open = |at: BorrowedFd<'_>, stretch: &PathBuf| open_beneath(at, stretch, DIRECTORY, Mode::empty());
    let first = open(root, &stretches[0])?;
    stretches[1..].iter().try_fold(first, |at, stretch| open(at.as_fd(), stretch))
}

/// Measures all that is below `root`, and `root` itself, following no link.
pub fn measure(root: &Path) -> Result<Measured> {
    let walk = || -> Result<Measured> {
        let root = rustix::fs::openat(CWD, root, DIRECTORY, Mode::empty())?;
        let (mut found, mut seen) = (Measured::default(), HashSet::new());
        found.take(&rustix::fs::fstat(&root)?, Path::new("."), true);
        // Opened from the root each: a tree may be deeper than a process has descriptors.
        let mut dirs = vec![PathBuf::new()];
        while let Some(path) = dirs.pop() {
            let dir = open_deep(root.as_fd(), &path)?;
            for entry in Dir::read_from(dir.as_fd())? {
                let entry = entry?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                let counts = is_dir || stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino));
                found.take(&stat, &path, counts);
                if is_dir {
                    dirs.push(path);
                }
            }
        }
        Ok(found)
    };
    walk().context(|| format!("measure `{}`", root.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_tree_is_measured_to_its_end_where_no_path_is_long_enough() {
        let top = tempfile::tempdir().unwrap();
        let name = "n".repeat(200);
        let mut dir = OwnedFd::from(fs::File::open(top.path()).unwrap());
        for _ in 0..50 {
            rustix::fs::mkdirat(&dir, &name, Mode::RWXU).unwrap();
            dir = rustix::fs::openat(&dir, &name, DIRECTORY, Mode::empty()).unwrap();
        }
        rustix::fs::symlinkat("/", &dir, "deepest").unwrap();
        assert_eq!(measure(top.path()).unwrap().entries, 52);
    }

    #[test]
    fn files_of_several_names_count_once_and_links_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        let empty = measure(&root).unwrap();
        assert_eq!(empty.entries, 3);
        fs::write(root.join("a/file"), vec![1; 1 << 16]).unwrap();
        fs::hard_link(root.join("a/file"), root.join("a/b/again")).unwrap();
        std::os::unix::fs::symlink("/usr", root.join("out")).unwrap();
        let found = measure(&root).unwrap();
        assert_eq!(found.entries, 6);
        assert!((1 << 16..(1 << 16) + 65536).contains(&(found.bytes - empty.bytes)), "{found:?}");
        assert_eq!(found.highest.id, rustix::process::getuid().as_raw().max(rustix::process::getgid().as_raw()));
    }
}
