//! Archives whose root file system is in a directory: `rootfs/` of LXC's and of Incus' unified images, or one
//! directory alone.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec};

use crate::error::{Context, Error, Result};
use crate::image::Remarks;
use crate::image::attributes::{Attributor, FileAttributes, xattrs_of_file};
use crate::image::inode_flags::FileFlags;
use crate::sys::remove::remove_at;

/// How far down a system is looked for: `./var/lib/lxc/web/rootfs` of `tar -P`, with room.
const DEEPEST: usize = 8;

/// Makes the directory of `root` that has a system in it `root` itself, where `root` has none.
///
/// What is beside it (`metadata.yaml`, `templates/`) is no part of the system and goes.
pub(crate) fn raise_top(root: &Path) -> Result<Remarks> {
    let step = || format!("look for a root file system in `{}`", root.display());
    let root = open(rustix::fs::CWD, root.as_os_str().as_encoded_bytes()).context(step)?;
    let mut remarks = Remarks::default();
    let path = find(&root).context(step)?;
    if !path.is_empty() {
        raise(&root, &path, &mut remarks).context(|| "make the directory with the system the root")?;
    }
    Ok(remarks)
}

fn open(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn names(dir: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let names = Dir::read_from(dir)?.map(|entry| Ok(entry?.file_name().to_bytes().to_vec()));
    let mut names = names.collect::<rustix::io::Result<Vec<_>>>()?;
    names.retain(|name| !matches!(name.as_slice(), b"." | b".."));
    names.sort();
    Ok(names)
}

/// The directory with the system, by its names from `root` down; none where that is `root` itself, or nothing.
fn find(root: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut path: Vec<Vec<u8>> = Vec::new();
    let mut at = open(root, b".")?;
    while !is_system(at.as_fd()) {
        let is_dir = |name: &&Vec<u8>| {
            let stat = rustix::fs::statat(&at, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
            stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        };
        let names = names(&at)?;
        let next = match names.iter().find(|name| name.as_slice() == b"rootfs").filter(is_dir) {
            Some(rootfs) => rootfs.clone(),
            None if names.len() == 1 && is_dir(&&names[0]) => names[0].clone(),
            None => return Ok(Vec::new()),
        };
        if path.len() == DEEPEST {
            return Ok(Vec::new());
        }
        at = open(&at, &next)?;
        path.push(next);
    }
    Ok(path)
}

/// Whether two of what the File System Hierarchy Standard asks for are there.
fn is_system(dir: BorrowedFd<'_>) -> bool {
    let has = |name: &&&str| rustix::fs::statat(dir, **name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    ["bin", "etc", "sbin", "usr", "lib"].iter().filter(has).count() >= 2
}

fn raise(root: &OwnedFd, path: &[Vec<u8>], remarks: &mut Remarks) -> Result<()> {
    // Nothing of the system has its name, however it is called.
    const AWAY: &[u8] = b".lxm-raised";
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    remarks.add("taken as the root, because the system is in it", &path.join(&b'/'));
    for name in names(root)?.into_iter().filter(|name| name != first) {
        remarks.add("left out, because it is beside the system", &name);
        let name = CString::new(name).map_err(|_| Error::failed("a name holds a NUL byte"))?;
        remove_at(root, &name)?;
    }
    rustix::fs::renameat(root, first.as_slice(), root, AWAY)?;
    let mut system = open(root, AWAY)?;
    for name in rest {
        system = open(&system, name)?;
    }
    let names = names(&system)?;
    if let Some(taken) = names.iter().find(|name| name.as_slice() == AWAY) {
        return Err(Error::failed(format!("there is a `{}` in it", super::shown(taken))));
    }
    let stat = rustix::fs::fstat(&system)?;
    let attributes = FileAttributes {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
        xattrs: xattrs_of_file(system.as_fd())?,
        flags: FileFlags::default(),
    };
    for name in names {
        let shown = || format!("move `{}` up", OsString::from_vec(name.clone()).display());
        rustix::fs::renameat(&system, &*name, root, &*name).context(shown)?;
    }
    remove_at(root, c".lxm-raised")?;
    Attributor::new().complete_directory(root.as_fd(), &attributes)?.tell(b".", remarks);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        paths.iter().for_each(|path| std::fs::create_dir_all(dir.path().join(path)).unwrap());
        dir
    }

    #[test]
    fn the_directory_with_the_system_becomes_the_root() {
        for (paths, from) in [
            (&["rootfs/etc", "rootfs/usr/bin", "templates"][..], Some("rootfs")),
            (&["debian-13/etc", "debian-13/usr/bin", "debian-13/rootfs"], Some("debian-13")),
            (&["var/lib/lxc/web/rootfs/etc", "var/lib/lxc/web/rootfs/usr/bin"], Some("var/lib/lxc/web/rootfs")),
            (&["etc", "usr/bin", "rootfs/etc", "rootfs/usr"], None),
        ] {
            let dir = tree(paths);
            std::fs::write(dir.path().join(from.unwrap_or("usr")).join("etc-mark"), "").unwrap();
            let notes = raise_top(dir.path()).unwrap().notes();
            assert_eq!(notes.iter().any(|note| note.contains(&format!("`{}`", from.unwrap_or("-")))), from.is_some());
            assert!(dir.path().join("etc").is_dir() && dir.path().join("usr/bin").is_dir(), "{paths:?}");
            assert!(from.is_none() || dir.path().join("etc-mark").is_file());
            assert!(!dir.path().join(".lxm-raised").exists() && !dir.path().join("templates").exists());
        }
    }

    #[test]
    fn a_tree_without_a_system_stays_as_it_is() {
        for paths in [&["a/b", "c/etc"][..], &["rootfs/etc"], &["1/2/3/4/5/6/7/8/9/etc", "1/2/3/4/5/6/7/8/9/usr"]] {
            let dir = tree(paths);
            assert!(raise_top(dir.path()).unwrap().notes().is_empty());
            assert!(paths.iter().all(|path| dir.path().join(path).is_dir()), "{paths:?}");
        }
    }
}
