//! What is at a place of the host that the admin named for a file to be written to.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};

/// How it is written to.
#[derive(Debug)]
pub(crate) enum Target {
    /// Nothing is there, or a regular file: what is written takes its place, whole.
    Place,
    /// A pipe, a device, or what a link leads to: it stays what it is, and is written to as cp(1) does.
    Open(File),
}

/// Looks at `name` in `dir`.
///
/// A link or a pipe that another user has put there is refused: he would choose what is overwritten,
/// or read what is written. The kernel does the same in sticky directories alone, and for pipes only
/// where a file would be made (fs.protected_symlinks, fs.protected_fifos).
pub(crate) fn target(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Target> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let seen = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Target::Place),
        other => other.context(|| format!("look at `{}`", name.display()))?,
    };
    let stat = rustix::fs::fstat(&seen)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let what = match kind {
        FileType::RegularFile => return Ok(Target::Place),
        FileType::Directory => return Err(Error::conflict(format!("there is a directory `{}`", name.display()))),
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "pipe",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => return Err(Error::conflict(format!("`{}` is a socket", name.display()))),
    };
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        let said = format!("`{}` is a {what} of another user's (uid {})", name.display(), stat.st_uid);
        return Err(Error::conflict(said).hint("remove it, or write to standard output (`-`) and redirect that"));
    }
    // By the descriptor that was examined: its name may mean another file by now.
    let write = OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = match kind {
        FileType::Symlink => {
            let leads_to = rustix::fs::readlinkat(&seen, c"", Vec::new())?;
            match rustix::fs::openat(dir, &leads_to, write, Mode::empty()) {
                // A magic link has no path that could be opened: /dev/fd/63 of `>(command)`.
                Err(Errno::NOENT) if is_proc(dir)? => rustix::fs::openat(dir, name, write, Mode::empty()),
                other => other,
            }
        }
        _ => rustix::fs::open(format!("/proc/self/fd/{}", seen.as_raw_fd()), write, Mode::empty()),
    };
    Ok(Target::Open(File::from(opened.context(|| format!("open the {what} `{}`", name.display()))?)))
}

/// Empties what a link leads to. Not before there is something to write to it: what is there may be
/// the only copy, and what was to replace it may not exist.
pub(crate) fn empty(file: &File) -> Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0).context(|| "empty what is there")?;
    }
    Ok(())
}

/// A file that is emptied when the first byte is written to it.
#[derive(Debug)]
pub(crate) struct AtFirstByte {
    file: File,
    begun: bool,
}

impl AtFirstByte {
    pub(crate) fn new(file: File) -> Self {
        AtFirstByte { file, begun: false }
    }

    /// Has all of it on the disk; a pipe and a device have none.
    pub(crate) fn sync(&self) -> Result<()> {
        if self.file.metadata()?.is_file() {
            self.file.sync_all()?;
        }
        Ok(())
    }
}

impl Write for AtFirstByte {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !self.begun {
            if self.file.metadata()?.is_file() {
                self.file.set_len(0)?;
            }
            self.begun = true;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn is_proc(dir: BorrowedFd<'_>) -> Result<bool> {
    Ok(rustix::fs::fstatfs(dir)?.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_and_files_are_replaced() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = File::open(tmp.path()).unwrap();
        std::fs::write(tmp.path().join("file"), "old").unwrap();
        symlink("file", tmp.path().join("link")).unwrap();
        symlink("nothing", tmp.path().join("dangling")).unwrap();
        let open = tempfile::tempfile().unwrap();
        symlink(format!("/proc/self/fd/{}", open.as_raw_fd()), tmp.path().join("magic")).unwrap();
        let at = |name: &str| target(dir.as_fd(), OsStr::new(name));
        assert!(matches!(at("file").unwrap(), Target::Place));
        assert!(matches!(at("new").unwrap(), Target::Place));
        assert!(matches!(at("link").unwrap(), Target::Open(_)));
        assert!(matches!(at("magic").unwrap(), Target::Open(_)));
        assert_eq!(at("dangling").unwrap_err().errno(), Some(libc::ENOENT));
        assert!(at(".").is_err());
        // Who only looks empties nothing.
        let read = || std::fs::read_to_string(tmp.path().join("file")).unwrap();
        assert_eq!(read(), "old");
        let Target::Open(file) = at("link").unwrap() else { panic!("a link is followed") };
        let mut file = AtFirstByte::new(file);
        file.flush().unwrap();
        assert_eq!(read(), "old");
        file.write_all(b"n").unwrap();
        file.write_all(b"w").unwrap();
        assert_eq!(read(), "nw");
    }
}
