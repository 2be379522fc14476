//! Layers merged into one tree by overlayfs, each with its ids mapped.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::idmap::{self, GuestIds};
use crate::error::{Context, Error, Result};
use crate::store;
use crate::sys;

/// What to merge, lowest first; `upper` is the directory with `fs` and `work`.
pub(super) struct OverlayParts {
    pub lowers: Vec<PathBuf>,
    pub upper: Option<PathBuf>,
}

/// What a power cut may take of what is written to a merged tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Nothing that has been synced, or was there when it was unmounted.
    Kept,
    /// All: of a container in the making nothing is to be kept. To unmount any other overlay writes all
    /// that is dirty on the file system of its upper layer to the disk, whoever made it so.
    Volatile,
}

/// mount(2) takes a page of options, and a layer's name is up to 20 bytes of it.
pub(super) const MOST_LAYERS: usize = 180;

/// Merges `parts` into a detached mount.
///
/// To be called in a private mount namespace. Up to Linux 6.14 layers must be attached somewhere in
/// the caller's mount namespace: each is for a moment, on the directory `scratch`.
pub(super) fn merge(
    parts: &OverlayParts,
    ids: Option<GuestIds<'_>>,
    durability: Durability,
    scratch: &Path,
) -> Result<OwnedFd> {
    let lowers = parts.lowers.iter().map(|path| layer(path, ids)).collect::<Result<Vec<_>>>()?;
    let upper = parts.upper.as_deref().map(|path| layer(path, ids)).transpose()?;
    // overlayfs takes no single layer without an upper one, and there is nothing to merge either.
    if let (None, [_]) = (&upper, lowers.as_slice()) {
        let only = lowers.into_iter().next().expect("there is one");
        return read_only(only);
    }

    let mut attached = Attached { scratch, count: 0 };
    for layer in lowers.iter().chain(&upper) {
        attached.attach(layer)?;
    }
    let names: Vec<String> = lowers.iter().rev().map(path_of).collect();
    let mut options = format!("lowerdir={}", names.join(":"));
    if let (Some(upper), Some(dir)) = (&upper, &parts.upper) {
        // Left by a volatile mount, and refused by the next: what was lost then, if anything, was a
        // container in the making.
        store::remove_tree(&dir.join("work").join("work/incompat"))?;
        options += &format!(",upperdir={0}/fs,workdir={0}/work", path_of(upper));
    }
    // Layers are frozen, shared and copied: no index that ties them to one another. Without
    // redirects, who renames a directory of a lower layer gets EXDEV; what is followed is the
    // kernel's own: what others made has its marks removed, and no guest with ids of its own can
    // write `trusted.*`.
    options += ",index=off,metacopy=off,redirect_dir=on";
    if durability == Durability::Volatile && upper.is_some() {
        options += ",volatile";
    }
    let (uid, gid) = match &upper {
        Some(upper) => owner(upper)?,
        None => (0, 0),
    };
    let mounted = sys::creds::with_fs_ids(uid, gid, || {
        mount(Some("lxm"), scratch, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
    })?;
    mounted.map_err(|e| explain(e, parts))?;
    attached.count += 1;
    let merged = sys::mount::copy_tree(scratch, false)?;
    idmap::prepare_merged(&merged, ids)?;
    if upper.is_none() { read_only(merged) } else { Ok(merged) }
}

fn explain(e: nix::errno::Errno, parts: &OverlayParts) -> Error {
    let error = Error::from(e).step("merge the layers with overlayfs");
    match e {
        nix::errno::Errno::ENODEV => error.with_kind(crate::error::Kind::HostLacks).hint("`modprobe overlay`"),
        nix::errno::Errno::EINVAL => {
            let upper = parts.upper.as_deref().unwrap_or(Path::new("")).display();
            error.hint(format!("`dmesg` tells the reason; the file system of `{upper}` may not do as an upper layer"))
        }
        _ => error,
    }
}

fn layer(path: &Path, ids: Option<GuestIds<'_>>) -> Result<OwnedFd> {
    let mount = sys::mount::copy_tree(path, false)?;
    if !idmap::prepare_mount(&mount, ids.into()).context(|| format!("mount layer `{}`", path.display()))? {
        return Err(Error::host_lacks(format!("the file system of `{}` cannot map ids", path.display()))
            .hint("with `--storage dir` they are shifted in the files themselves"));
    }
    Ok(mount)
}

fn read_only(mount: OwnedFd) -> Result<OwnedFd> {
    let change = sys::mount::MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..Default::default() };
    sys::mount::set_attributes(&mount, &change).context(|| "make the mount read-only")?;
    Ok(mount)
}

/// A magic link to the layer's own mount, whatever is mounted over it.
fn path_of(layer: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", layer.as_raw_fd())
}

/// The host ids of the layer's directory, which is root's in the container.
///
/// overlayfs makes files with the ids of who mounted it, and an idmapped mount refuses those that
/// it does not map (EOVERFLOW): the host's root is such a one.
fn owner(layer: &OwnedFd) -> Result<(u32, u32)> {
    let stat = rustix::fs::fstat(layer).context(|| "look at the upper layer")?;
    Ok((stat.st_uid, stat.st_gid))
}

/// The mounts on `scratch`, one over the other; gone when dropped.
struct Attached<'a> {
    scratch: &'a Path,
    count: usize,
}

impl Attached<'_> {
    fn attach(&mut self, layer: &OwnedFd) -> Result<()> {
        sys::mount::attach(layer, self.scratch)?;
        self.count += 1;
        Ok(())
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        for _ in 0..self.count {
            // What cannot be unmounted goes with the mount namespace.
            let _ = umount2(self.scratch, MntFlags::MNT_DETACH);
        }
    }
}
