//! Locks a guest's mounts, so that its own root can change none of them.
//!
//! What is mounted in a mount namespace that the guest's user namespace owns is the guest's to change:
//! it takes `ro`, `nosuid` and `nodev` away and unmounts what covers something. The kernel holds flags
//! and mounts together only when a namespace is copied into a user namespace other than its owner's
//! (lock_mnt_tree() in fs/namespace.c, called by copy_mnt_ns()). So the finished tree goes once through
//! a namespace that the host owns:
//!
//! ```text
//! guest's first process                helper
//! builds the tree                      makes a mount namespace of the host's, and empties it
//! copy of the whole tree ------------> attaches it
//!                                      enters the guest's user namespace, copies its mount namespace
//! enters that copy <------------------ the copy
//! ```
//!
//! The mount that the emptied namespace has left stays below the guest's root, as the initial root file
//! system does below the host's: setns(2) goes on to what is mounted on it, and no process can look below a
//! locked mount.
//!
//! systemd-nspawn attaches in an outer child instead, which leaves what only the inner one can mount
//! (/proc and what covers it) unlocked.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use super::mounts;
use crate::error::{Context, Error, Result};
use crate::sys;
use crate::sys::clone::Child;
use crate::sys::socket::Packets;

/// The helper's part: takes the tree from `guest`, gives the locked copy of it, or says why not.
///
/// Runs in a child of the supervisor, whose user namespace is the host's; `leader` is the guest's first
/// process.
pub(crate) fn lock_mounts(guest: &Packets, leader: &Child) -> Result<()> {
    sys::creds::die_with_parent(libc::SIGKILL)?;
    let helper = Helper::prepare(leader);
    let Some(((), tree)) = guest.recv::<()>()? else {
        // The guest's first process has failed, and reported to the supervisor why.
        return Ok(());
    };
    // What the helper holds goes when this process ends: see there.
    let answer = helper.and_then(|helper| helper.locked(tree, leader).map(|namespace| (namespace, helper)));
    match answer {
        Ok((namespace, _helper)) => guest.send(&Ok::<(), Error>(()), &[namespace.as_raw_fd()]),
        Err(e) => guest.send(&Err::<(), Error>(e), &[]),
    }
}

/// What can be done before the tree is there, while it is built: to take the host's tree off waits for a grace
/// period of the kernel's, which the guest does not wait for here.
///
/// The last process that leaves a mount namespace waits for the kernel to take it apart, a grace period long:
/// so handles of the namespaces that are left on the way are kept until no process waits for us.
struct Helper {
    /// /proc/self/ns: of the tree that follows nothing is looked up by a path.
    namespaces: OwnedFd,
    /// In which the guest's first process has built the tree.
    _builder_s: OwnedFd,
}

impl Helper {
    fn prepare(leader: &Child) -> Result<Self> {
        let namespaces = sys::fs::open_dir("/proc/self/ns")?;
        let builder_s = format!("/proc/{}/ns/mnt", leader.pid);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let builder_s = rustix::fs::open(builder_s, flags, Mode::empty()).context(|| "open its mount namespace")?;
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).context(|| "make a mount namespace")?;
        let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        mounts::change_root(sys::mount::new_filesystem("tmpfs", &["mode=0555"], flags)?.as_fd())?;
        Ok(Helper { namespaces, _builder_s: builder_s })
    }

    fn own(&self) -> Result<OwnedFd> {
        rustix::fs::openat(&self.namespaces, "mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .context(|| "open the mount namespace")
    }

    /// The namespace with the locked tree.
    fn locked(&self, mut tree: Vec<OwnedFd>, leader: &Child) -> Result<OwnedFd> {
        let tree = tree.pop().ok_or_else(|| Error::failed("the guest's mounts did not come"))?;
        sys::mount::attach(tree, "/")?;
        // Never closed, so that it goes with this process.
        std::mem::forget(self.own()?);
        sys::pidfd::enter(&leader.pidfd, libc::CLONE_NEWUSER)?;
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).context(|| "copy the mount namespace")?;
        self.own()
    }
}

/// The part of the guest's first process: hands its whole tree to the helper and continues in the locked
/// copy, at its root.
pub(super) fn enter_locked(helper: &Packets) -> Result<()> {
    let exchange = || -> Result<()> {
        let tree = sys::mount::copy_tree("/", true)?;
        helper.send(&(), &[tree.as_raw_fd()])?;
        drop(tree);
        let (answer, mut namespace) =
            helper.recv::<Result<()>>()?.ok_or_else(|| Error::failed("the helper has died"))?;
        answer?;
        let namespace = namespace.pop().ok_or_else(|| Error::failed("no mount namespace came"))?;
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNS).context(|| "enter it")
    };
    exchange().context(|| "lock the guest's mounts")
}
