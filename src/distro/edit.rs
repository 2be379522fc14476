//! Changes to a root file system as values: computed by pure functions, applied in one place.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

use super::View;
use crate::error::{Context, Error, Result};
use crate::sys::fs::open_in_root;
use crate::sys::inode_flags::way_to;

/// One change, stated as what shall be: applying it again changes nothing.
///
/// Paths are relative to the root file system. The last component is replaced, not followed: a
/// guest's link never makes us write elsewhere than where we said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// A file with these contents. Mode and owner stay as they are where they are not given;
    /// a new file gets 0644 of root.
    Write {
        path: String,
        contents: Vec<u8>,
        mode: Option<u32>,
        owner: Option<OwnerIds>,
    },
    Directory {
        path: String,
        mode: u32,
        owner: OwnerIds,
    },
    Link {
        path: String,
        target: String,
    },
    /// Nothing at this path; directories stay.
    Remove {
        path: String,
    },
}

/// User and group.
type OwnerIds = (u32, u32);

const ROOT: OwnerIds = (0, 0);

impl Edit {
    pub fn write(path: impl Into<String>, contents: impl Into<Vec<u8>>) -> Self {
        Edit::Write { path: path.into(), contents: contents.into(), mode: None, owner: None }
    }

    pub fn directory(path: impl Into<String>) -> Self {
        Edit::Directory { path: path.into(), mode: 0o755, owner: ROOT }
    }

    pub fn link(path: impl Into<String>, target: impl Into<String>) -> Self {
        Edit::Link { path: path.into(), target: target.into() }
    }

    pub fn remove(path: impl Into<String>) -> Self {
        Edit::Remove { path: path.into() }
    }

    /// Sets the permission bits of a file or directory.
    pub fn mode(mut self, bits: u32) -> Self {
        match &mut self {
            Edit::Write { mode, .. } => *mode = Some(bits),
            Edit::Directory { mode, .. } => *mode = bits,
            Edit::Link { .. } | Edit::Remove { .. } => {}
        }
        self
    }

    /// Gives a file or directory to a user and a group.
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        match &mut self {
            Edit::Write { owner, .. } => *owner = Some((uid, gid)),
            Edit::Directory { owner, .. } => *owner = (uid, gid),
            Edit::Link { .. } | Edit::Remove { .. } => {}
        }
        self
    }

    pub fn path(&self) -> &str {
        match self {
            Edit::Write { path, .. }
            | Edit::Directory { path, .. }
            | Edit::Link { path, .. }
            | Edit::Remove { path } => path,
        }
    }
}

/// Carries out edits in order, inside the root and nowhere else.
pub(crate) fn apply(view: &View, edits: &[Edit]) -> Result<()> {
    for edit in edits {
        let done = match apply_one(view.fd(), edit) {
            Err(e) if e.errno() == Some(libc::EPERM) => {
                let _held = way_to(view.fd(), Path::new(edit.path()));
                apply_one(view.fd(), edit)
            }
            done => done,
        };
        done.map_err(|e| e.step(format!("edit `{}` in the root file system", edit.path())))?;
    }
    Ok(())
}

fn apply_one(root: BorrowedFd<'_>, edit: &Edit) -> Result<()> {
    let (dir, name) = edit.path().rsplit_once('/').unwrap_or(("", edit.path()));
    if matches!(name, "" | "." | "..") {
        return Err(Error::config("it names no file"));
    }
    match edit {
        Edit::Write { contents, mode, owner, .. } => {
            let place = EditTarget { dir: make_dir(root, dir)?, name };
            place.write(contents, *mode, *owner)
        }
        Edit::Directory { path, mode, owner } => {
            let fd = File::from(open_in_root(make_dir(root, path)?, ".", OFlags::RDONLY, Mode::empty())?);
            let now = fd.metadata()?;
            if now.mode() & 0o7777 != *mode {
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(*mode))?;
            }
            give(&fd, (now.uid(), now.gid()), *owner)
        }
        Edit::Link { target, .. } => {
            let place = EditTarget { dir: make_dir(root, dir)?, name };
            place.link(target)
        }
        Edit::Remove { .. } => {
            match open_in_root(root, dir_or_root(dir), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
                Ok(dir) => match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                    Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
                    Err(e) => Err(e.into()),
                },
                Err(e) if e.errno() == Some(libc::ENOENT) => Ok(()),
                Err(e) => Err(e),
            }
        }
    }
}

/// A name in an open directory of the root file system.
struct EditTarget<'a> {
    dir: OwnedFd,
    name: &'a str,
}

impl EditTarget<'_> {
    /// Where the new file is made before it replaces the old one. A left-over of a killed command is
    /// overwritten by the next edit of that directory.
    const TEMPORARY: &'static str = ".lxm-edit";

    fn write(&self, contents: &[u8], mode: Option<u32>, owner: Option<OwnerIds>) -> Result<()> {
        let old = self.open_file()?;
        let (old_owner, old_mode) = match &old {
            Some(file) => {
                let meta = file.metadata()?;
                ((meta.uid(), meta.gid()), meta.mode() & 0o7777)
            }
            None => (ROOT, 0o644),
        };
        let (owner, mode) = (owner.unwrap_or(old_owner), mode.unwrap_or(old_mode));
        if let Some(file) = old
            && (old_owner, old_mode) == (owner, mode)
            && read_at_most(file, contents.len() as u64 + 1)? == contents
        {
            return Ok(());
        }
        self.clear_temporary()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir, Self::TEMPORARY, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(fd);
        file.write_all(contents)?;
        let made = file.metadata()?;
        give(&file, (made.uid(), made.gid()), owner)?;
        // After the owner: chown(2) clears set-id bits.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        self.put_in_place()
    }

    fn link(&self, target: &str) -> Result<()> {
        if rustix::fs::readlinkat(&self.dir, self.name, Vec::new()).is_ok_and(|now| now.as_bytes() == target.as_bytes())
        {
            return Ok(());
        }
        self.clear_temporary()?;
        rustix::fs::symlinkat(target, &self.dir, Self::TEMPORARY)?;
        self.put_in_place()
    }

    /// The regular file of this name, if that is what is there.
    fn open_file(&self) -> Result<Option<File>> {
        // Non-blocking: opening a fifo must not wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.dir, self.name, flags, Mode::empty()) {
            Ok(fd) => {
                let file = File::from(fd);
                Ok(file.metadata()?.is_file().then_some(file))
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn clear_temporary(&self) -> Result<()> {
        match rustix::fs::unlinkat(&self.dir, Self::TEMPORARY, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn put_in_place(&self) -> Result<()> {
        rustix::fs::renameat(&self.dir, Self::TEMPORARY, &self.dir, self.name).inspect_err(|_| {
            // The rename's own error is the one to report.
            let _ = self.clear_temporary();
        })?;
        Ok(())
    }
}

fn read_at_most(file: File, limit: u64) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut contents = Vec::new();
    file.take(limit).read_to_end(&mut contents)?;
    Ok(contents)
}

fn give(fd: impl AsFd, now: OwnerIds, then: OwnerIds) -> Result<()> {
    if now != then {
        rustix::fs::fchown(fd, Some(Uid::from_raw(then.0)), Some(Gid::from_raw(then.1))).context(|| "chown")?;
    }
    Ok(())
}

fn dir_or_root(dir: &str) -> &str {
    if dir.is_empty() { "." } else { dir }
}

/// Opens a directory, making what is missing of it, 0755 of root.
fn make_dir(root: BorrowedFd<'_>, dir: &str) -> Result<OwnedFd> {
    let open = || open_in_root(root, dir_or_root(dir), OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
    match open() {
        Err(e) if e.errno() == Some(libc::ENOENT) && !dir.is_empty() => {}
        other => return other,
    }
    let (parent, name) = dir.rsplit_once('/').unwrap_or(("", dir));
    let parent = make_dir(root, parent)?;
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => open(),
        Err(e) => Err(Error::from(e).step(format!("make `{dir}`"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mine() -> OwnerIds {
        (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())
    }

    #[test]
    fn edits_are_what_they_say_and_twice_is_once() {
        let dir = tempfile::tempdir().unwrap();
        let edits = [
            Edit::write("etc/deep/er/file", "new").mode(0o600).owner(mine().0, mine().1),
            Edit::link("etc/link", "/dev/null"),
            Edit::directory("home/user").mode(0o700).owner(mine().0, mine().1),
            Edit::remove("none/such"),
        ];
        for _ in 0..2 {
            apply(&View::open(dir.path()).unwrap(), &edits).unwrap();
            let file = dir.path().join("etc/deep/er/file");
            assert_eq!(fs::read(&file).unwrap(), b"new");
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
            assert_eq!(fs::read_link(dir.path().join("etc/link")).unwrap().to_str(), Some("/dev/null"));
            assert_eq!(fs::metadata(dir.path().join("home/user")).unwrap().permissions().mode() & 0o7777, 0o700);
        }
    }

    #[test]
    fn a_file_that_is_right_already_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let edit = [Edit::write("file", "same").mode(0o644).owner(mine().0, mine().1)];
        apply(&View::open(dir.path()).unwrap(), &edit).unwrap();
        let before = fs::metadata(dir.path().join("file")).unwrap();
        apply(&View::open(dir.path()).unwrap(), &edit).unwrap();
        assert_eq!(fs::metadata(dir.path().join("file")).unwrap().ino(), before.ino());
    }

    #[test]
    fn what_is_immutable_is_edited_and_its_directory_stays_so() {
        use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("hostname"), "old").unwrap();
        let fix = |path: &std::path::Path, fixed: bool| {
            let file = File::open(path).unwrap();
            let flags = ioctl_getflags(&file)? - IFlags::IMMUTABLE;
            ioctl_setflags(&file, if fixed { flags | IFlags::IMMUTABLE } else { flags })
        };
        // Others than root may not, and not every file system has it.
        if fix(&etc.join("hostname"), true).and_then(|()| fix(&etc, true)).is_err() {
            return;
        }
        let edits = [Edit::write("etc/hostname", "new"), Edit::write("etc/deep/er", "new"), Edit::remove("etc/none")];
        let done = apply(&View::open(dir.path()).unwrap(), &edits);
        let stays = ioctl_getflags(File::open(&etc).unwrap()).unwrap().contains(IFlags::IMMUTABLE);
        fix(&etc, false).unwrap();
        done.unwrap();
        assert!(stays);
        assert_eq!(fs::read(etc.join("hostname")).unwrap(), b"new");
    }

    #[test]
    fn links_of_the_guest_lead_no_edit_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(dir.path().join("victim"), "host").unwrap();
        symlink("../victim", root.join("last")).unwrap();
        symlink("/..", root.join("up")).unwrap();
        let edits = [
            Edit::write("last", "guest").owner(mine().0, mine().1),
            Edit::write("up/victim", "guest").owner(mine().0, mine().1),
        ];
        apply(&View::open(&root).unwrap(), &edits).unwrap();
        assert_eq!(fs::read(dir.path().join("victim")).unwrap(), b"host");
        assert_eq!(fs::read(root.join("last")).unwrap(), b"guest");
        assert_eq!(fs::read(root.join("victim")).unwrap(), b"guest");
    }

    #[test]
    fn an_edit_of_what_is_a_directory_fails_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        assert!(apply(&View::open(dir.path()).unwrap(), &[Edit::write("d", "x").owner(mine().0, mine().1)]).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(apply(&View::open(dir.path()).unwrap(), &[Edit::write("d/..", "x")]).is_err());
    }
}
