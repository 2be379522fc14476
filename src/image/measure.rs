//! What a tree holds: how much, and whose.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rustix::fs::Stat;

use super::walk::{Visited, walk};
use crate::error::{Context, Result};

/// What is in a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// On disk, a file of several names counted once.
    pub bytes: u64,
    pub entries: u64,
    pub highest: HighestOwner,
}

/// The highest user or group id that something in a tree belongs to, and the first that does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HighestOwner {
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
            self.highest = HighestOwner { id, path: path.to_owned() };
        }
    }
}

/// Measures all that is below `root`, and `root` itself, following no link.
pub(crate) fn measure(root: &Path) -> Result<Measured> {
    let (mut found, mut seen) = (Measured::default(), HashSet::new());
    let mut visit = |visited: &Visited<'_>| {
        let stat = &visited.stat;
        let counts = visited.is_dir() || stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino));
        found.take(stat, visited.path, counts);
        Ok(())
    };
    walk(root, &mut visit).context(|| format!("measure `{}`", root.display()))?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

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
