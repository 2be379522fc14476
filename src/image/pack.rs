//! Writing a root file system as a tar archive that GNU tar and [`super::unpack`] read back whole.
//!
//! The format is POSIX's with what GNU tar adds: extended attributes (`SCHILY.xattr.*`, access
//! control lists among them), nanoseconds, and holes (sparse format 1.0).

mod entry;

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat};
use rustix::io::Errno;
use tar::EntryType;

use self::entry::{BLOCK, NewEntry};
use super::attributes::{xattrs_of_file, xattrs_of_named};
use super::inode_flags::FileFlags;
use super::walk::open_deep;
use super::{LARGEST_SPARSE, MOST_METADATA, MOST_PARTS, MOST_PATH, Remarks, shown};
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::sys;

/// An archive being written. Dropped before [`Packer::finish`], it has no end and is not taken
/// for whole. The same tree gives the same archive.
///
/// What is mounted in a tree is left out, and so are sockets, for which tar has no entry and which are of no
/// use without the program that listens.
pub(crate) struct Packer<'a, W: Write> {
    /// Most of what is written is headers of 512 bytes.
    writer: BufWriter<W>,
    progress: &'a Progress,
    buffer: Vec<u8>,
    remarks: Remarks,
}

impl<'a, W: Write> Packer<'a, W> {
    pub(crate) fn new(writer: W, progress: &'a Progress) -> Self {
        Packer {
            writer: BufWriter::with_capacity(128 * 1024, writer),
            progress,
            buffer: vec![0; 256 * 1024],
            remarks: Remarks::default(),
        }
    }

    /// What of the trees so far is not in the archive.
    pub(crate) fn remarks(&self) -> &Remarks {
        &self.remarks
    }

    /// Adds a file of root's with the given contents.
    pub(crate) fn file(&mut self, path: &str, contents: &[u8], mode: u32, mtime: i64) -> Result<()> {
        let mut entry = NewEntry::new(EntryType::Regular, path.as_bytes());
        entry.owner(0, 0, mode);
        entry.time(mtime, 0);
        entry.size(contents.len() as u64);
        let add = |packer: &mut Self| -> Result<()> {
            packer.header(&entry)?;
            packer.writer.write_all(contents)?;
            Ok(packer.pad(contents.len() as u64)?)
        };
        add(self).context(|| format!("archive `{path}`"))
    }

    /// Adds the tree below `root`, in the archive below `prefix` (`rootfs` for one; empty for the
    /// archive's own root).
    pub(crate) fn tree(&mut self, prefix: &str, root: &Path) -> Result<()> {
        let step = || format!("archive `{}`", root.display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).context(step)?;
        let mut tree = Tree { root, prefix: prefix.as_bytes().to_vec(), first_names: HashMap::new(), directory: None };
        let stat = rustix::fs::fstat(&tree.root).context(step)?;
        let xattrs = xattrs_of_file(tree.root.as_fd()).context(step)?;
        let mut top = NewEntry::of(EntryType::Directory, &tree.name(b""), &stat);
        top.xattrs(&xattrs);
        top.flags(FileFlags::of(&tree.root).context(step)?);
        self.header(&top).context(step)?;
        // Depth first, as GNU tar wants it: it completes a directory when it comes out of it. Not
        // by recursion: a guest can nest directories deeper than a stack.
        let mut path = Vec::new();
        let mut open = vec![tree.list(&path).context(step)?];
        while let Some(listing) = open.last_mut() {
            path.truncate(listing.length);
            let Some(name) = listing.names.next() else {
                open.pop();
                continue;
            };
            let dir = tree.directory(&path).context(step)?;
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(&name);
            let added = dir.map_or(Ok(false), |dir| self.entry(&mut tree, &dir, &name, &path));
            if added.context(|| format!("archive `{}`", shown(&path))).context(step)? {
                open.push(tree.list(&path).context(step)?);
            }
        }
        Ok(())
    }

    /// Passes on what has been collected: the writer has seen all of the archive so far.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.writer.flush().context(|| "write the archive")
    }

    /// Writes the archive's end and hands the writer out.
    pub(crate) fn finish(mut self) -> Result<W> {
        let mut end = || -> std::io::Result<()> {
            tar::Builder::new(&mut self.writer).finish()?;
            self.writer.flush()
        };
        end().context(|| "end the archive")?;
        self.writer.into_inner().map_err(|e| e.into_error()).context(|| "end the archive")
    }

    /// Adds one entry; returns whether it is a directory.
    fn entry(&mut self, tree: &mut Tree, dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<bool> {
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Removed since the directory was read: a running guest does that.
            Err(Errno::NOENT) => return Ok(false),
            other => other?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let in_archive = tree.name(path);
        // What is at the end of the longest is a directory's, with a slash.
        if in_archive.len() >= MOST_PATH {
            return Err(Error::failed(format!("its path is longer than the {MOST_PATH} bytes that are read back"))
                .hint("move it up in the guest, or remove it"));
        }
        // By all of its names: a second one would be a link to what is not there.
        if kind == FileType::Socket {
            self.remarks.add("left out, because a tar archive has no sockets", path);
            return Ok(false);
        }
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let id = (stat.st_dev, stat.st_ino);
            if let Some(first) = tree.first_names.get(&id) {
                let mut entry = NewEntry::of(EntryType::Link, &in_archive, &stat);
                entry.target(first);
                self.header(&entry)?;
                return Ok(false);
            }
            tree.first_names.insert(id, in_archive.clone());
        }
        let entry_type = match kind {
            FileType::RegularFile => {
                self.regular(dir, name, &in_archive)?;
                return Ok(false);
            }
            FileType::Directory => EntryType::Directory,
            FileType::Symlink => EntryType::Symlink,
            FileType::Fifo => EntryType::Fifo,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            FileType::Socket | FileType::Unknown => return Err(Error::failed("its file type is not known")),
        };
        let mut entry = NewEntry::of(entry_type, &in_archive, &stat);
        entry.xattrs(&xattrs_of_named(dir.as_fd(), name)?);
        match entry_type {
            EntryType::Directory => entry.flags(FileFlags::named(dir, name)?),
            EntryType::Symlink => {
                entry.target(rustix::fs::readlinkat(dir, name, Vec::new()).context(|| "read the link")?.as_bytes());
            }
            EntryType::Char | EntryType::Block => {
                entry.header.set_device_major(rustix::fs::major(stat.st_rdev))?;
                entry.header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
            }
            _ => {}
        }
        self.header(&entry)?;
        Ok(kind == FileType::Directory)
    }

    fn regular(&mut self, dir: &OwnedFd, name: &[u8], in_archive: &[u8]) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOATIME | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.context(|| "open the file")?,
        };
        let stat = rustix::fs::fstat(&file)?;
        let size = stat.st_size as u64;
        let mut entry = NewEntry::of(EntryType::Regular, in_archive, &stat);
        entry.xattrs(&xattrs_of_file(file.as_fd())?);
        entry.flags(FileFlags::of(&file)?);
        if size > LARGEST_SPARSE {
            return Err(Error::failed("it is larger than the 16 TiB that are read back")
                .hint("truncate it in the guest, or remove it"));
        }
        let data = merge_close(data_of(&file, &stat)?);
        if data == [(0, size)] {
            entry.size(size);
            self.header(&entry)?;
            self.contents(&file, 0, size)?;
            return Ok(self.pad(size)?);
        }
        let map = entry.sparse(in_archive, size, &data);
        self.header(&entry)?;
        self.writer.write_all(&map)?;
        let mut written = 0;
        for (offset, length) in data {
            self.contents(&file, offset, length)?;
            written += length;
        }
        Ok(self.pad(written)?)
    }

    fn header(&mut self, entry: &NewEntry) -> Result<()> {
        let metadata: usize = entry.pax.iter().map(|(key, value)| key.len() + value.len() + 16).sum();
        if metadata > MOST_METADATA {
            return Err(Error::failed("its extended attributes are larger than the 8 MiB that are read back")
                .hint("remove some of them in the guest (`setfattr -x`)"));
        }
        // Not dropped: that would write the archive's end.
        let mut builder = ManuallyDrop::new(tar::Builder::new(&mut self.writer));
        builder.append_pax_extensions(entry.pax.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
        let mut header = entry.header.clone();
        header.set_cksum();
        Ok(builder.append(&header, std::io::empty())?)
    }

    /// Writes exactly `length` bytes; zeros for those that the file has lost since it was measured.
    fn contents(&mut self, file: &OwnedFd, offset: u64, length: u64) -> Result<()> {
        let mut at = 0;
        while at < length {
            let wanted = self.buffer.len().min(usize::try_from(length - at).unwrap_or(usize::MAX));
            let read = match rustix::io::pread(file, &mut self.buffer[..wanted], offset + at) {
                Ok(0) => {
                    self.buffer[..wanted].fill(0);
                    wanted
                }
                Err(Errno::INTR) => continue,
                other => other.context(|| "read the contents")?,
            };
            self.writer.write_all(&self.buffer[..read]).context(|| "write the archive")?;
            self.progress.inc(read as u64);
            at += read as u64;
        }
        Ok(())
    }

    fn pad(&mut self, length: u64) -> std::io::Result<()> {
        let rest = length.next_multiple_of(BLOCK) - length;
        self.writer.write_all(&[0; BLOCK as usize][..rest as usize])
    }
}

/// A tree being archived.
struct Tree {
    root: OwnedFd,
    prefix: Vec<u8>,
    /// Of files with several names, by device and inode: the one that stands for the file.
    first_names: HashMap<(u64, u64), Vec<u8>>,
    /// The directory that was looked at last. One at a time: there may be more above it than
    /// there are descriptors.
    directory: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

/// What is still to be archived of a directory.
struct Listing {
    /// Of the directory's own path. Not the path itself: of a tree that is deep, those of all that are open
    /// would fill the memory.
    length: usize,
    names: std::vec::IntoIter<Vec<u8>>,
}

impl Tree {
    /// The name in the archive of what is at `path` in the tree.
    fn name(&self, path: &[u8]) -> Vec<u8> {
        match (self.prefix.as_slice(), path) {
            (b"", b"") => b".".to_vec(),
            (b"", path) => path.to_vec(),
            (prefix, b"") => prefix.to_vec(),
            (prefix, path) => [prefix, b"/", path].concat(),
        }
    }

    /// Lists a directory in the order of its names; nothing for what is mounted in the tree.
    fn list(&mut self, path: &[u8]) -> Result<Listing> {
        let read = |dir: &OwnedFd| -> rustix::io::Result<Vec<Vec<u8>>> {
            let names = Dir::read_from(dir)?.map(|entry| Ok(entry?.file_name().to_bytes().to_vec()));
            let mut names = names.collect::<rustix::io::Result<Vec<_>>>()?;
            names.retain(|name| !matches!(name.as_slice(), b"." | b".."));
            names.sort();
            Ok(names)
        };
        let names = match self.directory(path)? {
            Some(dir) => read(&dir).context(|| format!("read `{}`", shown(path)))?,
            None => Vec::new(),
        };
        Ok(Listing { length: path.len(), names: names.into_iter() })
    }

    /// Opens a directory; `None` for a mount point and for what a running guest has removed.
    fn directory(&mut self, path: &[u8]) -> Result<Option<Rc<OwnedFd>>> {
        if let Some((_, dir)) = self.directory.as_ref().filter(|(open, _)| open == path) {
            return Ok(Some(dir.clone()));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let open = |at: BorrowedFd<'_>, stretch: &Path| sys::fs::resolved(at, stretch, flags, Mode::empty(), resolve);
        // Down a tree a step costs the same at any depth.
        let parent = self.directory.as_ref().and_then(|(parent, dir)| {
            let below = path.strip_prefix(parent.as_slice())?.strip_prefix(b"/")?;
            Some((dir.as_fd(), below))
        });
        let (at, below) = parent.unwrap_or((self.root.as_fd(), path));
        match open_deep(at, below, open) {
            Ok(dir) => {
                let dir = Rc::new(dir);
                self.directory = Some((path.to_vec(), dir.clone()));
                Ok(Some(dir))
            }
            Err(Errno::XDEV | Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(e).context(|| format!("open `{}`", shown(path))),
        }
    }
}

/// Offset and length of the parts of a file that hold data; one part for a file without holes.
fn data_of(file: &OwnedFd, stat: &Stat) -> Result<Vec<(u64, u64)>> {
    let size = stat.st_size as u64;
    if stat.st_blocks as u64 * 512 >= size {
        return Ok(vec![(0, size)]);
    }
    let mut data = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data behind `at`.
            Err(Errno::NXIO) => break,
            // The file system cannot tell holes.
            Err(Errno::INVAL) => return Ok(vec![(0, size)]),
            Err(e) => return Err(e).context(|| "look for holes"),
        };
        at = rustix::fs::seek(file, SeekFrom::Hole(start)).context(|| "look for holes")?.min(size);
        // It may have shrunk meanwhile.
        if start >= size {
            break;
        }
        data.push((start, at - start));
    }
    Ok(data)
}

/// Makes one part of those with the smallest holes between them until there are no more than are read back: of a
/// file with data in every other block, for one. Its contents are the same.
fn merge_close(mut data: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut smallest = 4096;
    while data.len() > MOST_PARTS {
        data.dedup_by(|next, last| {
            let end = last.0 + last.1;
            let close = next.0 - end <= smallest;
            if close {
                last.1 = next.0 + next.1 - last.0;
            }
            close
        });
        smallest *= 2;
    }
    data
}

#[cfg(test)]
mod root_tests;
