//! Copies entries from one open directory to another, following no link.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::error::{Context, Error, Kind, Result};
use crate::image::copy::into_itself;
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

/// Deeper than any real tree, and not so deep that the open directories run out of descriptors.
const DEEPEST: usize = 400;

impl Transfer<'_> {
    pub(super) fn entry(&self, from: BorrowedFd<'_>, name: &OsStr, to: BorrowedFd<'_>, as_name: &OsStr) -> Result<()> {
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
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let source = rustix::fs::openat(from, name, flags, Mode::empty()).context(step)?;
                self.directory(&source, &stat, to, as_name, depth)
            }
            FileType::RegularFile => {
                open_file(from, name).and_then(|(source, stat)| self.file(source, &stat, to, as_name))
            }
            FileType::Symlink => self.symlink(&seen, &stat, to, as_name),
            _ if depth > 0 => {
                self.left_out.borrow_mut().push(PathBuf::from(name));
                Ok(())
            }
            _ => Err(Error::failed("it is neither a file, nor a directory, nor a symbolic link")),
        }
        .context(step)
    }

    /// Copies what was named and is open, of whatever kind (`O_PATH`): no link comes of it.
    pub(super) fn opened(&self, seen: &OwnedFd, to: BorrowedFd<'_>, as_name: &OsStr) -> Result<()> {
        let stat = rustix::fs::fstat(seen)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                self.directory(&rustix::fs::openat(seen, ".", flags, Mode::empty())?, &stat, to, as_name, 0)
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

    fn directory(
        &self,
        source: &OwnedFd,
        stat: &Stat,
        to: BorrowedFd<'_>,
        as_name: &OsStr,
        depth: usize,
    ) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::failed(format!("it is more than {DEEPEST} directories deep")));
        }
        if depth == 0 {
            for target in [Some(to), self.place].into_iter().flatten() {
                if sys::fs::holds(source, target)? {
                    return Err(into_itself());
                }
            }
        } else if self.made.get() == Some((stat.st_dev, stat.st_ino)) {
            // By a bind mount, which has no way up to the source.
            return Err(into_itself());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::mkdirat(to, as_name, Mode::RWXU) {
            // One that is there is added to; a link to one is not, which the flags see to.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let target = rustix::fs::openat(to, as_name, flags, Mode::empty())?;
        if depth == 0 {
            let made = rustix::fs::fstat(&target)?;
            self.made.set(Some((made.st_dev, made.st_ino)));
        }
        for entry in Dir::read_from(source)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let name = OsStr::from_bytes(name);
                self.entry_at_depth(source.as_fd(), name, target.as_fd(), name, depth + 1)?;
            }
        }
        apply(&target, &self.attributes(stat))
    }

    /// Copies a file's contents to one that is open, which is emptied first.
    pub(super) fn onto(&self, mut source: File, target: &File) -> Result<()> {
        store::empty(target)?;
        self.progress.inc(std::io::copy(&mut source, &mut &*target).context(|| "write")?);
        Ok(())
    }

    fn file(&self, mut source: File, stat: &Stat, to: BorrowedFd<'_>, as_name: &OsStr) -> Result<()> {
        place_file(to, self.aside, as_name, &self.attributes(stat), &mut |target| {
            self.progress.inc(std::io::copy(&mut source, &mut &*target)?);
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
