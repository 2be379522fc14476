//! Opens paths of an untrusted tree.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::error::{Context, Error, Result};

/// Opens `path` below the directory `root` as if `root` were `/`: no `..`, absolute path or
/// symbolic link leads out of it, however the tree changes meanwhile (openat2(2)).
pub(crate) fn open_in_root(root: impl AsFd, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let path = path.as_ref();
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    resolved(root, path, flags, mode, resolve).context(|| format!("open `{}`", path.display()))
}

/// The same, and no link is followed: fails with `ELOOP` at one (openat2(2), RESOLVE_NO_SYMLINKS).
pub(crate) fn open_in_root_no_links(
    root: impl AsFd,
    path: impl AsRef<Path>,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd> {
    let path = path.as_ref();
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    resolved(root, path, flags, mode, resolve).context(|| format!("open `{}`", path.display()))
}

/// Opens `path` below the directory `root`; fails with `EXDEV` on a path that leads out of it by
/// `..`, by being absolute or by a symbolic link that does either (openat2(2), RESOLVE_BENEATH).
pub(crate) fn open_beneath(
    root: impl AsFd,
    path: impl rustix::path::Arg + Copy,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd> {
    Ok(resolved(root, path, flags, mode, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)?)
}

/// More than any host has renames and mounts during look-ups in a row.
const MOST_TRIES: u32 = 10_000;

/// Opens `path` below the directory `root`, resolved as openat2(2) says.
pub(crate) fn resolved(
    root: impl AsFd,
    path: impl rustix::path::Arg + Copy,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, mode, resolve) {
            // A rename or mount somewhere raced with the look-up (openat2(2), EAGAIN). It is the answer to every
            // try where the root's mount has been unmounted and the path goes by `..`.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) if tries < MOST_TRIES => tries += 1,
            other => return other,
        }
    }
}

/// Opens a regular file below `root` for reading; fails on anything else.
pub(crate) fn open_file_in_root(root: impl AsFd, path: impl AsRef<Path>) -> Result<std::fs::File> {
    let path = path.as_ref();
    // Non-blocking: a fifo in place of the file must not hang us.
    let fd = open_in_root(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
    let file = std::fs::File::from(fd);
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file),
        Ok(_) => Err(Error::failed("not a regular file")),
        Err(e) => Err(e.into()),
    }
    .context(|| format!("read `{}`", path.display()))
}

/// Reads a file below `root`, at most `limit` bytes of it; fails on what is not a regular file.
pub(crate) fn read_in_root(root: impl AsFd, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
    use std::io::Read;
    let path = path.as_ref();
    let file = open_file_in_root(root, path)?;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut contents = Vec::new();
        (&file).take(limit).read_to_end(&mut contents)?;
        Ok(contents)
    };
    read().context(|| format!("read `{}`", path.display()))
}

/// Most bytes of a file that somebody edits.
const MOST_TEXT: u64 = 16 << 20;

/// Reads a file of the host's that an admin or another program may have put something else in place of:
/// fails on what is not a regular file, and does not wait for the writer of a fifo.
pub(crate) fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if meta.len() > MOST_TEXT {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "too large to be such a file"));
    }
    let mut text = String::with_capacity(meta.len() as usize);
    file.take(MOST_TEXT).read_to_string(&mut text)?;
    Ok(text)
}

/// Tells the file system that the directories in `dir` are trees of their own, to be laid out
/// apart from each other (`chattr +T`, the Orlov allocator of ext4). Others take no notice.
///
/// Without it ext4 puts a new tree where the last one was removed, and for five minutes looks at
/// each inode that was freed there before it takes another (its `recently_deleted()`): a copy of
/// ten thousand files then takes seconds instead of tenths.
pub(crate) fn lay_out_apart(dir: &Path) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let set = || -> rustix::io::Result<()> {
        let dir = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = ioctl_getflags(&dir)?;
        if flags.contains(IFlags::TOPDIR) { Ok(()) } else { ioctl_setflags(&dir, flags | IFlags::TOPDIR) }
    };
    // A hint, of no consequence where it is not understood.
    let _ = set();
}

/// Bytes of a file that it has in common with other files (FS_IOC_FIEMAP).
pub(crate) fn shared_bytes(file: impl AsFd) -> rustix::io::Result<u64> {
    const LAST: u32 = 1;
    const SHARED: u32 = 0x2000;
    let (mut total, mut start) = (0, 0);
    loop {
        let mut map = ExtentMap { start, length: u64::MAX - start, room: EXTENTS as u32, ..ExtentMap::default() };
        // SAFETY: the kernel fills one `ExtentMap`: the header of linux/fiemap.h, and as many extents
        // behind it as its `room` says.
        let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FIEMAP, &raw mut map) };
        if result == -1 {
            return Err(
                rustix::io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO)
            );
        }
        let extents = &map.extents[..(map.found as usize).min(EXTENTS)];
        total += extents.iter().filter(|extent| extent.flags & SHARED != 0).map(|extent| extent.length).sum::<u64>();
        match extents.last() {
            Some(last) if last.flags & LAST == 0 => start = last.logical + last.length,
            _ => return Ok(total),
        }
    }
}

/// `_IOWR('f', 11, struct fiemap)`, whose size is that of the header alone.
const FIEMAP: libc::Ioctl = 0xc020_660b;
const EXTENTS: usize = 64;

/// `struct fiemap` of linux/fiemap.h with its extents.
#[repr(C)]
struct ExtentMap {
    start: u64,
    length: u64,
    flags: u32,
    found: u32,
    room: u32,
    reserved: u32,
    extents: [Extent; EXTENTS],
}

impl Default for ExtentMap {
    fn default() -> Self {
        let extents = [Extent::default(); EXTENTS];
        ExtentMap { start: 0, length: 0, flags: 0, found: 0, room: 0, reserved: 0, extents }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved2: [u32; 3],
}

/// Opens a directory to be used as the root of such look-ups.
pub(crate) fn open_dir(path: impl AsRef<Path>) -> Result<OwnedFd> {
    let path = path.as_ref();
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open `{}`", path.display()))
}

/// Whether one is the other or a directory above it, whatever they are called: a bind mount of a
/// directory is that directory.
pub(crate) fn holds(above: impl AsFd, below: impl AsFd) -> Result<bool> {
    let identity = |dir: &OwnedFd| rustix::fs::fstat(dir).map(|stat| (stat.st_dev, stat.st_ino));
    let open = |dir: &dyn AsFd, path: &str| {
        rustix::fs::openat(dir.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    let above = identity(&open(&above, ".")?)?;
    let mut at = open(&below, ".")?;
    loop {
        let here = identity(&at)?;
        if here == above {
            return Ok(true);
        }
        at = open(&at, "..")?;
        // The root is its own parent.
        if identity(&at)? == here {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_holds_itself_and_what_is_below_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::create_dir_all(dir.path().join("ab")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let holds = |above: &str, below: &str| {
            let open = |path: &str| open_dir(dir.path().join(path)).unwrap();
            holds(open(above), open(below)).unwrap()
        };
        assert!(
            holds("/", "a/b") && holds("a", "a/b") && holds("a", "a") && holds("a", "link/b") && holds("link", "a")
        );
        assert!(!holds("a/b", "a") && !holds("a", "ab") && !holds("ab", "a/b") && !holds("a", "/"));
    }

    #[test]
    fn no_path_leads_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root_path = dir.path().join("root");
        std::fs::create_dir_all(root_path.join("etc")).unwrap();
        std::fs::write(dir.path().join("secret"), "host").unwrap();
        std::fs::write(root_path.join("secret"), "guest").unwrap();
        std::os::unix::fs::symlink("../../secret", root_path.join("up")).unwrap();
        std::os::unix::fs::symlink("/secret", root_path.join("etc/abs")).unwrap();
        let root = open_dir(&root_path).unwrap();
        for path in ["secret", "/secret", "../secret", "etc/../../secret", "up", "etc/abs"] {
            assert_eq!(read_in_root(&root, path, 100).unwrap(), b"guest", "{path}");
        }
    }
}
