//! The two locks: the operation lock (a command changing a container) and the alive lock (its supervisor). A
//! lock on a deleted file excludes no process: operation locks are never unlinked, the alive lock only by who
//! holds it, and who takes it makes sure that it is still there.
//!
//! They are open-file-description locks (fcntl_locking(2)) rather than flock(2) ones, because
//! those can be tested without being taken: a `list` must not make a `start` fail.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::Layout;
use crate::error::{Context, Error, Result};
use crate::types::ContainerName;

/// A file with a lock on it, which ends when the last copy of the descriptor is closed.
#[derive(Debug)]
struct LockFile(File);

/// Unit tests are threads of one process, and a child that one of them forks has copies of all that
/// the others hold, for as long as it lives. Here a lock ends with its holder.
#[cfg(test)]
impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = fcntl(&self.0, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)));
        let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}

/// A lock on a file, held until dropped; exclusive unless it says otherwise.
#[derive(Debug)]
pub struct FileLock {
    file: LockFile,
    path: PathBuf,
}

impl FileLock {
    /// Takes the lock on `path`; `None` where another process has it.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>> {
        loop {
            let file = open_lock_file(path)?;
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
                // Its directory was removed between our two calls: a new file is at the path, or none.
                Ok(_) if file.metadata().is_ok_and(|meta| meta.nlink() == 0) => {}
                Ok(_) => return Ok(Some(FileLock { file: LockFile(file), path: path.to_owned() })),
                Err(Errno::EAGAIN | Errno::EACCES) => return Ok(None),
                Err(e) => return Err(Error::from(e).step(format!("lock `{}`", path.display()))),
            }
        }
    }

    /// Takes the lock on `path`, waiting for whoever has it.
    pub fn acquire(path: &Path) -> Result<Self> {
        let lock = FileLock { file: LockFile(open_lock_file(path)?), path: path.to_owned() };
        lock.wait_for(libc::F_WRLCK)?;
        Ok(lock)
    }

    /// Takes the lock on `path` together with others who take it so, waiting for whoever has it
    /// exclusively.
    ///
    /// `None` where it was never locked and its file system is read-only: then no process can lock it.
    pub fn acquire_shared(path: &Path) -> Result<Option<Self>> {
        let file = match open_lock_file(path) {
            Err(e) if e.errno() == Some(libc::EROFS) => match File::open(path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                other => other.context(|| format!("open lock file `{}`", path.display()))?,
            },
            other => other?,
        };
        let lock = FileLock { file: LockFile(file), path: path.to_owned() };
        lock.wait_for(libc::F_RDLCK)?;
        Ok(Some(lock))
    }

    fn wait_for(&self, kind: i32) -> Result<()> {
        loop {
            match fcntl(&self.file.0, FcntlArg::F_OFD_SETLKW(&whole_file(kind))) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::from(e).step(format!("lock `{}`", self.path.display()))),
            }
        }
    }

    /// Whether the lock on `path` is held; a missing file is not locked.
    pub fn is_held(path: &Path) -> Result<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::from(e).step(format!("open `{}`", path.display()))),
        };
        let mut probe = whole_file(libc::F_WRLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut probe)).context(|| format!("test the lock on `{}`", path.display()))?;
        Ok(i32::from(probe.l_type) != libc::F_UNLCK)
    }

    /// Whether the file that is locked is the one at its path.
    fn is_in_place(&self) -> bool {
        let (Ok(held), Ok(there)) = (self.file.0.metadata(), self.path.metadata()) else { return false };
        (held.dev(), held.ino()) == (there.dev(), there.ino())
    }

    pub fn file(&self) -> &File {
        &self.file.0
    }
}

fn whole_file(kind: i32) -> libc::flock {
    // l_pid must be 0 for OFD locks (fcntl_locking(2)); start and length 0 mean the whole file.
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

fn open_lock_file(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).context(|| format!("make `{}`", dir.display()))?;
    }
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).context(|| format!("open lock file `{}`", path.display()))
}

/// Held by a command while it changes a container.
#[derive(Debug)]
pub struct OperationLock(#[expect(dead_code, reason = "held, not read")] FileLock);

impl OperationLock {
    /// How long a command waits for another one on the same container.
    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Takes the operation lock; fails with `Kind::Conflict` when another command keeps it for 10 s.
    pub fn acquire(layout: &Layout, name: &ContainerName) -> Result<Self> {
        let path = layout.operation_locks().join(name);
        let deadline = Instant::now() + Self::TIMEOUT;
        loop {
            if let Some(lock) = Self::try_acquire(layout, name)? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(Error::conflict(format!("another command is working on `{name}`"))
                    .hint(format!("`fuser {}` shows which", path.display())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Takes it unless another command has it (`None`).
    pub fn try_acquire(layout: &Layout, name: &ContainerName) -> Result<Option<Self>> {
        Ok(FileLock::try_acquire(&layout.operation_locks().join(name))?.map(OperationLock))
    }
}

/// Held by a supervisor for its whole life: *running* means that this lock is held.
#[derive(Debug)]
pub struct AliveLock(FileLock);

impl AliveLock {
    /// Its name in the container's run directory.
    pub const FILE: &str = "alive";

    fn path(layout: &Layout, name: &ContainerName) -> PathBuf {
        layout.run_dir(name).join(Self::FILE)
    }

    /// Whether its file is still where others look for it. Where it is not, the run directory was removed,
    /// and what is there now does not belong to the holder of this.
    pub fn is_in_place(&self) -> bool {
        self.0.is_in_place()
    }

    /// The same for the container whose run directory this is.
    pub fn is_held_in(run_dir: &Path) -> Result<bool> {
        FileLock::is_held(&run_dir.join("alive"))
    }

    /// Takes it; `None` when the container runs already.
    pub fn take(layout: &Layout, name: &ContainerName) -> Result<Option<Self>> {
        Ok(FileLock::try_acquire(&Self::path(layout, name))?.map(AliveLock))
    }

    pub fn is_held(layout: &Layout, name: &ContainerName) -> Result<bool> {
        FileLock::is_held(&Self::path(layout, name))
    }

    /// Waits until no supervisor holds it, at most `limit`; returns whether that came to pass.
    pub fn wait_released(layout: &Layout, name: &ContainerName, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        while Self::is_held(layout, name)? {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(true)
    }
}

/// Locks on ranges of numbers, each held by one process alone. The kernel finds those that overlap.
#[derive(Debug)]
pub(crate) struct RangeLocks {
    file: LockFile,
    path: PathBuf,
    held: Vec<(u64, u64)>,
}

impl RangeLocks {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(RangeLocks { file: LockFile(open_lock_file(path)?), path: path.to_owned(), held: Vec::new() })
    }

    /// Locks `length` numbers from `start` on; false where another one has some of them. What is held
    /// here already may be locked again.
    pub(crate) fn try_lock(&mut self, start: u64, length: u64) -> Result<bool> {
        match fcntl(&self.file.0, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, start, length))) {
            Ok(_) => {
                self.held.push((start, length));
                Ok(true)
            }
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(e) => Err(Error::from(e).step(format!("lock `{}`", self.path.display()))),
        }
    }

    /// Gives up all but these.
    pub(crate) fn keep(&mut self, wanted: &[(u64, u64)]) -> Result<()> {
        for (start, length) in std::mem::take(&mut self.held) {
            if !wanted.contains(&(start, length)) {
                fcntl(&self.file.0, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, start, length)))
                    .context(|| format!("unlock `{}`", self.path.display()))?;
            }
        }
        // One that was given up may have overlapped one that stays.
        for (start, length) in wanted {
            self.try_lock(*start, *length)?;
        }
        Ok(())
    }
}

fn range(kind: i32, start: u64, length: u64) -> libc::flock {
    libc::flock { l_start: start as i64, l_len: length as i64, ..whole_file(kind) }
}

/// A lock on a directory itself, by whatever path it is reached, held until dropped (flock(2), which
/// unlike fcntl(2) needs no right to write).
#[derive(Debug)]
pub(crate) struct DirectoryLock(#[expect(dead_code, reason = "held, not read")] LockFile);

impl DirectoryLock {
    /// Takes it; `None` where another process has it.
    pub(crate) fn try_acquire(dir: &Path) -> Result<Option<Self>> {
        let file = File::open(dir).map_err(|e| missing(e, dir))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(DirectoryLock(LockFile(file)))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e).context(|| format!("lock `{}`", dir.display())),
        }
    }

    /// The same, waiting for a moment: commands hold it for as long as they work.
    pub(crate) fn acquire(dir: &Path) -> Result<Self> {
        let deadline = Instant::now() + OperationLock::TIMEOUT;
        loop {
            if let Some(lock) = Self::try_acquire(dir)? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(Error::conflict(format!("another process writes to `{}`", dir.display()))
                    .hint(format!("`fuser -v {}` shows which", dir.display())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A directory that a container writes to cannot be opened.
fn missing(e: std::io::Error, dir: &Path) -> Error {
    let error = Error::from(e).step(format!("open `{}`", dir.display()));
    match error.errno() {
        Some(libc::ENOENT) => {
            error.hint("a container on overlay is its directory and its layers, in `.layers` beside it: restore both")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_without_taking_it_and_ends_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/lock");
        assert!(!FileLock::is_held(&path).unwrap());
        let lock = FileLock::try_acquire(&path).unwrap().expect("it is free");
        assert!(FileLock::is_held(&path).unwrap());
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop(lock);
        assert!(!FileLock::is_held(&path).unwrap());
        assert!(FileLock::try_acquire(&path).unwrap().is_some());
    }

    #[test]
    fn ranges_are_locked_by_one_and_freed_when_they_are_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ranges");
        let (mut a, mut b) = (RangeLocks::open(&path).unwrap(), RangeLocks::open(&path).unwrap());
        assert!(a.try_lock(10, 10).unwrap() && a.try_lock(15, 10).unwrap());
        assert!(!b.try_lock(19, 1).unwrap() && b.try_lock(25, 1).unwrap());
        a.keep(&[(15, 10)]).unwrap();
        assert!(b.try_lock(10, 5).unwrap());
        assert!(!b.try_lock(15, 1).unwrap(), "it was in the range that was given up too");
        drop(a);
        assert!(b.try_lock(15, 1).unwrap());
    }

    #[test]
    fn a_directory_is_locked_by_whatever_path_it_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        let lock = DirectoryLock::try_acquire(&real).unwrap().expect("it is free");
        assert!(DirectoryLock::try_acquire(&link).unwrap().is_none());
        drop(lock);
        assert!(DirectoryLock::try_acquire(&link).unwrap().is_some());
    }

    #[test]
    fn a_lock_whose_file_was_deleted_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/alive");
        let lock = FileLock::try_acquire(&path).unwrap().unwrap();
        assert!(lock.is_in_place());
        std::fs::remove_dir_all(dir.path().join("run")).unwrap();
        assert!(!lock.is_in_place());
        drop(lock);
        let lock = FileLock::try_acquire(&path).unwrap().unwrap();
        assert!(FileLock::is_held(&path).unwrap());
        drop(lock);
    }

    #[test]
    fn sharers_of_a_lock_keep_out_who_wants_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = FileLock::acquire_shared(&path).unwrap().unwrap();
        let second = FileLock::acquire_shared(&path).unwrap().unwrap();
        drop(first);
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop(second);
        assert!(FileLock::try_acquire(&path).unwrap().is_some(), "it is not shared any more");
    }
}
