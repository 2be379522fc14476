//! Copies files between the host and a guest.
//!
//! Neither side trusts what the other's tree does meanwhile: every step is by descriptor, and a
//! symbolic link is copied and never followed below the places that the admin named.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::guest_tree::GuestTree;
use crate::error::{Context, Error, Kind, Result};
use crate::progress::Progress;
use crate::store;
use crate::sys::fs::open_in_root;

/// Copies files of the host into a guest. They keep owner, group, mode and times; `owner` has them
/// all belong to it.
///
/// A directory is copied with all that is in it. Where `target` is a directory, or ends with `/`,
/// they go into it, else the one source becomes it.
pub fn push(guest: &GuestTree, sources: &[PathBuf], target: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let progress = shown("push");
    let copy = Copy { ids: &|id| guest.to_host(id), owner, progress: &progress };
    let is_dir = is_directory(open_in_root(guest.root(), target, OFlags::PATH, Mode::empty()))?;
    let into = is_dir || ends_with_slash(target);
    if sources.len() > 1 && !into {
        return Err(Error::usage(format!("`{}` is not a directory of the guest", target.display()))
            .hint("several files go into a directory; one that ends with `/` is made"));
    }
    guest.as_root(|| {
        for source in sources {
            let step = || format!("push `{}`", source.display());
            let (from, name) = locate_on_host(source).context(step)?;
            let (dir, as_name) = match into {
                true => (make_directories(guest.root(), target).context(step)?, name.clone()),
                false => {
                    let (dir, name) = split(target).context(step)?;
                    (
                        open_in_root(guest.root(), dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
                            .context(step)?,
                        name,
                    )
                }
            };
            copy.entry(from.as_fd(), &name, dir.as_fd(), &as_name).context(step)?;
        }
        Ok(())
    })?;
    progress.finish();
    Ok(())
}

/// Copies files of a guest to the host. They keep owner, group, mode and times, an owner that only
/// the guest knows as its number in the guest.
///
/// As [`push`] otherwise.
pub fn pull(guest: &GuestTree, sources: &[PathBuf], target: &Path) -> Result<()> {
    let progress = shown("pull");
    let copy = Copy { ids: &|id| guest.to_guest(id), owner: None, progress: &progress };
    let into = target.is_dir() || ends_with_slash(target);
    if sources.len() > 1 && !into {
        return Err(Error::usage(format!("`{}` is not a directory", target.display()))
            .hint("several files go into a directory; one that ends with `/` is made"));
    }
    for source in sources {
        let step = || format!("pull `{}`", source.display());
        let (dir, name) = split(source).context(step)?;
        let from = open_in_root(guest.root(), dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).context(step)?;
        let (to, as_name) = if into {
            std::fs::create_dir_all(target).context(step)?;
            (target, name.clone())
        } else {
            split(target).context(step)?
        };
        let to = open_host_directory(to).context(step)?;
        copy.entry(from.as_fd(), &name, to.as_fd(), &as_name).context(step)?;
    }
    progress.finish();
    Ok(())
}

/// Writes what `input` gives to a file of the guest.
pub fn push_stream(guest: &GuestTree, input: &mut dyn Read, target: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let step = || format!("push to `{}`", target.display());
    let (dir, name) = split(target).context(step)?;
    let (uid, gid) = owner.unwrap_or((0, 0));
    let attributes = Attributes { uid: guest.to_host(uid), gid: guest.to_host(gid), mode: 0o644, times: None };
    guest
        .as_root(|| {
            let dir = open_in_root(guest.root(), dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
            place_file(dir.as_fd(), &name, &attributes, &mut |file| {
                std::io::copy(&mut *input, &mut &*file)?;
                Ok(())
            })
        })
        .context(step)
}

/// Gives the contents of a file of the guest to `output`.
pub fn pull_stream(guest: &GuestTree, source: &Path, output: &mut dyn Write) -> Result<()> {
    let step = || format!("pull `{}`", source.display());
    let file = open_in_root(guest.root(), source, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty());
    let file = file.map_err(|e| if e.errno() == Some(libc::ENOENT) { e.with_kind(Kind::NotFound) } else { e });
    let mut file = File::from(file.context(step)?);
    if !file.metadata().context(step)?.is_file() {
        return Err(Error::usage("it is not a regular file").step(step()));
    }
    std::io::copy(&mut file, output).context(step)?;
    Ok(())
}

/// Progress for somebody who looks on; most of what is copied is done before it could be told.
fn shown(label: &str) -> Progress {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() { Progress::bytes(label, 0) } else { Progress::hidden() }
}

/// A directory that is there, `false` for anything else and for nothing.
fn is_directory(opened: Result<OwnedFd>) -> Result<bool> {
    match opened {
        Ok(fd) => Ok(FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Directory),
        Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(false),
        Err(e) => Err(e),
    }
}

fn ends_with_slash(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// A path's directory and its last component.
fn split(path: &Path) -> Result<(&Path, OsString)> {
    match (path.parent(), path.components().next_back()) {
        (Some(dir), Some(Component::Normal(name))) => {
            Ok((if dir.as_os_str().is_empty() { Path::new(".") } else { dir }, name.to_owned()))
        }
        _ => Err(Error::usage(format!("`{}` has no name of its own", path.display()))),
    }
}

/// A file of the host: its directory, and its name in it. `.` and what ends with `..` have a name too.
fn locate_on_host(path: &Path) -> Result<(OwnedFd, OsString)> {
    match split(path) {
        Ok((dir, name)) => Ok((open_host_directory(dir)?, name)),
        Err(_) => {
            let whole = path.canonicalize().context(|| format!("find `{}`", path.display()))?;
            let (dir, name) = split(&whole)?;
            Ok((open_host_directory(dir)?, name))
        }
    }
}

fn open_host_directory(dir: &Path) -> Result<OwnedFd> {
    rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::from)
        .map_err(|e| if e.errno() == Some(libc::ENOENT) { e.with_kind(Kind::NotFound) } else { e })
        .context(|| format!("open `{}`", dir.display()))
}

/// Makes the directories of `path` in the guest that are missing, and opens the last.
fn make_directories(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let open = |path: &Path| open_in_root(root, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
    let mut dir = open(Path::new("/"))?;
    let mut so_far = PathBuf::from("/");
    for component in path.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::ParentDir => OsStr::new(".."),
            _ => continue,
        };
        so_far.push(name);
        dir = match open(&so_far) {
            Err(e) if e.errno() == Some(libc::ENOENT) => {
                let made = rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755));
                made.context(|| format!("make `{}`", so_far.display()))?;
                open(&so_far)?
            }
            other => other?,
        };
    }
    Ok(dir)
}

struct Copy<'a> {
    /// What an id of the source is in the target.
    ids: &'a dyn Fn(u32) -> u32,
    /// In the guest's ids.
    owner: Option<(u32, u32)>,
    progress: &'a Progress,
}

struct Attributes {
    uid: u32,
    gid: u32,
    mode: u32,
    times: Option<Timestamps>,
}

/// Deeper than any real tree, and not so deep that the open directories run out of descriptors.
const DEEPEST: usize = 400;

impl Copy<'_> {
    fn entry(&self, from: BorrowedFd<'_>, name: &OsStr, to: BorrowedFd<'_>, as_name: &OsStr) -> Result<()> {
        self.entry_at_depth(from, name, to, as_name, 0)
    }

    fn entry_at_depth(
        &self,
        from: BorrowedFd<'_>,
        name: &OsStr,
        to: BorrowedFd<'_>,
        as_name: &OsStr,
        depth: usize,
    ) -> Result<()> {
        let step = || format!("copy `{}`", name.display());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let seen = rustix::fs::openat(from, name, flags, Mode::empty()).map_err(|e| {
            let error = Error::from(e);
            if e == Errno::NOENT { error.with_kind(Kind::NotFound) } else { error }
        });
        let seen = seen.context(step)?;
        let stat = rustix::fs::fstat(&seen).context(step)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(from, name, &stat, to, as_name, depth),
            FileType::RegularFile => self.file(from, name, to, as_name),
            FileType::Symlink => self.symlink(&seen, &stat, to, as_name),
            _ => Err(Error::failed("it is neither a file, nor a directory, nor a symbolic link")),
        }
        .context(step)
    }

    fn attributes(&self, stat: &Stat) -> Attributes {
        let (uid, gid) = self.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let time = |sec, nsec| Timespec { tv_sec: sec, tv_nsec: nsec as _ };
        Attributes {
            uid: (self.ids)(uid),
            gid: (self.ids)(gid),
            mode: stat.st_mode & 0o7777,
            times: Some(Timestamps {
                last_access: time(stat.st_atime, stat.st_atime_nsec),
                last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
            }),
        }
    }

    fn directory(
        &self,
        from: BorrowedFd<'_>,
        name: &OsStr,
        stat: &Stat,
        to: BorrowedFd<'_>,
        as_name: &OsStr,
        depth: usize,
    ) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::failed(format!("it is more than {DEEPEST} directories deep")));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
        match rustix::fs::mkdirat(to, as_name, Mode::RWXU) {
            // One that is there is added to; a link to one is not, which the flags see to.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let target = rustix::fs::openat(to, as_name, flags, Mode::empty())?;
        for entry in Dir::read_from(&source)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let name = OsStr::from_bytes(name);
                self.entry_at_depth(source.as_fd(), name, target.as_fd(), name, depth + 1)?;
            }
        }
        apply(&target, &self.attributes(stat))
    }

    fn file(&self, from: BorrowedFd<'_>, name: &OsStr, to: BorrowedFd<'_>, as_name: &OsStr) -> Result<()> {
        // Non-blocking: what has become a fifo since it was looked at must not hang us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mut source = File::from(rustix::fs::openat(from, name, flags, Mode::empty())?);
        let stat = rustix::fs::fstat(&source)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::failed("it has just become something else"));
        }
        place_file(to, as_name, &self.attributes(&stat), &mut |target| {
            self.progress.inc(std::io::copy(&mut source, &mut &*target)?);
            Ok(())
        })
    }

    fn symlink(&self, seen: &OwnedFd, stat: &Stat, to: BorrowedFd<'_>, as_name: &OsStr) -> Result<()> {
        let target = rustix::fs::readlinkat(seen, c"", Vec::new())?;
        let attributes = self.attributes(stat);
        refuse_directory(to, as_name)?;
        store::place(to, as_name, |temporary| {
            rustix::fs::symlinkat(&target, to, temporary)?;
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            Ok(rustix::fs::chownat(to, temporary, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
        })
    }
}

/// Makes the file `name` of `dir` of what `fill` writes: whole, or not at all.
fn place_file(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    attributes: &Attributes,
    fill: &mut dyn FnMut(&File) -> Result<()>,
) -> Result<()> {
    refuse_directory(dir, name)?;
    store::place_file(dir, name, &mut |file| {
        fill(file)?;
        apply(file, attributes)
    })
}

fn refuse_directory(dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            Err(Error::conflict(format!("there is a directory `{}`", name.display())))
        }
        _ => Ok(()),
    }
}

/// Owner before mode: a change of owner takes the set-id bits away.
fn apply(file: impl AsFd, attributes: &Attributes) -> Result<()> {
    let file = file.as_fd();
    rustix::fs::fchown(file, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode))?;
    if let Some(times) = &attributes.times {
        rustix::fs::futimens(file, times)?;
    }
    Ok(())
}
