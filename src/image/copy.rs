//! Copying a root file system whole, by several threads, without going through user space.
//!
//! Nothing is synced to disk here: a copy is made of an image that stays (and was synced once, in
//! `super::cache`), so what a power cut takes can be made again, whereas waiting for the disk
//! would cost more than the copy. The kernel writes it back within its usual 30 s.

mod job;
mod queue;
mod seen;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom};
use rustix::io::Errno;

use self::job::{CopyJob, Directory};
use self::queue::{Queue, lock};
use self::seen::Seen;
use super::attributes::{Attributor, Refused, xattrs_of_file, xattrs_of_named};
use super::inode_flags::PendingFlags;
use super::walk::open_deep;
use super::{Remarks, shown};
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::sys;

/// Copies the tree below `source` to `target`, a directory that is empty or not there yet.
///
/// All of a file's metadata, hard links and holes are kept, and blocks are shared where the file
/// system can. What is mounted in the tree is left out. `progress` counts bytes of contents.
///
/// Says what the file system of the target would not take.
pub(crate) fn copy_tree(source: &Path, target: &Path, progress: &Progress) -> Result<Remarks> {
    let step = || format!("copy `{}` to `{}`", source.display(), target.display());
    if let Err(e) = std::fs::create_dir(target)
        && e.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(e).context(|| format!("make `{}`", target.display()));
    }
    let copy = TreeCopy {
        attributor: Attributor::new(),
        reflinks: AtomicBool::new(true),
        links: Mutex::new(HashMap::new()),
        flags: Mutex::default(),
        remarks: Mutex::default(),
        queue: Queue::default(),
        target: open_directory(rustix::fs::CWD, target).context(step)?,
        progress,
    };
    let source = open_source_directory(rustix::fs::CWD, source, ResolveFlags::empty()).context(step)?;
    if sys::fs::holds(&source, &copy.target).context(step)? {
        return Err(into_itself().step(step()));
    }
    copy.attributor.neutralise(&copy.target).context(step)?;
    let target = copy.target.try_clone().context(step)?;
    copy.queue.push(CopyJob::Root { source, target });
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| copy.work());
        }
        copy.work();
    });
    copy.queue.outcome().context(step)?;
    let (flags, mut remarks) = (lock(&copy.flags), lock(&copy.remarks));
    let open = |path: &[u8], flags| {
        let open = |at: BorrowedFd<'_>, stretch: &Path| sys::fs::open_beneath(at, stretch, flags, Mode::empty());
        open_deep(copy.target.as_fd(), path, open)
    };
    flags.set(&mut remarks, open).context(step)?;
    Ok(std::mem::take(&mut remarks))
}

/// Such a copy would be part of what is copied, and never end.
pub(crate) fn into_itself() -> Error {
    Error::failed("the source contains the destination")
        .hint("name a directory in it that does not contain the destination")
}

/// What is known to all threads of one copy.
struct TreeCopy<'a> {
    attributor: Attributor,
    /// Until the file system has said that it has no reflinks.
    reflinks: AtomicBool,
    /// Files with several names, by device and inode, and the first path of theirs in the target.
    links: Mutex<HashMap<(u64, u64), Vec<u8>>>,
    flags: Mutex<PendingFlags>,
    remarks: Mutex<Remarks>,
    queue: Queue,
    target: OwnedFd,
    progress: &'a Progress,
}

impl TreeCopy<'_> {
    fn work(&self) {
        let mut buffers = Buffers::new();
        while let Some(job) = self.queue.next() {
            let outcome = self.copy_directory(job, &mut buffers);
            self.queue.done(outcome);
        }
    }

    fn copy_directory(&self, job: CopyJob, buffers: &mut Buffers) -> Result<()> {
        let dir = match job {
            CopyJob::Root { source, target } => Directory { source, target, path: Vec::new() },
            CopyJob::Below { parent, name } => {
                let path = parent.path_of(&name);
                let step = || format!("open `{}`", shown(&path));
                let source = match open_source_directory(parent.source.as_fd(), &*name, ResolveFlags::NO_XDEV) {
                    // A mount point: what is mounted on it is not part of the tree.
                    Err(Errno::XDEV) => return Ok(()),
                    other => other.context(step)?,
                };
                let target = open_directory(parent.target.as_fd(), &*name).context(step)?;
                Directory { source, target, path }
            }
        };
        let dir = Arc::new(dir);
        let mut below = Vec::new();
        let mut entries = RawDir::new(&dir.source, &mut buffers.entries);
        while let Some(entry) = entries.next() {
            let entry = entry.context(|| format!("read `{}`", shown(&dir.path)))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.copy_entry(&dir, name, entry.file_type(), &mut below, &mut buffers.contents)
                .context(|| format!("copy `{}`", shown(&dir.path_of(name))))?;
        }
        let complete = || {
            let seen = Seen::of(&dir.source)?;
            let attributes = seen.attributes(xattrs_of_file(dir.source.as_fd())?);
            // Nothing is made in it any more, only in the directories that are in it.
            let refused = self.attributor.complete_directory(dir.target.as_fd(), &attributes)?;
            self.note(&seen, &dir.path, refused);
            Ok(())
        };
        let completed: Result<()> = complete();
        completed.context(|| format!("copy `{}`", shown(&dir.path)))?;
        self.queue.push_all(below.into_iter().map(|name| CopyJob::Below { parent: dir.clone(), name }));
        Ok(())
    }

    fn copy_entry(
        &self,
        dir: &Directory,
        name: &[u8],
        kind: FileType,
        below: &mut Vec<Vec<u8>>,
        buffer: &mut [u8],
    ) -> Result<()> {
        let look = || Seen::named(&dir.source, name);
        let kind = match kind {
            // Some file systems do not say it in the directory.
            FileType::Unknown => look()?.kind(),
            known => known,
        };
        match kind {
            FileType::Directory => {
                rustix::fs::mkdirat(&dir.target, name, Mode::RWXU).context(|| "make the directory")?;
                below.push(name.to_vec());
                Ok(())
            }
            FileType::RegularFile => {
                let source = open_source(dir.source.as_fd(), name, OFlags::NONBLOCK)?;
                let seen = Seen::of(&source)?;
                self.once(dir, name, &seen, || self.copy_file(dir, name, &source, &seen, buffer))
            }
            _ => {
                let seen = look()?;
                self.once(dir, name, &seen, || self.copy_special(dir, name, &seen))
            }
        }
    }

    /// Notes what of the file `path` is still to be set, and what cannot be.
    fn note(&self, seen: &Seen, path: &[u8], refused: Refused) {
        if !seen.flags().is_empty() {
            lock(&self.flags).add(path.to_vec(), seen.flags());
        }
        if !refused.is_empty() {
            refused.tell(path, &mut lock(&self.remarks));
        }
    }

    /// Copies a file, or makes a hard link to its copy where another name of it came first.
    fn once(&self, dir: &Directory, name: &[u8], seen: &Seen, copy: impl FnOnce() -> Result<()>) -> Result<()> {
        if seen.links() < 2 {
            return copy();
        }
        // Held over the copy, so that no other thread links to what is not there yet.
        let mut links = lock(&self.links);
        let id = seen.id();
        if let Some(first) = links.get(&id) {
            let slash = first.iter().rposition(|&byte| byte == b'/');
            let link = || match slash.filter(|_| first.len() >= libc::PATH_MAX as usize) {
                Some(slash) => {
                    let at =
                        open_deep(self.target.as_fd(), &first[..slash], |at, path: &Path| open_directory(at, path))?;
                    rustix::fs::linkat(at, &first[slash + 1..], &dir.target, name, AtFlags::empty())
                }
                None => rustix::fs::linkat(&self.target, &**first, &dir.target, name, AtFlags::empty()),
            };
            return link().context(|| format!("link it to `{}`", shown(first)));
        }
        copy()?;
        links.insert(id, dir.path_of(name));
        Ok(())
    }

    fn copy_file(&self, dir: &Directory, name: &[u8], source: &OwnedFd, seen: &Seen, buffer: &mut [u8]) -> Result<()> {
        let attributes = seen.attributes(xattrs_of_file(source.as_fd())?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = self.attributor.creation_mode(&attributes);
        let target = rustix::fs::openat(&dir.target, name, flags, mode).context(|| "make the file")?;
        if seen.size() > 0 && !self.reflink(source, &target)? {
            copy_contents(source, &target, seen, buffer)?;
        }
        self.progress.inc(seen.size());
        let refused = self.attributor.complete_file(target.as_fd(), &attributes)?;
        self.note(seen, &dir.path_of(name), refused);
        Ok(())
    }

    fn reflink(&self, source: &OwnedFd, target: &OwnedFd) -> Result<bool> {
        if !self.reflinks.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match rustix::fs::ioctl_ficlone(target, source) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS | Errno::XDEV) => {
                self.reflinks.store(false, Ordering::Relaxed);
                Ok(false)
            }
            // This file only: another checksum setting on btrfs, for one.
            Err(Errno::INVAL | Errno::TXTBSY | Errno::PERM) => Ok(false),
            Err(e) => Err(e).context(|| "share the blocks"),
        }
    }

    fn copy_special(&self, dir: &Directory, name: &[u8], seen: &Seen) -> Result<()> {
        let attributes = seen.attributes(xattrs_of_named(dir.source.as_fd(), name)?);
        let refused = if seen.kind() == FileType::Symlink {
            let link = rustix::fs::readlinkat(&dir.source, name, Vec::new()).context(|| "read the link")?;
            rustix::fs::symlinkat(&link, &dir.target, name).context(|| "make the link")?;
            self.attributor.complete_symlink(dir.target.as_fd(), name, &attributes)?
        } else {
            let mode = self.attributor.creation_mode(&attributes);
            rustix::fs::mknodat(&dir.target, name, seen.kind(), mode, seen.device()).context(|| "make the node")?;
            self.attributor.complete_node(dir.target.as_fd(), name, &attributes)?
        };
        if !refused.is_empty() {
            refused.tell(&dir.path_of(name), &mut lock(&self.remarks));
        }
        Ok(())
    }
}

fn copy_contents(source: impl AsFd + Copy, target: impl AsFd + Copy, seen: &Seen, buffer: &mut [u8]) -> Result<()> {
    let size = seen.size();
    if !seen.may_have_holes() {
        return copy_range(source, target, 0, size, buffer);
    }
    rustix::fs::ftruncate(target, size).context(|| "set the length")?;
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data behind `at`.
            Err(Errno::NXIO) => break,
            // The file system cannot tell holes.
            Err(Errno::INVAL) => return copy_range(source, target, at, size, buffer),
            Err(e) => return Err(e).context(|| "look for holes"),
        };
        let end = rustix::fs::seek(source, SeekFrom::Hole(start)).context(|| "look for holes")?.min(size);
        copy_range(source, target, start, end, buffer)?;
        at = end;
    }
    Ok(())
}

/// Copies a file with holes to an empty one; returns how much, nothing where it has none, or the target is a pipe
/// or a device.
pub(crate) fn copy_sparse(source: impl AsFd, target: impl AsFd) -> Result<u64> {
    let seen = Seen::of(&source)?;
    let is_file = |seen: &Seen| seen.kind() == FileType::RegularFile;
    if !seen.may_have_holes() || !is_file(&seen) || !is_file(&Seen::of(&target)?) {
        return Ok(0);
    }
    copy_contents(source.as_fd(), target.as_fd(), &seen, &mut vec![0; 64 * 1024])?;
    Ok(seen.size())
}

fn copy_range(
    source: impl AsFd + Copy,
    target: impl AsFd + Copy,
    start: u64,
    end: u64,
    buffer: &mut [u8],
) -> Result<()> {
    let (mut from, mut to) = (start, start);
    // Below this size the setup of a copy within the kernel costs more than the detour.
    while end - start > buffer.len() as u64 && from < end {
        let left = usize::try_from(end - from).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), left) {
            // Shorter than it was when we looked.
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::INTR) => {}
            // Two file systems, or one that does not have the call: by hand.
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::PERM) => break,
            Err(e) => return Err(e).context(|| "copy the contents"),
        }
    }
    while from < end {
        let wanted = buffer.len().min(usize::try_from(end - from).unwrap_or(usize::MAX));
        let read = match rustix::io::pread(source, &mut buffer[..wanted], from) {
            Ok(0) => return Ok(()),
            Err(Errno::INTR) => continue,
            other => other.context(|| "read the contents")?,
        };
        let mut written = 0;
        while written < read {
            match rustix::io::pwrite(target, &buffer[written..read], from + written as u64) {
                Err(Errno::INTR) => {}
                other => written += other.context(|| "write the contents")?,
            }
        }
        from += read as u64;
    }
    Ok(())
}

/// Opens something of the tree that is copied, which may be a container's own and change
/// meanwhile: no symbolic link is followed, and the access times stay.
fn open_source(dir: BorrowedFd, name: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).context(|| "open the file")
}

fn open_source_directory(
    dir: BorrowedFd,
    name: impl rustix::path::Arg + std::marker::Copy,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME;
    sys::fs::resolved(dir, name, flags, Mode::empty(), resolve)
}

fn open_directory(dir: BorrowedFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// One thread's.
struct Buffers {
    entries: Vec<std::mem::MaybeUninit<u8>>,
    contents: Vec<u8>,
}

impl Buffers {
    fn new() -> Self {
        Buffers { entries: vec![std::mem::MaybeUninit::uninit(); 32 * 1024], contents: vec![0; 64 * 1024] }
    }
}

#[cfg(test)]
mod root_tests;
