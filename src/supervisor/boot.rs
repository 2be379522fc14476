//! One boot of the guest, from the clone to the execution of its init.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::setup::Setup;
use super::stage::{Stage, Timeline};
use super::{dev, policy};
use crate::config::NetworkType;
use crate::error::{Context, Error, Result};
use crate::inside::{self, FromChild, NetworkView, ToChild};
use crate::net;
use crate::storage::nested;
use crate::sys::clone::{Child, SingleThreaded, clone};
use crate::sys::mount as sys_mount;
use crate::sys::socket::Packets;
use crate::sys::{self, creds, fork, pidfd};
use crate::types::{IdRange, Signal};

/// A guest whose init has been executed.
pub(super) struct Booted {
    pub leader: Child,
    pub notify: Option<OwnedFd>,
    /// Host-side names of its links.
    pub links: Vec<String>,
    /// The helper that locked its mounts, to be reaped: the kernel takes mount namespaces apart when it ends,
    /// and no start waits for that.
    pub locker: Option<Child>,
    pub at: Instant,
}

/// How long the child may take for a step. It only mounts and executes; a root file system on a
/// dead network server is what could hold it up.
const CHILD_TIMEOUT: Duration = Duration::from_secs(30);

/// Both sides of a console: master, slave.
pub(super) type PtyPair = (OwnedFd, OwnedFd);

/// Boots the guest from its mounted root file system. On failure nothing of it is left.
pub(super) fn boot(
    setup: &Setup,
    rootfs: OwnedFd,
    timeline: &mut Timeline,
    rows: u16,
    cols: u16,
) -> Result<(Booted, PtyPair)> {
    let plan = setup.plan(rows, cols)?;
    let dev = dev::make(setup.ids.map_or(0, |ids| ids.base), &setup.config.device)?;
    let group = setup.cgroup.open_guest()?;
    policy::make_namespace(&plan.confinement.labels, setup.cgroup.group())?;
    let (ours, theirs) = Packets::pair()?;
    let (locker, to_locker) =
        if plan.mapped { Packets::pair().map(|(a, b)| (Some(a), Some(b)))? } else { (None, None) };
    let child = || {
        for end in locker.iter().chain([&ours]) {
            let _ = nix::unistd::close(end.as_fd().as_raw_fd());
        }
        if setup.ids.is_none()
            && let Err(e) = setup.cgroup.join_v1_guests()
        {
            return inside::refuse(&theirs, e);
        }
        inside::boot(&plan, &theirs, to_locker.as_ref())
    };
    let witness = SingleThreaded::check()?;
    let mut flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    if setup.network == NetworkView::Own {
        flags |= libc::CLONE_NEWNET;
    }
    let leader = match setup.ids {
        None => clone(witness, flags as u64, Some(group.as_fd()), child)?,
        Some(ids) => {
            flags |= libc::CLONE_NEWUSER;
            creds::with_effective_uid(ids.base, || clone(witness, flags as u64, Some(group.as_fd()), child))??
        }
    };
    // Only the child holds its end now, so that its end of file is the execution of init.
    drop((theirs, to_locker));
    timeline.reached(Stage::Cloned);
    match bring_up(setup, timeline, &leader, &ours, locker, rootfs, dev) {
        Ok((fds, links, locker)) => {
            Ok((Booted { leader, notify: fds.notify, links, locker, at: Instant::now() }, fds.console))
        }
        Err(e) => {
            abandon(setup, &leader);
            Err(e)
        }
    }
}

/// The descriptors that the child made inside.
struct ChildFds {
    console: PtyPair,
    notify: Option<OwnedFd>,
}

fn bring_up(
    setup: &Setup,
    timeline: &mut Timeline,
    leader: &Child,
    boot: &Packets,
    locker: Option<Packets>,
    rootfs: OwnedFd,
    dev: dev::Dev,
) -> Result<(ChildFds, Vec<String>, Option<Child>)> {
    sys::oom::make_ordinary(leader.pid)?;
    if let Some(ids) = setup.ids {
        write_id_maps(leader.pid, ids)?;
    }
    timeline.reached(Stage::Mapped);

    let root =
        setup.configures_network().then(|| rootfs.try_clone().context(|| "duplicate a descriptor")).transpose()?;
    match give_mounts(setup, boot, rootfs, dev) {
        // It has failed before it took all of them, and says why.
        Err(e) if e.errno() == Some(libc::EPIPE) => return Err(await_mounts(boot).err().unwrap_or(e)),
        given => given?,
    }
    timeline.reached(Stage::Rooted);

    let locking = locker.map(|locker| lock(locker, leader)).transpose()?;
    let up = wire_and_release(setup, timeline, leader, boot, root);
    if up.is_err() {
        // The helper that locks the mounts ends with that work, or with the guest's first process.
        pidfd::send_signal(&leader.pidfd, Signal::KILL)?;
    }
    let (locked, locker) = locking.map(fork::ChildWork::outcome).unzip();
    let locked = locked.unwrap_or(Ok(())).context(|| "lock the guest's mounts");
    match up.and_then(|up| locked.map(|()| up)) {
        Ok((fds, links)) => Ok((fds, links, locker)),
        Err(e) => {
            locker.inspect(reap);
            Err(e)
        }
    }
}

fn wire_and_release(
    setup: &Setup,
    timeline: &mut Timeline,
    leader: &Child,
    boot: &Packets,
    root: Option<OwnedFd>,
) -> Result<(ChildFds, Vec<String>)> {
    // While the child mounts.
    let links = match connect(setup, leader.pid, root) {
        // It has ended, its namespaces with it, and has said why.
        Err(e) if pidfd::wait_exit(&leader.pidfd, Duration::ZERO)? => {
            return Err(await_mounts(boot).err().unwrap_or(e));
        }
        connected => connected?,
    };
    timeline.reached(Stage::Wired);
    let fds = await_mounts(boot)?;
    timeline.reached(Stage::Mounted);

    boot.send(&ToChild::Release, &[])?;
    match boot.recv_within::<FromChild>(CHILD_TIMEOUT).context(|| "wait for init to be executed")? {
        // End of file: its end was closed by the exec, or by its death.
        None if pidfd::try_reap(&leader.pidfd)?.is_none() => {}
        None => return Err(Error::failed("the guest's init was killed before it ran")),
        Some((FromChild::Failed(e), _)) => return Err(e),
        Some((FromChild::Prepared, _)) => return Err(Error::failed("unexpected message of the guest's first process")),
    }
    timeline.reached(Stage::Executed);
    Ok((fds, links))
}

/// Gives the child all that it mounts and only the host can make.
fn give_mounts(setup: &Setup, boot: &Packets, rootfs: OwnedFd, dev: dev::Dev) -> Result<()> {
    boot.send(&ToChild::Root, &[rootfs.as_raw_fd(), dev.mount.as_raw_fd()])?;
    let bind = |target: String, directory: bool, mount: OwnedFd| {
        boot.send(&ToChild::Bind { target, directory }, &[mount.as_raw_fd()])
    };
    for node in &dev.shown {
        bind(node.to_string_lossy().into_owned(), false, sys_mount::copy_tree(node, false)?)?;
    }
    for entry in &setup.config.mount {
        if let Some((mount, directory)) = super::bind::open(entry, setup, &rootfs)? {
            bind(entry.target.to_string(), directory, mount)?;
        }
    }
    if setup.config.security.nesting && !setup.backend.carries_overlays() {
        let place = setup.layout.container(&setup.name);
        for target in nested::DIRECTORIES {
            bind(target.to_owned(), true, nested::open(&place, target, setup.mount_ids())?)?;
        }
    }
    boot.send(&ToChild::Complete, &[])
}

/// Has a child lock the mounts of `leader`, which is at the other end of `guest`.
fn lock(guest: Packets, leader: &Child) -> Result<fork::ChildWork<()>> {
    fork::ChildWork::begin(|| inside::lock_mounts(&guest, leader))
}

fn await_mounts(boot: &Packets) -> Result<ChildFds> {
    match boot.recv_within(CHILD_TIMEOUT).context(|| "wait for the guest's mounts")? {
        Some((FromChild::Prepared, fds)) => child_fds(fds),
        Some((FromChild::Failed(e), _)) => Err(e),
        None => Err(Error::failed("the guest's first process died before it ran init")),
    }
}

fn child_fds(fds: Vec<OwnedFd>) -> Result<ChildFds> {
    let mut fds = fds.into_iter();
    match (fds.next(), fds.next()) {
        (Some(master), Some(slave)) => Ok(ChildFds { console: (master, slave), notify: fds.next() }),
        _ => Err(Error::failed("the guest's console was not received")),
    }
}

/// One line: the guest's ids 0 to LEN are the range's (user_namespaces(7)).
fn write_id_maps(leader: Pid, ids: IdRange) -> Result<()> {
    let map = format!("0 {} {}\n", ids.base, ids.len);
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{leader}/{file}"), &map).context(|| format!("map the guest's ids (`{file}`)"))?;
    }
    Ok(())
}

/// Wires the network in a child of its own: the runtime that netlink needs stays out of the
/// supervisor, which must remain one thread and small.
fn connect(setup: &Setup, leader: Pid, root: Option<OwnedFd>) -> Result<Vec<String>> {
    let needs_wiring = |kind: NetworkType| !matches!(kind, NetworkType::None | NetworkType::Host);
    if !setup.config.network.values().any(|network| needs_wiring(network.kind)) {
        return Ok(Vec::new());
    }
    let connect = || {
        // What it starts runs on by itself.
        sys::oom::make_ordinary(nix::unistd::getpid())?;
        let Setup { configurator, ids, .. } = *setup;
        let guest = net::GuestSide { leader, configurator, root: root.as_ref().map(AsFd::as_fd), ids };
        let links = net::connect(&setup.layout, &setup.name, &setup.config, guest)?;
        Ok(links.into_iter().filter_map(|link| link.host).collect())
    };
    fork::run(connect).context(|| "connect the network")
}

/// Waits for the end of a child that is about to end; an error has occurred already and is the one to report.
fn reap(child: &Child) {
    let _ = pidfd::wait_exit(&child.pidfd, CHILD_TIMEOUT);
    let _ = pidfd::try_reap(&child.pidfd);
}

/// Ends a child that did not become a guest, and what was made for it.
fn abandon(setup: &Setup, leader: &Child) {
    // The error that brought us here is the one to report.
    let _ = pidfd::send_signal(&leader.pidfd, Signal::KILL);
    reap(leader);
    let _ = fork::run(|| net::sweep(&setup.layout, &setup.name));
}
