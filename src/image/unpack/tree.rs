//! The tree that an archive is unpacked into. Every path is resolved below its root.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::image::archive::{Archive, ArchiveEntry, EntryKind};
use crate::image::attributes::{Attributor, FileAttributes, Refused, xattrs_of_file};
use crate::image::budget::Room;
use crate::image::inode_flags::{FileFlags, PendingFlags};
use crate::image::walk::open_deep;
use crate::image::{Remarks, acl, shown};
use crate::sys::fs::{open_beneath, open_in_root};

/// A path in the archive: below the root, without `.` and `..`, empty for the root itself.
///
/// An absolute one is taken from the root as GNU tar takes it, which removes a leading `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Inside(pub Vec<u8>);

impl Inside {
    pub(crate) fn new(path: &[u8]) -> Result<Self> {
        let mut inside = Vec::with_capacity(path.len());
        for component in path.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(Error::failed("its path has `..` in it and would leave the tree")),
                _ => {
                    if !inside.is_empty() {
                        inside.push(b'/');
                    }
                    inside.extend_from_slice(component);
                }
            }
        }
        Ok(Inside(inside))
    }

    /// The directory it is in (empty for the root) and its name there.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0),
        }
    }
}

/// The tree being written.
pub(super) struct WrittenTree {
    root: OwnedFd,
    pub attributor: Attributor,
    /// The directory that was written to last: the next entry is likely in it, too.
    pub parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories get their attributes last: until then they hand nothing down to what is made
    /// in them, are writable, and their times change with each entry.
    directories: Vec<(Inside, FileAttributes)>,
    skipped: HashSet<Inside>,
    /// Of a layer over others: what it has made itself, the directories on the way too.
    pub layer: Option<HashSet<Vec<u8>>>,
    flags: PendingFlags,
    room: Room,
    summary: Summary,
}

impl WrittenTree {
    pub(super) fn new(root: &Path) -> Result<Self> {
        let step = || format!("unpack into `{}`", root.display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).context(step)?;
        let stat = rustix::fs::fstat(&root).context(step)?;
        // Of an archive without an entry for its root, that is as mkdir made it.
        let as_made = FileAttributes {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: rustix::fs::Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
            xattrs: xattrs_of_file(root.as_fd()).context(step)?,
            flags: FileFlags::default(),
        };
        let attributor = Attributor::new();
        attributor.neutralise(&root).context(step)?;
        let directories = vec![(Inside(Vec::new()), as_made)];
        let summary = Summary::default();
        let room = Room::default();
        Ok(WrittenTree {
            root,
            attributor,
            parent: None,
            directories,
            skipped: HashSet::new(),
            layer: None,
            flags: PendingFlags::default(),
            room,
            summary,
        })
    }

    pub(super) fn place(&mut self, archive: &mut Archive<'_>, entry: ArchiveEntry) -> Result<()> {
        let ArchiveEntry { path, kind, mut attributes, acls } = entry;
        let place = || -> Result<()> {
            let inside = Inside::new(&path)?;
            if path.starts_with(b"/") {
                self.summary.remarks.add("their names are absolute and were taken from the root of the archive", &path);
            }
            self.room.take_entry(&self.root)?;
            for (list, text) in &acls {
                if let Some(value) = acl::parse(text, *list, &self.root)? {
                    attributes.xattrs.push((list.xattr().as_bytes().to_vec(), value));
                }
            }
            if inside.0.is_empty() && !matches!(kind, EntryKind::Directory | EntryKind::Label) {
                return Err(Error::failed("it would take the place of the root directory"));
            }
            match kind {
                EntryKind::File => self.file(archive, &inside, &attributes),
                EntryKind::Sparse { size, data } => self.sparse(archive, &inside, &attributes, size, &data),
                EntryKind::Directory => self.directory(inside, attributes),
                EntryKind::Symlink(target) => self.symlink(&inside, &target, &attributes),
                EntryKind::HardLink(target) => self.hard_link(inside, &target),
                EntryKind::Fifo => self.node(&inside, FileType::Fifo, &attributes),
                EntryKind::Whiteout => self.node(&inside, FileType::CharacterDevice, &attributes),
                EntryKind::Device => {
                    self.skip(&inside);
                    Ok(())
                }
                EntryKind::Label => Ok(()),
            }
        };
        place().context(|| format!("unpack `{}`", shown(&path)))?;
        self.summary.entries += 1;
        Ok(())
    }

    fn file(&mut self, archive: &mut Archive<'_>, inside: &Inside, attributes: &FileAttributes) -> Result<()> {
        let file = self.create(inside, attributes)?;
        loop {
            let bytes = archive.content(u64::MAX)?;
            if bytes.is_empty() {
                break;
            }
            self.room.take(&self.root, bytes.len() as u64)?;
            std::io::Write::write_all(&mut &file, bytes).context(|| "write")?;
            self.summary.bytes += bytes.len() as u64;
        }
        let refused = self.attributor.complete_file(file.as_fd(), attributes)?;
        self.note(inside, attributes, refused);
        Ok(())
    }

    fn sparse(
        &mut self,
        archive: &mut Archive<'_>,
        inside: &Inside,
        attributes: &FileAttributes,
        size: u64,
        data: &[(u64, u64)],
    ) -> Result<()> {
        let file = self.create(inside, attributes)?;
        file.set_len(size).context(|| format!("make it {size} bytes long"))?;
        for &(offset, length) in data {
            let mut at = offset;
            while at < offset + length {
                let bytes = archive.content(offset + length - at)?;
                if bytes.is_empty() {
                    return Err(Error::failed("its contents are shorter than its map says"));
                }
                self.room.take(&self.root, bytes.len() as u64)?;
                file.write_all_at(bytes, at).context(|| "write")?;
                at += bytes.len() as u64;
                self.summary.bytes += bytes.len() as u64;
            }
        }
        let refused = self.attributor.complete_file(file.as_fd(), attributes)?;
        self.note(inside, attributes, refused);
        Ok(())
    }

    fn create(&mut self, inside: &Inside, attributes: &FileAttributes) -> Result<File> {
        let mode = self.attributor.creation_mode(attributes);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.make(inside, |parent, name| rustix::fs::openat(parent, name, flags, mode))?;
        Ok(File::from(file))
    }

    fn directory(&mut self, inside: Inside, attributes: FileAttributes) -> Result<()> {
        if !inside.0.is_empty() {
            let (parent, name) = self.parent_of(&inside)?;
            match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
                Err(Errno::EXIST) if is_directory(parent, name)? => {}
                Err(Errno::EXIST) => {
                    self.make(&inside, |parent, name| rustix::fs::mkdirat(parent, name, Mode::RWXU))?;
                }
                other => other.context(|| "make the directory")?,
            }
        }
        self.directories.push((inside, attributes));
        Ok(())
    }

    fn symlink(&mut self, inside: &Inside, target: &[u8], attributes: &FileAttributes) -> Result<()> {
        self.make(inside, |parent, name| rustix::fs::symlinkat(target, parent, name))?;
        let attributor = self.attributor;
        let (parent, name) = self.parent_of(inside)?;
        let refused = attributor.complete_symlink(parent.as_fd(), name, attributes)?;
        refused.tell(&inside.0, &mut self.summary.remarks);
        Ok(())
    }

    /// A FIFO or a whiteout.
    fn node(&mut self, inside: &Inside, kind: FileType, attributes: &FileAttributes) -> Result<()> {
        let mode = self.attributor.creation_mode(attributes);
        self.make(inside, |parent, name| rustix::fs::mknodat(parent, name, kind, mode, 0))?;
        let attributor = self.attributor;
        let (parent, name) = self.parent_of(inside)?;
        let refused = attributor.complete_node(parent.as_fd(), name, attributes)?;
        refused.tell(&inside.0, &mut self.summary.remarks);
        Ok(())
    }

    /// A device node is left out, by all of its names.
    fn skip(&mut self, inside: &Inside) {
        // Over `dev` a file system of its own is mounted.
        if !inside.0.starts_with(b"dev/") {
            self.summary.remarks.add("left out, because a container's devices are made at its start", &inside.0);
        }
        self.skipped.insert(inside.clone());
    }

    /// Notes what of a file is still to be set, and what it has lost.
    fn note(&mut self, inside: &Inside, attributes: &FileAttributes, refused: Refused) {
        self.flags.add(inside.0.clone(), attributes.flags);
        refused.tell(&inside.0, &mut self.summary.remarks);
    }

    fn hard_link(&mut self, inside: Inside, target: &[u8]) -> Result<()> {
        let step = || format!("link it to `{}`", shown(target));
        let target = Inside::new(target).context(step)?;
        if self.skipped.contains(&target) {
            self.skip(&inside);
            return Ok(());
        }
        if target == inside {
            return Ok(());
        }
        let (target_dir, target_name) = target.split();
        let target_dir = self.open_directory(target_dir).context(step)?;
        self.make(&inside, |parent, name| rustix::fs::linkat(&target_dir, target_name, parent, name, AtFlags::empty()))
            .context(step)
    }

    /// Makes something by a call that fails where something is; what is in the way goes first.
    fn make<T>(&mut self, inside: &Inside, call: impl Fn(&OwnedFd, &[u8]) -> rustix::io::Result<T>) -> Result<T> {
        let (parent, name) = self.parent_of(inside)?;
        match call(parent, name) {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
        let layered = self.layer.is_some();
        let (parent, name) = self.parent_of(inside)?;
        let removed = match is_directory(parent, name)? {
            true if layered => remove_below(parent, name),
            true => Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?),
            false => Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?),
        };
        removed.context(|| "remove what an earlier entry made there")?;
        let made = call(parent, name);
        // It may have led to the directory kept open.
        self.parent = None;
        Ok(made?)
    }

    /// The directory that an entry is in, made where the archive has none, and its name there.
    fn parent_of<'a>(&mut self, inside: &'a Inside) -> Result<(&OwnedFd, &'a [u8])> {
        let (dir, name) = inside.split();
        if self.parent.as_ref().is_none_or(|(path, _)| path != dir) {
            // Down a tree a step costs the same at any depth; of layers, links lead about.
            let near = self.parent.as_ref().filter(|_| self.layer.is_none()).and_then(|(path, fd)| {
                let below =
                    if path.is_empty() { dir } else { dir.strip_prefix(path.as_slice())?.strip_prefix(b"/")? };
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                (!below.contains(&b'/')).then(|| open_beneath(fd, below, flags, Mode::empty()).ok())?
            });
            let opened = near.map_or_else(|| self.open_directory(dir), Ok);
            let fd = match opened {
                Err(e) if e.errno() == Some(libc::ENOENT) => {
                    self.make_directories(dir)?;
                    self.open_directory(dir)?
                }
                other => other?,
            };
            self.parent = Some((dir.to_vec(), fd));
        }
        let (_, fd) = self.parent.as_ref().expect("set above");
        Ok((fd, name))
    }

    /// Opens a directory of the tree. What is laid over other layers, whose paths are short, finds its way
    /// through their absolute links as the container would.
    pub(super) fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
        open_deep(self.root.as_fd(), path, |at: BorrowedFd<'_>, stretch: &Path| match self.layer {
            Some(_) => open_in_root(at, stretch, flags, Mode::empty()),
            None => open_beneath(at, stretch, flags, Mode::empty()),
        })
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd> {
        let opened = self.open(path, OFlags::PATH | OFlags::DIRECTORY);
        opened.map_err(|e| match e.errno() {
            Some(libc::EXDEV) => Error::failed(format!("a symbolic link in `{}` leads out of the tree", shown(path))),
            _ => e.step(format!("open its directory `{}`", shown(path))),
        })
    }

    fn make_directories(&self, path: &[u8]) -> Result<()> {
        // The last one, if made here: below it there are no links.
        let mut made = None;
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in slashes.chain([path.len()]) {
            let (dir, name) = match path[..end].iter().rposition(|&byte| byte == b'/') {
                Some(slash) => (&path[..slash], &path[slash + 1..end]),
                None => (&path[..0], &path[..end]),
            };
            let above = made.take().map_or_else(|| self.open_directory(dir), Ok)?;
            let make = || {
                rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755))?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&above, name, flags, Mode::empty())
            };
            made = match make() {
                Err(Errno::EXIST) => None,
                other => Some(other.context(|| format!("make its directory `{}`", shown(&path[..end])))?),
            };
        }
        Ok(())
    }

    /// Gives the directories their attributes, those of the last entry where there are several. `more` says that
    /// something follows the archive.
    pub(super) fn complete(mut self, more: bool) -> Result<Summary> {
        if more {
            self.summary.remarks.add("not read, because GNU tar reads no further either", b"what is behind its end");
        }
        let mut seen = HashSet::new();
        let directories = std::mem::take(&mut self.directories);
        for (inside, attributes) in directories.iter().rev().filter(|(inside, _)| seen.insert(inside)) {
            let path = &inside.0;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let dir = match self.open(path, flags) {
                // A later entry took its place.
                Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => continue,
                other => other.context(|| format!("complete `{}`", shown(path)))?,
            };
            let completed = self.attributor.complete_directory(dir.as_fd(), attributes);
            let refused = completed.context(|| format!("complete `{}`", shown(path)))?;
            self.note(inside, attributes, refused);
        }
        let (flags, mut summary) = (std::mem::take(&mut self.flags), std::mem::take(&mut self.summary));
        flags.set(&mut summary.remarks, |path, flags| self.open(path, flags))?;
        Ok(summary)
    }
}

fn is_directory(parent: &OwnedFd, name: &[u8]) -> Result<bool> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// What came out of an archive.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    pub entries: u64,
    /// Contents of files, as stored in the archive.
    pub bytes: u64,
    /// What was left out or changed.
    pub remarks: Remarks,
}

/// Removes a file or a tree, following no symbolic link.
pub(super) fn remove_below(parent: &OwnedFd, name: &[u8]) -> Result<()> {
    let name = std::ffi::CString::new(name).map_err(|_| Error::failed("a name holds a NUL byte"))?;
    crate::sys::remove::remove_at(parent, &name)
}
