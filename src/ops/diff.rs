//! `lxm diff`: what of a container's files and packages is not as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags, openat2, statx,
};
use rustix::io::Errno;

use crate::container::files::GuestTree;
use crate::distro::{Packages, View, packages};
use crate::error::{Context, Error, Result};
use crate::image::ImageStore;
use crate::storage::{self, Tree};
use crate::store::{Layout, Origin, Snapshot};
use crate::types::{ContainerName, SnapshotName};

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileChange {
    Added,
    Changed,
    Removed,
}

/// What is not as it was.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Paths in the guest, in order. Of a directory that was removed, it alone.
    pub files: Vec<(PathBuf, FileChange)>,
    /// By their names. `None` where the package manager of the guest is none whose database is read.
    pub packages: Option<BTreeMap<String, Versions>>,
}

/// A package's version before, and the one now.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    pub before: Option<String>,
    pub now: Option<String>,
}

/// Compares a container, running or not, with a snapshot of it, or with the image it was made of.
///
/// A file counts as changed when its kind, owner, permissions, size or time of change differ.
pub(crate) fn diff(layout: &Layout, name: &ContainerName, snapshot: Option<&SnapshotName>) -> Result<Difference> {
    layout.require(name)?;
    let step = || format!("compare `{name}`");
    match snapshot {
        Some(snapshot) => {
            let place = Snapshot::read(layout, name, snapshot)?.place;
            let backend = storage::of_container(layout, name)?;
            let before = Tree::open(backend.as_ref(), &place)?;
            compare(layout, name, before.path()).context(step)
        }
        None => {
            let id = Origin::read(layout, name)?.image;
            let gone = || {
                Error::not_found(format!("the image that `{name}` was made of is not here")).hint(format!(
                    "`{}` compares with a snapshot",
                    layout.command(format_args!("diff {name} SNAPSHOT"))
                ))
            };
            let image = if id.is_empty() { None } else { ImageStore::new(layout).open(&id)? };
            let image = image.ok_or_else(gone)?;
            compare(layout, name, &image.rootfs()).context(step)
        }
    }
}

fn compare(layout: &Layout, name: &ContainerName, before: &Path) -> Result<Difference> {
    let guest = GuestTree::open(layout, name)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = rustix::fs::open(before, flags, Mode::empty()).context(|| format!("open `{}`", before.display()))?;
    let new = rustix::fs::openat(guest.root(), ".", flags, Mode::empty()).context(|| "open its root")?;
    let mut comparison = Comparison { guest: &guest, files: Vec::new() };
    comparison.directories(Some(&old), &new, Path::new("/"), 0)?;
    let mut files = comparison.files;
    files.sort();
    let before = packages(&View::open(before)?)?.unwrap_or_default();
    let packages = packages(&View::of(guest.root())?)?.map(|now| of_packages(before, now));
    Ok(Difference { files, packages })
}

fn of_packages(before: Packages, now: Packages) -> BTreeMap<String, Versions> {
    let mut versions: BTreeMap<String, Versions> = BTreeMap::new();
    for (name, version) in before {
        versions.entry(name).or_default().before = Some(version);
    }
    for (name, version) in now {
        versions.entry(name).or_default().now = Some(version);
    }
    versions.retain(|_, Versions { before, now }| before != now);
    versions
}

/// Deeper than any real tree, and not so deep that the open directories run out of descriptors.
const DEEPEST: usize = 400;

struct Comparison<'a> {
    guest: &'a GuestTree,
    files: Vec<(PathBuf, FileChange)>,
}

impl Comparison<'_> {
    /// Compares what is in two directories; without an old one all is new.
    fn directories(&mut self, old: Option<&OwnedFd>, new: &OwnedFd, path: &Path, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::failed(format!("it is more than {DEEPEST} directories deep")));
        }
        let step = || format!("read `{}`", path.display());
        let mut missing = match old {
            Some(old) => names(old).context(step)?,
            None => BTreeSet::new(),
        };
        for name in names(new).context(step)? {
            let known = missing.remove(&name);
            let place = path.join(std::ffi::OsStr::from_bytes(&name));
            match self.entry(old.filter(|_| known), new, &name, place, depth) {
                // Removed since it was read, or another thing now: the guest may run.
                Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {}
                other => other?,
            }
        }
        let removed = missing.iter().map(|name| (path.join(std::ffi::OsStr::from_bytes(name)), FileChange::Removed));
        self.files.extend(removed);
        Ok(())
    }

    fn entry(&mut self, old: Option<&OwnedFd>, new: &OwnedFd, name: &[u8], path: PathBuf, depth: usize) -> Result<()> {
        let now = look(new, name)?;
        // What is mounted in a running guest is not of its files.
        if now.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Ok(());
        }
        let before = old.map(|old| look(old, name)).transpose()?;
        let was = |kind| before.as_ref().is_some_and(|before| kind_of(before) == kind);
        match &before {
            None => self.files.push((path.clone(), FileChange::Added)),
            Some(before) if self.differs(before, &now) || self.leads_elsewhere(old, new, name, &now)? => {
                self.files.push((path.clone(), FileChange::Changed));
            }
            Some(_) => {}
        }
        if kind_of(&now) == FileType::Directory {
            let below = open_directory(new, name)?;
            let old = old.filter(|_| was(FileType::Directory)).map(|old| open_directory(old, name)).transpose()?;
            self.directories(old.as_ref(), &below, &path, depth + 1)?;
        }
        Ok(())
    }

    fn differs(&self, before: &Statx, now: &Statx) -> bool {
        let kind = kind_of(now);
        let owner = (self.guest.to_guest(now.stx_uid), self.guest.to_guest(now.stx_gid));
        // A link has no permissions, and the size and time of a directory are those of its list.
        let contents = |stat: &Statx| match kind {
            FileType::Directory | FileType::Symlink => (0, 0, 0, 0, 0),
            _ => {
                (stat.stx_size, stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec, stat.stx_rdev_major, stat.stx_rdev_minor)
            }
        };
        before.stx_mode != now.stx_mode
            || (before.stx_uid, before.stx_gid) != owner
            || contents(before) != contents(now)
    }

    fn leads_elsewhere(&self, old: Option<&OwnedFd>, new: &OwnedFd, name: &[u8], now: &Statx) -> Result<bool> {
        let Some(old) = old.filter(|_| kind_of(now) == FileType::Symlink) else { return Ok(false) };
        let target = |dir: &OwnedFd| rustix::fs::readlinkat(dir, name, Vec::new());
        Ok(target(old)? != target(new)?)
    }
}

fn kind_of(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

fn look(dir: &OwnedFd, name: &[u8]) -> Result<Statx> {
    Ok(statx(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS)?)
}

fn open_directory(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        match openat2(dir.as_fd(), name, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

fn names(dir: &OwnedFd) -> rustix::io::Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.insert(name);
        }
    }
    Ok(names)
}
