//! Subvolumes of btrfs by ioctl (linux/btrfs.h).

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

const MAGIC: u8 = 0x94;
/// Inode number of every subvolume's root directory (BTRFS_FIRST_FREE_OBJECTID).
const SUBVOLUME_ROOT: u64 = 256;
/// st_f_type of statfs(2).
const SUPER_MAGIC: u64 = 0x9123_683e;

#[repr(C)]
pub(crate) struct VolArgs {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

#[repr(C)]
pub(crate) struct RootRefs {
    min_tree: u64,
    refs: [RootRef; 255],
    count: u8,
    align: [u8; 7],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct RootRef {
    tree: u64,
    dir: u64,
}

#[repr(C)]
pub(crate) struct LookupUser {
    dir: u64,
    tree: u64,
    name: [u8; 256],
    path: [u8; 3824],
}

#[repr(C)]
pub(crate) struct Lookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

#[repr(C)]
pub(crate) struct QuotaControl {
    command: u64,
    status: u64,
}

#[repr(C)]
pub(crate) struct QgroupLimit {
    id: u64,
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    reserved: [u64; 2],
}

#[repr(C)]
pub(crate) struct FsInfo {
    max_id: u64,
    devices: u64,
    id: [u8; 16],
    rest: [u8; 992],
}

nix::ioctl_write_ptr!(snap_create, MAGIC, 23, VolArgs);
nix::ioctl_write_ptr!(subvol_create, MAGIC, 24, VolArgs);
nix::ioctl_read!(subvol_getflags, MAGIC, 25, u64);
nix::ioctl_write_ptr!(subvol_setflags, MAGIC, 26, u64);
nix::ioctl_write_ptr!(snap_destroy, MAGIC, 63, VolArgs);
nix::ioctl_readwrite!(subvol_rootrefs, MAGIC, 61, RootRefs);
nix::ioctl_readwrite!(lookup_user, MAGIC, 62, LookupUser);
nix::ioctl_readwrite!(lookup, MAGIC, 18, Lookup);
nix::ioctl_read!(fs_info, MAGIC, 31, FsInfo);
nix::ioctl_readwrite!(quota_control, MAGIC, 40, QuotaControl);
nix::ioctl_read!(qgroup_limit, MAGIC, 43, QgroupLimit);

const SUBVOL_RDONLY: u64 = 1 << 1;

impl VolArgs {
    fn new(fd: Option<BorrowedFd<'_>>, name: &Path) -> Result<Box<Self>> {
        let bytes = name.as_os_str().as_bytes();
        let mut args = Box::new(VolArgs {
            fd: fd.map_or(0, |fd| i64::from(fd.as_raw_fd())),
            transid: 0,
            flags: 0,
            unused: [0; 4],
            name: [0; 4040],
        });
        if bytes.len() >= args.name.len() {
            return Err(Error::failed(format!("`{}` is too long a name", name.display())));
        }
        args.name[..bytes.len()].copy_from_slice(bytes);
        Ok(args)
    }
}

/// A path's directory, opened, and its last component.
fn split(path: &Path) -> Result<(File, &Path)> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::failed(format!("`{}` cannot be a subvolume", path.display())));
    };
    Ok((open(dir)?, Path::new(name)))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).context(|| format!("open `{}`", path.display()))
}

/// Whether `path` is on a btrfs.
pub fn is_btrfs(path: &Path) -> Result<bool> {
    let fs = rustix::fs::statfs(path).context(|| format!("look at the file system of `{}`", path.display()))?;
    Ok(fs.f_type as u64 == SUPER_MAGIC)
}

/// Whether `path` is the root of a subvolume.
pub(crate) fn is_subvolume(path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let meta = path.symlink_metadata().context(|| format!("look at `{}`", path.display()))?;
    Ok(meta.is_dir() && meta.ino() == SUBVOLUME_ROOT && is_btrfs(path)?)
}

/// The identity of the btrfs that `path` is on. Its subvolumes differ in device number and `f_fsid`.
pub(crate) fn file_system_id(path: &Path) -> Result<[u8; 16]> {
    let root = open(path)?;
    let mut info = Box::new(FsInfo { max_id: 0, devices: 0, id: [0; 16], rest: [0; 992] });
    // SAFETY: the kernel fills one `FsInfo`, which is as large as linux/btrfs.h's (1024 bytes).
    unsafe { fs_info(root.as_raw_fd(), &raw mut *info) }
        .context(|| format!("look at the file system of `{}`", path.display()))?;
    Ok(info.id)
}

/// Makes an empty subvolume.
pub fn create_subvolume(path: &Path) -> Result<()> {
    let (dir, name) = split(path)?;
    let args = VolArgs::new(None, name)?;
    // SAFETY: the kernel reads one `VolArgs`, whose layout is linux/btrfs.h's, and keeps nothing of it.
    unsafe { subvol_create(dir.as_raw_fd(), &raw const *args) }
        .context(|| format!("make subvolume `{}`", path.display()))?;
    Ok(())
}

/// Makes `target` a writable snapshot of the subvolume `source`, which takes no notice of subvolumes below it.
pub(crate) fn snapshot(source: &Path, target: &Path) -> Result<()> {
    let (dir, name) = split(target)?;
    let source_fd = open(source)?;
    let args = VolArgs::new(Some(source_fd.as_fd()), name)?;
    // SAFETY: as in `create_subvolume`; `source_fd` is open for the duration of the call.
    unsafe { snap_create(dir.as_raw_fd(), &raw const *args) }
        .context(|| format!("make `{}` a snapshot of `{}`", target.display(), source.display()))?;
    Ok(())
}

/// Removes a subvolume and those below it; a missing one is removed already.
pub(crate) fn delete_subvolume(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(());
    }
    let children = children(path)?;
    if !children.is_empty() {
        // Nothing can be removed from a read-only one.
        set_read_only(path, false)?;
    }
    // One that is busy (a swap file, a send) keeps no other from going.
    let failed = children.iter().filter_map(|child| delete_subvolume(&path.join(child)).err());
    if let Some(error) = failed.collect::<Vec<_>>().into_iter().next() {
        return Err(error);
    }
    let (dir, name) = split(path)?;
    let args = VolArgs::new(None, name)?;
    // SAFETY: as in `create_subvolume`.
    unsafe { snap_destroy(dir.as_raw_fd(), &raw const *args) }
        .context(|| format!("remove subvolume `{}`", path.display()))?;
    Ok(())
}

/// The subvolumes directly below the subvolume `path`, relative to it.
pub(crate) fn children(path: &Path) -> Result<Vec<PathBuf>> {
    let root = open(path)?;
    let mut found = Vec::new();
    let mut refs =
        Box::new(RootRefs { min_tree: 0, refs: [RootRef { tree: 0, dir: 0 }; 255], count: 0, align: [0; 7] });
    loop {
        // SAFETY: the kernel fills one `RootRefs`, whose layout is linux/btrfs.h's.
        let result = unsafe { subvol_rootrefs(root.as_raw_fd(), &raw mut *refs) };
        // EOVERFLOW: there are more, and `min_tree` says where to continue.
        let more = match result {
            Ok(_) => false,
            Err(nix::errno::Errno::EOVERFLOW) => true,
            Err(e) => return Err(Error::from(e).step(format!("list the subvolumes of `{}`", path.display()))),
        };
        for r in &refs.refs[..usize::from(refs.count)] {
            found.push(place_of(&root, *r).context(|| format!("list the subvolumes of `{}`", path.display()))?);
        }
        if !more {
            return Ok(found);
        }
    }
}

fn place_of(root: &File, r: RootRef) -> Result<PathBuf> {
    let mut args = Box::new(LookupUser { dir: r.dir, tree: r.tree, name: [0; 256], path: [0; 3824] });
    // SAFETY: the kernel fills one `LookupUser`, whose layout is linux/btrfs.h's.
    unsafe { lookup_user(root.as_raw_fd(), &raw mut *args) }?;
    let text = |bytes: &[u8]| -> Result<PathBuf> {
        let text = CStr::from_bytes_until_nul(bytes).map_err(|e| Error::failed(e.to_string()))?;
        Ok(PathBuf::from(std::ffi::OsStr::from_bytes(text.to_bytes())))
    };
    Ok(text(&args.path)?.join(text(&args.name)?))
}

/// Makes a subvolume read-only, or writable again.
pub(crate) fn set_read_only(path: &Path, read_only: bool) -> Result<()> {
    let root = open(path)?;
    let mut flags = 0;
    let change = |flags: &mut u64| -> nix::Result<i32> {
        // SAFETY: the kernel writes one u64, then reads one.
        unsafe { subvol_getflags(root.as_raw_fd(), flags) }?;
        *flags = if read_only { *flags | SUBVOL_RDONLY } else { *flags & !SUBVOL_RDONLY };
        // SAFETY: as above.
        unsafe { subvol_setflags(root.as_raw_fd(), flags) }
    };
    change(&mut flags).context(|| format!("change subvolume `{}`", path.display()))?;
    Ok(())
}

/// The id of the subvolume that `path` is in.
pub(crate) fn subvolume_id(path: &Path) -> Result<u64> {
    let root = open(path)?;
    let mut args = Box::new(Lookup { tree: 0, object: SUBVOLUME_ROOT, name: [0; 4080] });
    // SAFETY: the kernel fills one `Lookup`, whose layout is linux/btrfs.h's.
    unsafe { lookup(root.as_raw_fd(), &raw mut *args) }
        .context(|| format!("look up the subvolume of `{}`", path.display()))?;
    Ok(args.tree)
}

/// Lets the subvolume `path` refer to at most `bytes`; `None` lifts the limit.
///
/// Turns on quotas of the file system where they are off; the count of what exists is then made
/// in the background.
pub(crate) fn limit_subvolume(path: &Path, bytes: Option<u64>) -> Result<()> {
    const MAX_REFERENCED: u64 = 1 << 0;
    const ENABLE: u64 = 1;
    let id = subvolume_id(path)?;
    let root = open(path)?;
    let mut limit = QgroupLimit {
        id,
        flags: MAX_REFERENCED,
        // The largest value clears a limit (btrfs_limit_qgroup).
        max_referenced: bytes.unwrap_or(u64::MAX),
        max_exclusive: 0,
        reserved: [0; 2],
    };
    // SAFETY: the kernel reads one `QgroupLimit`, whose layout is linux/btrfs.h's.
    let mut set = || unsafe { qgroup_limit(root.as_raw_fd(), &raw mut limit) };
    let done = match set() {
        // Quotas are off.
        Err(nix::errno::Errno::ENOTCONN) if bytes.is_some() => {
            let mut control = QuotaControl { command: ENABLE, status: 0 };
            // SAFETY: the kernel reads and fills one `QuotaControl`.
            unsafe { quota_control(root.as_raw_fd(), &raw mut control) }
                .context(|| format!("turn on quotas on the file system of `{}`", path.display()))?;
            set()
        }
        Err(nix::errno::Errno::ENOTCONN) => Ok(0),
        other => other,
    };
    done.context(|| format!("limit subvolume `{}`", path.display()))?;
    Ok(())
}
