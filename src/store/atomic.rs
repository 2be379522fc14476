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
pub fn replace_file(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    replace(path, contents, mode, |file| Ok(file.sync_all()?))
}

/// The same for a file below /run, which is not to outlive the host's boot: whole, but not durable.
pub fn replace_run_file(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
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
        place_file(dir.as_fd(), name, &mut |mut file| {
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
/// While it is filled it has no name, where the file system can do that (`O_TMPFILE`): of who is killed
/// nothing stays.
pub fn place_file(dir: BorrowedFd<'_>, name: &OsStr, fill: &mut dyn FnMut(&File) -> Result<()>) -> Result<()> {
    let (write, mode) = (OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    let unnamed = match rustix::fs::openat(dir, ".", write | OFlags::TMPFILE, mode) {
        // What kernels and file systems say that have no such files (open(2)).
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => None,
        other => Some(File::from(other?)),
    };
    let Some(file) = unnamed else {
        return place(dir, name, |temporary| {
            let flags = write | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            fill(&File::from(rustix::fs::openat(dir, temporary, flags, mode)?))
        });
    };
    fill(&file)?;
    // By its magic link, which takes no privilege, unlike its descriptor (linkat(2), AT_EMPTY_PATH).
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let give = |name: &OsStr| rustix::fs::linkat(CWD, &link, dir, name, AtFlags::SYMLINK_FOLLOW);
    match give(name) {
        Err(Errno::EXIST) => place(dir, name, |temporary| Ok(give(temporary)?)),
        other => Ok(other?),
    }
}

/// Has `make` make something in `dir` under a name of nobody's, then gives it its own.
pub fn place(dir: BorrowedFd<'_>, name: &OsStr, make: impl FnOnce(&OsStr) -> Result<()>) -> Result<()> {
    let temporary = OsString::from(format!(".lxm-{:016x}", RandomState::new().build_hasher().finish()));
    let made = make(&temporary).and_then(|()| Ok(rustix::fs::renameat(dir, &temporary, dir, name)?));
    if made.is_err() {
        // The failure is what is told; it may have made nothing.
        let _ = rustix::fs::unlinkat(dir, &temporary, AtFlags::empty());
    }
    made
}

/// Makes renames in `dir` durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).context(|| format!("sync `{}`", dir.display()))
}

/// Removes a file or a tree of any depth, following no symbolic link; a missing one is removed already.
///
/// What cannot be removed is named, and does not keep the rest from being removed.
pub fn remove_tree(path: &Path) -> Result<()> {
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
