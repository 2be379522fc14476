//! The mount calls: detached mounts, attached by descriptor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::error::{Context, Error, Result};

/// Makes a detached mount of a new file system, for example `("tmpfs", &["mode=0755"], …)`.
///
/// An option is `key=value`, or a flag without `=`.
pub(crate) fn new_filesystem(kind: &str, options: &[&str], attributes: MountAttrFlags) -> Result<OwnedFd> {
    let make = || -> rustix::io::Result<OwnedFd> {
        let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for option in options {
            match option.split_once('=') {
                Some((key, value)) => fsconfig_set_string(&fs, key, value)?,
                None => fsconfig_set_flag(&fs, *option)?,
            }
        }
        fsconfig_create(&fs)?;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().context(|| format!("make a `{kind}` file system"))
}

/// A detached copy of the mount at `path`, its submounts too where `recursive`.
pub(crate) fn copy_tree(path: impl AsRef<Path>, recursive: bool) -> Result<OwnedFd> {
    let path = path.as_ref();
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(rustix::fs::CWD, path, flags).context(|| format!("copy the mount of `{}`", path.display()))
}

/// A detached copy of the mount at an open file or directory, its submounts too where `recursive`.
pub(crate) fn copy_tree_at(place: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(place, c"", flags).context(|| "copy a mount")
}

/// Attaches a detached mount on `target`, following no symbolic link at its end.
pub(crate) fn attach(mount: impl AsFd, target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    move_mount(mount, c"", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .context(|| format!("mount on `{}`", target.display()))
}

/// Attaches a detached mount on an open file or directory.
pub(crate) fn attach_at(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags).context(|| "attach a mount")
}

/// What [`set_attributes`] changes.
#[derive(Debug, Default)]
pub(crate) struct MountAttributes<'a> {
    pub set: u64,
    pub clear: u64,
    /// `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE` or 0.
    pub propagation: u64,
    /// Map ids as this user namespace does (MOUNT_ATTR_IDMAP).
    pub idmap: Option<BorrowedFd<'a>>,
    pub recursive: bool,
}

/// mount_setattr(2) on an open mount.
pub(crate) fn set_attributes(mount: impl AsFd, change: &MountAttributes<'_>) -> std::io::Result<()> {
    let mut attr = libc::mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: 0,
    };
    if let Some(userns) = change.idmap {
        attr.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attr.userns_fd = userns.as_raw_fd() as u64;
    }
    let flags = libc::AT_EMPTY_PATH | if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, `attr` outlives the call and the size given is its true size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs `f` in a mount namespace of its own, which ends with the call.
///
/// In a thread: a mount namespace is a thread's property, and this process keeps the host's.
pub(crate) fn in_private_namespace<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).context(|| "make a mount namespace")?;
            nix::mount::mount(
                None::<&str>,
                "/",
                None::<&str>,
                nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE,
                None::<&str>,
            )
            .context(|| "make the mount namespace private")?;
            f()
        });
        work.join().map_err(|_| Error::failed("a thread failed"))?
    })
}
