//! Copies files between the host and a guest.
//!
//! Neither side trusts what the other's tree does meanwhile: every step is by descriptor, and a
//! symbolic link is copied and never followed below the places that the admin named. What is neither
//! a file, nor a directory, nor a link is neither copied nor replaced.

mod copy;

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use self::copy::{NewAttributes, Rights, Transfer, open_file, place_file, reopen};
use crate::container::files::GuestTree;
use crate::error::{Context, Error, Kind, Result};
use crate::progress::Progress;
use crate::store::{self, Target};
use crate::sys::fs::open_in_root;

/// Copies files of the host into a guest. They keep owner, group, mode and times; `owner` has them
/// all belong to it.
///
/// A directory is copied with all that is in it. Where `target` is a directory, or ends with `/`,
/// they go into it, else the one source becomes it.
///
/// Says what below the sources was left out, because it is none of these.
pub(crate) fn push(
    guest: &GuestTree,
    sources: &[PathBuf],
    target: &Path,
    owner: Option<(u32, u32)>,
) -> Result<Vec<PathBuf>> {
    let progress = shown("push");
    let rights = Rights::AsSource { ids: &|id| guest.to_host(id), owner };
    let copy = Transfer {
        rights,
        progress: &progress,
        aside: Some(guest.root()),
        place: Some(guest.place()),
        made: Cell::default(),
        left_out: RefCell::default(),
    };
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
                    (directory_of(guest, dir).context(step)?, name)
                }
            };
            let at = if into { target.join(&as_name) } else { target.to_owned() };
            match linked_in_guest(guest, &at).context(step)? {
                Some(file) => {
                    let (source, _) = open_file(from.as_fd(), &name).map_err(or_not_found).context(step)?;
                    copy.onto(source, &file).context(step)?;
                }
                None => copy.entry(from.as_fd(), &name, dir.as_fd(), &as_name).context(step)?,
            }
        }
        Ok(())
    })?;
    let left_out = copy.left_out.into_inner();
    progress.finish();
    Ok(left_out)
}

/// The directory of the guest that something is to be put into.
fn directory_of(guest: &GuestTree, dir: &Path) -> Result<OwnedFd> {
    let opened = open_in_root(guest.root(), dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
    opened.map_err(|e| match e.errno() {
        Some(libc::ENOENT) => Error::not_found(format!("the guest has no directory `{}`", dir.display()))
            .hint("a target that ends with `/` is made"),
        _ => e,
    })
}

/// The file that a link at `path` leads to in the guest; `None` where no link is.
fn linked_in_guest(guest: &GuestTree, path: &Path) -> Result<Option<File>> {
    match open_in_root(guest.root(), path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(seen) if FileType::from_raw_mode(rustix::fs::fstat(&seen)?.st_mode) == FileType::Symlink => {}
        Err(e) if e.errno() != Some(libc::ENOENT) => return Err(e),
        _ => return Ok(None),
    }
    // Non-blocking: what it leads to is the guest's choice, for example a pipe without a reader.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open_in_root(guest.root(), path, flags, Mode::empty()).map_err(|e| {
        match e.errno() {
            Some(libc::ENOENT) => Error::not_found(format!("`{}` is a link to what is not there", path.display()))
                .hint("remove the link in the guest, or name what it leads to"),
            _ => e,
        }
    })?);
    if !file.metadata()?.is_file() {
        return Err(Error::conflict(format!("`{}` is a link to something other than a regular file", path.display())));
    }
    Ok(Some(file))
}

/// What of owner and mode pulled files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pulled {
    /// They are the caller's, as cp(1) makes them: a set-user-id program of the guest's root would
    /// be one of the host's root.
    CallersOwn,
    /// They keep what they have in the guest.
    AsInGuest,
}

/// Copies files of a guest to the host. They keep their times, and owner, group and mode if asked for: an
/// owner that only the guest knows as its number in the guest.
///
/// A link that is named as a source is followed in the guest, as cp(1) does: where the admin said that
/// a file shall be, no link of the guest's making appears, through which the next pull would write.
/// Links below are copied as links, and no pull into their directory follows one. As [`push`] otherwise.
pub(crate) fn pull(guest: &GuestTree, sources: &[PathBuf], target: &Path, pulled: Pulled) -> Result<Vec<PathBuf>> {
    let progress = shown("pull");
    let rights = match pulled {
        Pulled::CallersOwn => Rights::Callers,
        Pulled::AsInGuest => Rights::AsSource { ids: &|id| guest.to_guest(id), owner: None },
    };
    let copy = Transfer {
        rights,
        progress: &progress,
        aside: None,
        place: None,
        made: Cell::default(),
        left_out: RefCell::default(),
    };
    let into = target.is_dir() || ends_with_slash(target);
    if sources.len() > 1 && !into {
        return Err(Error::usage(format!("`{}` is not a directory", target.display()))
            .hint("several files go into a directory; one that ends with `/` is made"));
    }
    for source in sources {
        let step = || format!("pull `{}`", source.display());
        let (_, name) = split(source).context(step)?;
        let from = open_in_root(guest.root(), source, OFlags::PATH, Mode::empty()).map_err(or_not_found);
        let from = from.context(step)?;
        let (to, as_name) = if into {
            std::fs::create_dir_all(target).context(step)?;
            (target, name.clone())
        } else {
            split(target).context(step)?
        };
        let to = open_host_directory(to).context(step)?;
        // In a directory a link may be what an earlier pull put there.
        let is_place =
            into && is_kind(&rustix::fs::statat(&to, &as_name, AtFlags::SYMLINK_NOFOLLOW), FileType::Symlink);
        if is_place || !is_kind(&rustix::fs::fstat(&from), FileType::RegularFile) {
            copy.opened(&from, to.as_fd(), &as_name).context(step)?;
            continue;
        }
        match store::target(to.as_fd(), &as_name).context(step)? {
            Target::Open(file) => reopen(&from).and_then(|source| copy.onto(source, &file)).context(step)?,
            Target::Place => copy.opened(&from, to.as_fd(), &as_name).context(step)?,
        }
    }
    let left_out = copy.left_out.into_inner();
    progress.finish();
    Ok(left_out)
}

fn is_kind(stat: &rustix::io::Result<Stat>, kind: FileType) -> bool {
    stat.as_ref().is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == kind)
}

fn or_not_found(e: Error) -> Error {
    if e.errno() == Some(libc::ENOENT) { e.with_kind(Kind::NotFound) } else { e }
}

/// Writes what `input` gives to a file of the guest.
pub(crate) fn push_stream(
    guest: &GuestTree,
    input: &mut dyn Read,
    target: &Path,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let step = || format!("push to `{}`", target.display());
    let (dir, name) = split(target).context(step)?;
    let (uid, gid) = owner.unwrap_or((0, 0));
    let attributes = NewAttributes { uid: guest.to_host(uid), gid: guest.to_host(gid), mode: 0o644, times: None };
    guest
        .as_root(|| {
            if let Some(file) = linked_in_guest(guest, target)? {
                store::empty(&file)?;
                std::io::copy(&mut *input, &mut &file)?;
                return Ok(());
            }
            let dir = directory_of(guest, dir)?;
            place_file(dir.as_fd(), Some(guest.root()), &name, &attributes, &mut |file| {
                std::io::copy(&mut *input, &mut &*file)?;
                Ok(())
            })
        })
        .context(step)
}

/// Gives the contents of a file of the guest to `output`.
pub(crate) fn pull_stream(guest: &GuestTree, source: &Path, output: &mut dyn Write) -> Result<()> {
    let step = || format!("pull `{}`", source.display());
    let file = open_in_root(guest.root(), source, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty());
    let mut file = File::from(file.map_err(or_not_found).context(step)?);
    if !file.metadata().context(step)?.is_file() {
        return Err(Error::usage("it is not a regular file").step(step()));
    }
    std::io::copy(&mut file, output).context(step)?;
    Ok(())
}

/// Progress for a user who waits; most copies are done before it is shown.
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
        .map_err(or_not_found)
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
                match made {
                    Err(rustix::io::Errno::EXIST) => {
                        return Err(Error::not_found(format!("`{}` is a link to what is not there", so_far.display())));
                    }
                    other => other.context(|| format!("make `{}`", so_far.display()))?,
                }
                open(&so_far)?
            }
            other => other?,
        };
    }
    Ok(dir)
}
