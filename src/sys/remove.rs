//! Removes untrusted trees: of any depth and width, with bounded memory and descriptors, past immutable
//! files, and never across a mount.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, IFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// How deep a walk goes with a descriptor open for each level. What is deeper is moved up to the top
/// and removed from there.
const DEPTH: usize = 24;

/// How many of the things that could not be removed are named.
const NAMED: usize = 3;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// Removes the file or the whole tree `name` in the directory `parent`, following no symbolic link; a
/// missing one is removed already.
///
/// What cannot be removed does not keep the rest from it, and is named in the error. A mount point is such a
/// thing: what is mounted is not part of the tree.
pub(crate) fn remove_at(parent: impl AsFd, name: &CStr) -> Result<()> {
    let parent = parent.as_fd();
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e.into()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
            return Ok(unlink(parent, name, AtFlags::empty(), false)?);
        }
        Ok(_) => {}
    }
    let top = match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    // An ext4 project id that is inherited keeps what has another from being moved here (EXDEV).
    clear_flags(&top, IFlags::PROJECT_INHERIT);
    let mut walk = Walk { top, moved: 0, removed: 0, failed: Vec::new(), failures: 0 };
    loop {
        let before = walk.removed;
        (walk.failed, walk.failures) = (Vec::new(), 0);
        walk.empty_top()?;
        match unlink(parent, name, AtFlags::REMOVEDIR, true) {
            Ok(()) => return Ok(()),
            // Something was moved up, or passed over by a directory that changed while it was read.
            Err(Errno::NOTEMPTY | Errno::EXIST) if walk.removed > before => {}
            Err(e) => return Err(walk.error(e)),
        }
    }
}

struct Walk {
    top: OwnedFd,
    /// How many directories were moved up: their names.
    moved: u64,
    removed: u64,
    /// Some of what could not be removed, by path from the top, and why.
    failed: Vec<(String, Errno)>,
    failures: u64,
}

/// A directory that is being emptied.
struct Level {
    name: CString,
    entries: Dir,
    /// How much was removed when its reading began.
    began: u64,
}

impl Level {
    fn open(name: CString, fd: OwnedFd, began: u64) -> rustix::io::Result<Self> {
        Ok(Level { name, entries: Dir::new(fd)?, began })
    }
}

impl Walk {
    fn empty_top(&mut self) -> Result<()> {
        let again = rustix::fs::openat(&self.top, c".", DIRECTORY, Mode::empty())?;
        let mut levels = vec![Level::open(c"".into(), again, self.removed)?];
        while let Some(level) = levels.last_mut() {
            match level.entries.read() {
                Some(Ok(entry)) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Some(Ok(entry)) => {
                    let name = entry.file_name().to_owned();
                    if let Some(next) = self.take(&levels, name, entry.file_type()) {
                        levels.push(next);
                    }
                }
                Some(Err(e)) => {
                    self.fail(&levels, c".", e);
                    self.leave(&mut levels);
                }
                None => self.leave(&mut levels),
            }
        }
        Ok(())
    }

    /// Removes an entry of the last level; gives the level below where it is a directory to be emptied.
    fn take(&mut self, levels: &[Level], name: CString, kind: FileType) -> Option<Level> {
        let result = self.try_take(levels, &name, kind);
        result.unwrap_or_else(|e| {
            self.fail(levels, &name, e);
            None
        })
    }

    fn try_take(&mut self, levels: &[Level], name: &CStr, kind: FileType) -> rustix::io::Result<Option<Level>> {
        let dir = levels.last().map(|level| level.entries.fd()).transpose()?.ok_or(Errno::BADF)?;
        let kind = match kind {
            FileType::Unknown => {
                FileType::from_raw_mode(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
            }
            kind => kind,
        };
        if kind != FileType::Directory {
            unlink(dir, name, AtFlags::empty(), kind == FileType::RegularFile)?;
            self.removed += 1;
            return Ok(None);
        }
        if levels.len() < DEPTH {
            let fd = open_below(dir, name)?;
            return Level::open(name.to_owned(), fd, self.removed).map(Some);
        }
        // Empty ones are the most.
        if unlink(dir, name, AtFlags::REMOVEDIR, true).is_ok() {
            self.removed += 1;
            return Ok(None);
        }
        self.move_up(dir, name).map(|()| None)
    }

    /// Moves a directory that is too deep to the top, where a later pass meets it.
    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
        loop {
            self.moved += 1;
            let place = CString::new(format!(".lxm-removed-{}", self.moved)).map_err(|_| Errno::INVAL)?;
            let rename =
                || rustix::fs::renameat_with(dir, name, &self.top, &*place, rustix::fs::RenameFlags::NOREPLACE);
            let moved = rename().or_else(|e| match e {
                Errno::PERM | Errno::ACCESS => {
                    make_changeable(dir, Some(name));
                    rename()
                }
                e => Err(e),
            });
            match moved {
                // Left by a walk that was killed.
                Err(Errno::EXIST) => {}
                other => return other,
            }
        }
    }

    /// The last level has been read to its end: goes up, and removes it unless it is the top.
    fn leave(&mut self, levels: &mut Vec<Level>) {
        let Some(level) = levels.pop() else { return };
        let Some(above) = levels.last() else { return };
        let removed = above.entries.fd().and_then(|dir| unlink(dir, &level.name, AtFlags::REMOVEDIR, true));
        match removed {
            Ok(()) => self.removed += 1,
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.removed > level.began => {
                // The next pass meets what this one passed over or could not remove.
            }
            // What is in it has been named.
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.failures > 0 => {}
            Err(e) => self.fail(levels, &level.name.clone(), e),
        }
    }

    fn fail(&mut self, levels: &[Level], name: &CStr, errno: Errno) {
        self.failures += 1;
        if self.failed.len() < NAMED {
            let parts = levels.iter().map(|level| level.name.to_string_lossy()).filter(|part| !part.is_empty());
            let parts: Vec<_> = parts.chain([name.to_string_lossy()]).collect();
            self.failed.push((parts.join("/"), errno));
        }
    }

    /// The error of a tree that is not empty; `last` is what its own removal failed with.
    fn error(&self, last: Errno) -> Error {
        let Some((_, first)) = self.failed.first() else { return last.into() };
        let named: Vec<String> = self.failed.iter().map(|(path, _)| format!("`{path}`")).collect();
        let more = self.failures.saturating_sub(self.failed.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let left = format!("what is left: {}{more}", named.join(", "));
        match *first {
            Errno::XDEV | Errno::BUSY => Error::from(Errno::BUSY)
                .step(format!("{left}: something is mounted there"))
                .hint("unmount it, and try again; `findmnt` shows where"),
            first => Error::from(first).step(left),
        }
    }
}

/// Opens a directory to be emptied; fails with `EXDEV` on a mount point.
fn open_below(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    loop {
        match rustix::fs::openat2(dir, name, DIRECTORY, Mode::empty(), ResolveFlags::NO_XDEV) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Unlinks; where a flag forbids it, takes the flag away and tries again. `flagged` says whether the
/// thing itself may bear one, and not only its directory.
fn unlink(dir: BorrowedFd<'_>, name: &CStr, how: AtFlags, flagged: bool) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(dir, name, how) {
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::PERM | Errno::ACCESS) => {
            make_changeable(dir, flagged.then_some(name));
            rustix::fs::unlinkat(dir, name, how)
        }
        other => other,
    }
}

/// Takes immutability from a directory and from an entry of it that is known to be a regular file or a
/// directory: to open anything else may do something.
fn make_changeable(dir: BorrowedFd<'_>, entry: Option<&CStr>) {
    let fixed = IFlags::IMMUTABLE.union(IFlags::APPEND);
    clear_flags(dir, fixed);
    let Some(name) = entry else { return };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(fd) = rustix::fs::openat(dir, name, flags, Mode::empty()) {
        clear_flags(&fd, fixed);
    }
}

/// Clears inode flags (FS_IOC_SETFLAGS). A file system without them has nothing to clear.
fn clear_flags(fd: impl AsFd, flags: IFlags) {
    if let Ok(now) = rustix::fs::ioctl_getflags(&fd)
        && now.intersects(flags)
    {
        // What it is needed for fails and says so.
        let _ = rustix::fs::ioctl_setflags(&fd, now - flags);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn remove(path: &Path) -> Result<()> {
        let parent = rustix::fs::open(path.parent().unwrap(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let name = CString::new(path.file_name().unwrap().as_encoded_bytes()).unwrap();
        remove_at(parent, &name)
    }

    /// A chain of directories deeper than PATH_MAX lets any path name, with siblings at each level.
    fn deep(top: &Path, levels: usize) {
        std::fs::create_dir(top).unwrap();
        let mut dir = rustix::fs::open(top, DIRECTORY, Mode::empty()).unwrap();
        let name = c"a-name-that-is-not-quite-short";
        for _ in 0..levels {
            rustix::fs::mkdirat(&dir, name, Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&dir, c"sibling", Mode::RWXU).unwrap();
            rustix::fs::openat(&dir, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
            dir = rustix::fs::openat(&dir, name, DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        deep(&top, 3000);
        // Descriptors of this thread alone: other tests open and close theirs all the time.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
        let open = || std::fs::read_dir("/proc/thread-self/fd").unwrap().count();
        let before = open();
        remove(&top).unwrap();
        assert_eq!(open(), before);
        assert!(!top.exists());
        remove(&top).unwrap();
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("kept/below")).unwrap();
        std::fs::create_dir(dir.path().join("top")).unwrap();
        symlink("../kept", dir.path().join("top/link")).unwrap();
        remove(&dir.path().join("top")).unwrap();
        symlink("kept", dir.path().join("link")).unwrap();
        remove(&dir.path().join("link")).unwrap();
        assert!(dir.path().join("kept/below").exists() && !dir.path().join("link").is_symlink());
    }
}
