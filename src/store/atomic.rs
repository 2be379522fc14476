//! Files and trees that appear by a rename, and that a crash leaves whole or not at all.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::sys::remove::remove_at;

/// Replaces `path` with `contents` so that after a crash it holds the old or the new, whole.
pub(crate) fn replace_file(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    replace(path, contents, mode, |file| Ok(file.sync_all()?))
}

/// The same for a file below /run, which is not to outlive the host's boot: whole, but not durable.
pub(crate) fn replace_run_file(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    replace(path, contents, mode, |_| Ok(()))
}

fn replace(path: &Path, contents: &[u8], mode: u32, sync: fn(&File) -> Result<()>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::failed(format!("`{}` is not a file's path", path.display())));
    };
    let write = || -> Result<()> {
        fs::create_dir_all(dir)?;
        let dir = File::open(dir)?;
        place_file(dir.as_fd(), None, name, &mut |mut file| {
            file.write_all(contents)?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            sync(file)
        })?;
        sync(&dir)
    };
    write().context(|| format!("write `{}`", path.display()))
}

/// Makes the file `name` of `dir`, in place of one that has the name, of what `fill` writes: whole or
/// not at all. It is root's alone until `fill` says otherwise.
///
/// While it is filled it has no name, where the file system can do that (`O_TMPFILE`): a process that is
/// killed leaves nothing. What replaces another file has one for a moment, in `aside`; see [`place`].
pub(crate) fn place_file(
    dir: BorrowedFd<'_>,
    aside: Option<BorrowedFd<'_>>,
    name: &OsStr,
    fill: &mut dyn FnMut(&File) -> Result<()>,
) -> Result<()> {
    let (write, mode) = (OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    let unnamed = match rustix::fs::openat(dir, ".", write | OFlags::TMPFILE, mode) {
        // What kernels and file systems say that have no such files (open(2)).
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => None,
        other => Some(File::from(other?)),
    };
    let Some(file) = unnamed else {
        let temporary = temporary();
        let flags = write | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::openat(dir, &temporary, flags, mode)?);
        return put(dir, &temporary, dir, name, fill(&file));
    };
    fill(&file)?;
    // By its magic link, which takes no privilege, unlike its descriptor (linkat(2), AT_EMPTY_PATH).
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let give = |at: BorrowedFd<'_>, name: &OsStr| rustix::fs::linkat(CWD, &link, at, name, AtFlags::SYMLINK_FOLLOW);
    match give(dir, name) {
        Err(Errno::EXIST) => place(dir, aside, name, |at, temporary| Ok(give(at, temporary)?)),
        other => Ok(other?),
    }
}

/// Has `make` make something under a temporary name, then renames it to `name` in `dir`.
///
/// It is made in `aside` where that is on the same mount: a directory that is swept ([`sweep_aside`])
/// before the tree is used again, should this process be killed in between.
pub(crate) fn place(
    dir: BorrowedFd<'_>,
    aside: Option<BorrowedFd<'_>>,
    name: &OsStr,
    make: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<()>,
) -> Result<()> {
    let temporary = temporary();
    let made_in = |at: BorrowedFd<'_>| put(at, &temporary, dir, name, make(at, &temporary));
    match aside.map(made_in) {
        // Another mount, or another project of a quota.
        Some(Err(e)) if e.errno() == Some(libc::EXDEV) => made_in(dir),
        Some(other) => other,
        None => made_in(dir),
    }
}

/// Gives what was `made` as `temporary` in `at` its name in `dir`, or removes it.
fn put(at: BorrowedFd<'_>, temporary: &OsStr, dir: BorrowedFd<'_>, name: &OsStr, made: Result<()>) -> Result<()> {
    let put = made.and_then(|()| Ok(rustix::fs::renameat(at, temporary, dir, name)?));
    if put.is_err() {
        // The failure is what is reported; it may have made nothing.
        let _ = rustix::fs::unlinkat(at, temporary, AtFlags::empty());
    }
    put
}

const TEMPORARY: &str = ".lxm-";

fn temporary() -> OsString {
    OsString::from(format!("{TEMPORARY}{:016x}", RandomState::new().build_hasher().finish()))
}

/// Removes what killed commands have left in `dir`, where [`place`] puts things aside.
pub(crate) fn sweep_aside(dir: impl AsFd) -> Result<()> {
    // A descriptor of its own, for the one given may be open as a place alone.
    let opened = rustix::fs::openat(&dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&opened)? {
        let entry = entry?;
        let digits = entry.file_name().to_bytes().strip_prefix(TEMPORARY.as_bytes());
        if digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit)) {
            // A directory of that name is the guest's, and stays.
            let _ = rustix::fs::unlinkat(&opened, entry.file_name(), AtFlags::empty());
        }
    }
    Ok(())
}

/// Makes renames in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).context(|| format!("sync `{}`", dir.display()))
}

/// Removes a file or a tree of any depth, following no symbolic link; a missing one is removed already.
///
/// What cannot be removed is named, and does not keep the rest from being removed.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let remove = || -> Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::failed("it has no name"));
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        let name = CString::new(name.as_encoded_bytes()).map_err(|_| Error::failed("its name holds a NUL byte"))?;
        remove_at(parent, &name)
    };
    remove().context(|| format!("remove `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_are_made_aside_and_remains_of_a_kill_go() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        let (root, target) = (File::open(dir.path()).unwrap(), File::open(&below).unwrap());
        for contents in ["one", "two"] {
            let fill = &mut |mut file: &File| Ok(file.write_all(contents.as_bytes())?);
            place_file(target.as_fd(), Some(root.as_fd()), OsStr::new("file"), fill).unwrap();
            assert_eq!(fs::read_to_string(below.join("file")).unwrap(), contents);
        }
        let seen = std::cell::RefCell::new(None);
        place(target.as_fd(), Some(root.as_fd()), OsStr::new("link"), |at, name| {
            *seen.borrow_mut() = Some(dir.path().join(name));
            Ok(rustix::fs::symlinkat("x", at, name)?)
        })
        .unwrap();
        assert!(seen.into_inner().unwrap().starts_with(dir.path()) && below.join("link").is_symlink());
        for left in [".lxm-0123456789abcdef", ".lxm-mine", "file"] {
            fs::write(dir.path().join(left), "").unwrap();
        }
        fs::create_dir(dir.path().join(".lxm-00000000000000ff")).unwrap();
        sweep_aside(&root).unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".lxm-00000000000000ff", ".lxm-mine", "below", "file"]);
    }
}
