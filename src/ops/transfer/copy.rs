//! Copies entries from one open directory to another, following no link.

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::error::{Context, Error, Kind, Result};
use crate::image::copy::{copy_sparse, into_itself};
use crate::image::open_deep;
use crate::progress::Progress;
use crate::store;
use crate::sys;

/// Whose the copies are.
pub(super) enum Rights<'a> {
    /// As their sources, or all of the guest's user `owner`; `ids` is what an id of the source is in
    /// the target.
    AsSource {
        ids: &'a dyn Fn(u32) -> u32,
        owner: Option<(u32, u32)>,
    },
    Callers,
}

pub(super) struct Transfer<'a> {
    pub rights: Rights<'a>,
    pub progress: &'a Progress,
    /// Where what replaces another file is made: the root of the tree, see [`store::place`].
    pub aside: Option<BorrowedFd<'a>>,
    /// A directory that the tree is in, if it has no way up to it.
    pub place: Option<BorrowedFd<'a>>,
    /// The directory that is being copied to: its device and inode.
    pub made: Cell<Option<(u64, u64)>>,
    /// Below the sources, and neither file, nor directory, nor link.
    pub left_out: RefCell<Vec<PathBuf>>,
}

pub(super) struct NewAttributes {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub times: Option<Timestamps>,
}

impl Transfer<'_> {
    /// Copies what was named, of whatever kind; a link as a link.
    pub(super) fn entry(&self, from: BorrowedFd<'_>, name: &OsStr, to: BorrowedFd<'_>, as_name: &OsStr) -> Result<()> {
        let copy = || {
            let (seen, stat) = look(from, name)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let source = rustix::fs::openat(from, name, DIRECTORY, Mode::empty())?;
                    self.directory(&source, &stat, to, as_name)
                }
                _ if self.file_or_link(&seen, &stat, from, name, to, as_name)? => Ok(()),
                _ => Err(Error::failed("it is neither a file, nor a directory, nor a symbolic link")),
            }
        };
        copy().context(|| format!("copy `{}`", name.display()))
    }

    /// Copies a file or a link; `false` for anything else.
    fn file_or_link(
        &self,
        seen: &OwnedFd,
        stat: &Stat,
        from: BorrowedFd<'_>,
        name: &OsStr,
        to: BorrowedFd<'_>,
        as_name: &OsStr,
    ) -> Result<bool> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                open_file(from, name).and_then(|(source, stat)| self.file(source, &stat, to, as_name))?;
            }
            FileType::Symlink => self.symlink(seen, stat, to, as_name)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Copies what was named and is open, of whatever kind (`O_PATH`): no link comes of it.
    pub(super) fn opened(&self, seen: &OwnedFd, to: BorrowedFd<'_>, as_name: &OsStr) -> Result<()> {
        let stat = rustix::fs::fstat(seen)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                self.directory(&rustix::fs::openat(seen, ".", flags, Mode::empty())?, &stat, to, as_name)
            }
            FileType::RegularFile => self.file(reopen(seen)?, &stat, to, as_name),
            _ => Err(Error::failed("it is neither a file nor a directory")),
        }
    }

    fn attributes(&self, stat: &Stat) -> NewAttributes {
        let (uid, gid, mode) = match &self.rights {
            Rights::AsSource { ids, owner } => {
                let (uid, gid) = owner.unwrap_or((stat.st_uid, stat.st_gid));
                (ids(uid), ids(gid), stat.st_mode & 0o7777)
            }
            Rights::Callers => {
                let mode = stat.st_mode & 0o777 & !sys::umask::callers();
                (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw(), mode)
            }
        };
        let time = |sec, nsec| Timespec { tv_sec: sec, tv_nsec: nsec as _ };
        NewAttributes {
            uid,
            gid,
            mode,
            times: Some(Timestamps {
                last_access: time(stat.st_atime, stat.st_atime_nsec),
                last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
            }),
        }
    }

    /// Copies a directory with all that is in it. Not by recursion: a guest nests them deeper than a stack, and than
    /// there are descriptors.
    fn directory(&self, source: &OwnedFd, stat: &Stat, to: BorrowedFd<'_>, as_name: &OsStr) -> Result<()> {
        for target in [Some(to), self.place].into_iter().flatten() {
            if sys::fs::holds(source, target)? {
                return Err(into_itself());
            }
        }
        make_directory(to, as_name)?;
        let target = rustix::fs::openat(to, as_name, DIRECTORY, Mode::empty())?;
        let made = rustix::fs::fstat(&target)?;
        self.made.set(Some((made.st_dev, made.st_ino)));
        let (mut from, mut to) = (Side::new(source.as_fd()), Side::new(target.as_fd()));
        let mut path = Vec::new();
        let mut open = vec![Level::read(source, 0, self.attributes(stat))?];
        while let Some(level) = open.last_mut() {
            path.truncate(level.length);
            let Some(name) = level.names.next() else {
                let step = || format!("complete `{}`", OsStr::from_bytes(&path).display());
                to.open(&path).and_then(|target| apply(&*target, &level.attributes)).context(step)?;
                open.pop();
                continue;
            };
            let step = |path: &[u8]| format!("copy `{}`", OsStr::from_bytes(path).display());
            let dirs = from.open(&path).and_then(|source| Ok((source, to.open(&path)?)));
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(name.as_bytes());
            let below = dirs.and_then(|(source, target)| self.within(&source, &name, &target, &path));
            open.extend(below.context(|| step(&path))?);
        }
        Ok(())
    }

    /// Copies `name` of a directory to another; a directory is made, and returned to be filled.
    fn within(&self, from: &OwnedFd, name: &OsStr, to: &OwnedFd, path: &[u8]) -> Result<Option<Level>> {
        let (seen, stat) = look(from.as_fd(), name)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            // By a bind mount, which has no way up to the source.
            if self.made.get() == Some((stat.st_dev, stat.st_ino)) {
                return Err(into_itself());
            }
            make_directory(to.as_fd(), name)?;
            let source = rustix::fs::openat(from, name, DIRECTORY, Mode::empty())?;
            return Level::read(&source, path.len(), self.attributes(&stat)).map(Some);
        }
        if !self.file_or_link(&seen, &stat, from.as_fd(), name, to.as_fd(), name)? {
            self.left_out.borrow_mut().push(PathBuf::from(OsStr::from_bytes(path)));
        }
        Ok(None)
    }

    /// Copies a file's contents to one that is open, which is emptied first.
    pub(super) fn onto(&self, mut source: File, target: &File) -> Result<()> {
        store::empty(target)?;
        self.progress.inc(copy_to_end(&mut source, target).context(|| "write")?);
        Ok(())
    }

    fn file(&self, mut source: File, stat: &Stat, to: BorrowedFd<'_>, as_name: &OsStr) -> Result<()> {
        place_file(to, self.aside, as_name, &self.attributes(stat), &mut |target| {
            self.progress.inc(copy_to_end(&mut source, target)?);
            Ok(())
        })
    }

    fn symlink(&self, seen: &OwnedFd, stat: &Stat, to: BorrowedFd<'_>, as_name: &OsStr) -> Result<()> {
        let target = rustix::fs::readlinkat(seen, c"", Vec::new())?;
        let attributes = self.attributes(stat);
        refuse_other(to, as_name)?;
        store::place(to, self.aside, as_name, |at, temporary| {
            rustix::fs::symlinkat(&target, at, temporary)?;
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            Ok(rustix::fs::chownat(at, temporary, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
        })
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn look(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(OwnedFd, Stat)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let seen = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(|e| {
        let error = Error::from(e);
        if e == Errno::NOENT { error.with_kind(Kind::NotFound) } else { error }
    })?;
    let stat = rustix::fs::fstat(&seen)?;
    Ok((seen, stat))
}

/// One that is there is added to; a link to one is not, which [`DIRECTORY`] sees to.
fn make_directory(dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// What is still to be copied of a directory.
struct Level {
    /// Of its path: those of all that are open would fill the memory where a tree is deep.
    length: usize,
    names: std::vec::IntoIter<OsString>,
    attributes: NewAttributes,
}

impl Level {
    fn read(dir: &OwnedFd, length: usize, attributes: NewAttributes) -> Result<Self> {
        let names = Dir::read_from(dir)?.map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned()));
        let mut names = names.collect::<rustix::io::Result<Vec<_>>>()?;
        names.retain(|name| name != "." && name != "..");
        Ok(Level { length, names: names.into_iter(), attributes })
    }
}

/// A tree that is copied from or to. No link in it is followed: whose it is may put one there meanwhile.
struct Side<'a> {
    root: BorrowedFd<'a>,
    /// The directory that was used last.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

impl<'a> Side<'a> {
    fn new(root: BorrowedFd<'a>) -> Self {
        Side { root, last: None }
    }

    fn open(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        if let Some((_, dir)) = self.last.as_ref().filter(|(last, _)| last == path) {
            return Ok(dir.clone());
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let open =
            |at: BorrowedFd<'_>, stretch: &Path| sys::fs::resolved(at, stretch, DIRECTORY, Mode::empty(), resolve);
        // Down a tree a step costs the same at any depth.
        let near = self.last.as_ref().and_then(|(last, dir)| {
            let below = if last.is_empty() { path } else { path.strip_prefix(last.as_slice())?.strip_prefix(b"/")? };
            Some((dir.as_fd(), below))
        });
        let (at, below) = near.unwrap_or((self.root, path));
        let dir = Rc::new(open_deep(at, below, open)?);
        self.last = Some((path.to_vec(), dir.clone()));
        Ok(dir)
    }
}

/// Copies what a file has, holes as holes.
fn copy_to_end(source: &mut File, target: &File) -> Result<u64> {
    let copied = copy_sparse(&*source, target)?;
    // Files of /proc have no size, and others grow; a pipe has no place to go to.
    if copied > 0 {
        for mut file in [&*source, target] {
            file.seek(SeekFrom::Start(copied))?;
        }
    }
    Ok(copied + std::io::copy(source, &mut &*target)?)
}

/// Makes the file `name` of `dir` of what `fill` writes: whole, or not at all.
pub(super) fn place_file(
    dir: BorrowedFd<'_>,
    aside: Option<BorrowedFd<'_>>,
    name: &OsStr,
    attributes: &NewAttributes,
    fill: &mut dyn FnMut(&File) -> Result<()>,
) -> Result<()> {
    refuse_other(dir, name)?;
    store::place_file(dir, aside, name, &mut |file| {
        fill(file)?;
        apply(file, attributes)
    })
}

/// Opens a regular file for reading that is open as a place alone. Its name may mean another by now.
pub(super) fn reopen(seen: &OwnedFd) -> Result<File> {
    let path = format!("/proc/self/fd/{}", seen.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

pub(super) fn open_file(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(File, Stat)> {
    // Non-blocking: what has become a fifo since it was looked at must not hang us.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?);
    let stat = rustix::fs::fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((file, stat)),
        _ => Err(Error::failed("it is not a regular file")),
    }
}

/// Files and links are replaced by what takes their name; nothing else is.
fn refuse_other(dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Symlink => Ok(()),
        FileType::Directory => Err(Error::conflict(format!("there is a directory `{}`", name.display()))),
        _ => Err(Error::conflict(format!("`{}` is a pipe, a socket or a device", name.display()))),
    }
}

/// Owner before mode: a change of owner takes the set-id bits away.
fn apply(file: impl AsFd, attributes: &NewAttributes) -> Result<()> {
    let file = file.as_fd();
    rustix::fs::fchown(file, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode))?;
    if let Some(times) = &attributes.times {
        rustix::fs::futimens(file, times)?;
    }
    Ok(())
}
