//! Opening a path of the host in which other users than root have a hand.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, openat, readlinkat, statx};
use rustix::io::Errno;

use super::fs::open_dir;
use crate::error::{Context, Error, Result};

/// As many as the kernel follows (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// Opens `path` (`O_PATH`) following only symbolic links that root made in a directory that only root can
/// change. `None` where it does not exist.
///
/// A user who can put a link into the path, or another name of a file of root's, would otherwise choose what
/// root opens here. What is returned is what was examined: use the descriptor, not the path again.
pub(crate) fn open_host_path(path: &Path) -> Result<Option<OwnedFd>> {
    match walk(path) {
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(None),
        other => other.map(Some),
    }
}

fn walk(path: &Path) -> Result<OwnedFd> {
    // The directories that lead to where we are, so that `..` goes back the way that we came.
    let mut at = vec![(open_dir("/")?, PathBuf::from("/"))];
    let mut left = names(path);
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        let (dir, place) = &at[at.len() - 1];
        if name == ".." {
            at.truncate((at.len() - 1).max(1));
            continue;
        }
        let here = place.join(&name);
        let step = || format!("open `{}`", here.display());
        let fd = open_one(dir.as_fd(), &name).context(step)?;
        let seen = look(&fd).context(step)?;
        let kind = FileType::from_raw_mode(seen.stx_mode.into());
        let is_guarded = is_root_s_alone(&look(dir).context(step)?);
        if kind != FileType::Symlink {
            if kind != FileType::Directory && !is_guarded && seen.stx_nlink > 1 {
                return Err(refused(&here, "is a file with further names"));
            }
            at.push((fd, here));
            continue;
        }
        if !is_guarded || seen.stx_uid != 0 {
            return Err(refused(&here, "is a symbolic link"));
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(Error::from(Errno::LOOP).step(step()));
        }
        let target = readlinkat(&fd, "", Vec::new()).context(step)?.into_bytes();
        let target = PathBuf::from(OsString::from_vec(target));
        if target.is_absolute() {
            at.truncate(1);
        }
        names(&target).into_iter().rev().for_each(|name| left.push_front(name));
    }
    at.pop().map(|(fd, _)| fd).ok_or_else(|| Error::failed("a path does not exist"))
}

fn names(path: &Path) -> VecDeque<OsString> {
    let is_name = |name: &OsStr| name != "/" && name != ".";
    path.iter().filter(|name| is_name(name)).map(OsStr::to_owned).collect()
}

/// Opens one component, following nothing. As a directory if it is one: that mounts what waits for it
/// (autofs).
fn open_one(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, name, flags | OFlags::DIRECTORY, Mode::empty()) {
        Err(Errno::NOTDIR) => openat(dir, name, flags, Mode::empty()),
        other => other,
    }
}

/// What the kernel knows of it without asking a server: one of a user's (FUSE) need not answer.
fn look(fd: impl AsFd) -> rustix::io::Result<Statx> {
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::UID | StatxFlags::NLINK;
    statx(fd, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, wanted)
}

/// The owner of an open file, known to the kernel, and whether it is a directory.
pub(crate) fn owner_of(fd: impl AsFd) -> Result<(u32, bool)> {
    let seen = look(fd)?;
    Ok((seen.stx_uid, FileType::from_raw_mode(seen.stx_mode.into()) == FileType::Directory))
}

/// Whether only root can rename, remove and replace what root has in a directory.
fn is_root_s_alone(dir: &Statx) -> bool {
    let mode = u32::from(dir.stx_mode);
    dir.stx_uid == 0 && (mode & 0o022 == 0 || mode & 0o1000 != 0)
}

fn refused(path: &Path, what: &str) -> Error {
    Error::config(format!("`{}` {what} that another than root may have put there", path.display()))
        .hint("give the path that is meant, without links that users of this host can change")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Directories of the tests are root's only when the tests run as root.
    fn is_root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    #[test]
    fn what_is_not_there_is_none_and_no_error() {
        assert!(open_host_path(Path::new("/nonexistent/x")).unwrap().is_none());
        assert!(open_host_path(Path::new("/proc/../usr/./bin/..")).unwrap().is_some());
    }

    #[test]
    fn links_are_followed_where_only_root_can_make_them() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("place");
        fs::create_dir_all(place.join("real/deep")).unwrap();
        symlink("real/../real", place.join("link")).unwrap();
        let opened = open_host_path(&place.join("link/deep"));
        assert_eq!(opened.is_ok(), is_root(), "{opened:?}");
        symlink("loop", place.join("loop")).unwrap();
        assert!(open_host_path(&place.join("loop")).is_err());
        // A directory that others can write to: the link could be theirs.
        fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let e = open_host_path(&place.join("link")).unwrap_err();
        assert!(e.to_string().contains("place/link` is a symbolic link"), "{e}");
        assert!(open_host_path(&place.join("real/deep")).unwrap().is_some());
        fs::write(place.join("file"), "").unwrap();
        assert!(open_host_path(&place.join("file")).unwrap().is_some());
        fs::hard_link(place.join("file"), place.join("again")).unwrap();
        assert!(open_host_path(&place.join("again")).unwrap_err().to_string().contains("further names"));
    }
}
