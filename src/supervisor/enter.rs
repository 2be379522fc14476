//! The helper that brings a command into the guest, and the command's process before it executes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::unistd::{Gid, Uid};

use super::execute::execute;
use super::not_run::{Failure, News, no_process};
use super::setup::Setup;
use super::user::User;
use crate::error::{Context, Error, Result};
use crate::inside::confine;
use crate::proto::control::{AttachRequest, OUR_FAILURE, Reply};
use crate::sys;
use crate::sys::clone::{SiblingPid, SingleThreaded, clone_sibling};
use crate::sys::pidfd;
use crate::sys::socket::Packets;

/// What the helper is to do.
pub(super) struct EnterRequest<'a> {
    pub setup: &'a Setup,
    pub leader: &'a OwnedFd,
    pub request: &'a AttachRequest,
    pub client: Option<&'a Packets>,
    pub fds: Vec<OwnedFd>,
    /// Where a failure is reported.
    pub told: BorrowedFd<'a>,
    /// Where the kernel puts the pid of the command's process.
    pub pid: &'a SiblingPid,
}

/// Runs in the helper; gives its exit status.
pub(super) fn run(order: EnterRequest<'_>, witness: SingleThreaded) -> u8 {
    let told = order.told;
    match bring(order, witness) {
        Ok(()) => 0,
        Err(error) => tell(told, (OUR_FAILURE, error)),
    }
}

/// Reports why the command was not executed; returns the exit status for that.
fn tell(told: BorrowedFd<'_>, (status, error): Failure) -> u8 {
    let text = serde_json::to_vec(&News { status, error }).unwrap_or_default();
    // If the supervisor is gone nothing is reported, and this process ends with it.
    let _ = rustix::io::write(told, &text);
    status
}

/// Enters the guest, and clones the process that becomes the command.
fn bring(order: EnterRequest<'_>, witness: SingleThreaded) -> Result<()> {
    let EnterRequest { setup, leader, request, client, fds, told, pid } = order;
    let mut kept = vec![0, 1, 2, leader.as_raw_fd(), told.as_raw_fd()];
    kept.extend(fds.iter().map(AsRawFd::as_raw_fd).chain(client.map(|client| client.as_fd().as_raw_fd())));
    sys::creds::close_all_but(&kept)?;
    sys::oom::make_ordinary(nix::unistd::getpid())?;
    if let Some(ids) = setup.ids {
        // Whoever is root in the guest may then give them to its users: both ids must be its own
        // (capable_wrt_inode_uidgid in kernel/capability.c).
        fds.iter().try_for_each(|fd| own(fd, ids.base, Some(ids.base)))?;
    }
    if setup.ids.is_none() {
        setup.cgroup.join_v1_guests()?;
    }
    let labels = setup.confinement.labels.open()?;
    enter(setup, leader)?;
    let user = User::find(request.user.as_deref())?;
    if let Some(ids) = setup.ids {
        user.require_in(ids)?;
    }
    fds.iter().try_for_each(|fd| own(fd, user.uid, None))?;
    match (request.tty, client) {
        (true, Some(client)) => give_terminal(request, &user, client, &fds)?,
        _ => take_pipes(&fds)?,
    }
    drop(fds);
    // Nothing that leads back to the host is open from here on: what is cloned has the same files.
    // The files that take the labels are this process's own attributes, and closed below.
    let mut kept = vec![0, 1, 2, told.as_raw_fd()];
    kept.extend(labels.descriptors());
    sys::creds::close_all_but(&kept)?;
    let cwd = request.cwd.as_deref().unwrap_or(&user.home);
    if let Err(e) = nix::unistd::chdir(cwd) {
        // A home that does not exist is no reason not to log in; a directory that was asked for is.
        if request.cwd.is_some() {
            return Err(Error::from(e).step(format!("change to directory `{cwd}`")));
        }
        nix::unistd::chdir("/").context(|| "change to directory `/`")?;
    }
    sys::signals::reset().context(|| "reset the signals")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    sys::birth::guest_limits();
    confine(&setup.confinement, &labels)?;
    drop(labels);
    become_user(&user)?;
    // Again: each change of ids may have set it back (PR_SET_DUMPABLE(2const)).
    sys::creds::set_undumpable()?;
    clone_sibling(witness, pid, || {
        let failure = match start(request, &user, setup) {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        tell(told, failure)
    })
    .map_err(|e| no_process(setup, e))?;
    super::stage::linger_if_asked();
    Ok(())
}

/// In the command's process: a session of its own, then the command.
fn start(
    request: &AttachRequest,
    user: &User,
    setup: &Setup,
) -> std::result::Result<std::convert::Infallible, Failure> {
    let session = || -> Result<()> {
        sys::creds::die_with_parent(libc::SIGKILL)?;
        nix::unistd::setsid().context(|| "start a session")?;
        if request.tty {
            rustix::process::ioctl_tiocsctty(std::io::stdin()).context(|| "take the terminal")?;
        }
        Ok(())
    };
    session().map_err(|e| (OUR_FAILURE, e))?;
    execute(request, user, &setup.config.environment)
}

/// Joins the guest: its namespaces (children alone the one of pids) and its root's ids.
fn enter(setup: &Setup, leader: &OwnedFd) -> Result<()> {
    let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWCGROUP;
    namespaces |= libc::CLONE_NEWPID;
    if setup.network == crate::inside::NetworkView::Own {
        namespaces |= libc::CLONE_NEWNET;
    }
    if setup.ids.is_some() {
        namespaces |= libc::CLONE_NEWUSER;
    }
    pidfd::enter(leader, namespaces)?;
    let root = (Uid::from_raw(0), Gid::from_raw(0));
    let take = || -> nix::Result<()> {
        nix::unistd::setgroups(&[])?;
        nix::unistd::setresgid(root.1, root.1, root.1)?;
        nix::unistd::setresuid(root.0, root.0, root.0)
    };
    take().context(|| "become the guest's root")?;
    sys::creds::die_with_parent(libc::SIGKILL)?;
    sys::creds::new_session_keyring();
    Ok(())
}

/// Makes `uid` the owner of a pipe: a user who opens /dev/stdout asks for it by name.
fn own(pipe: &OwnedFd, uid: u32, gid: Option<u32>) -> Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), gid.map(rustix::fs::Gid::from_raw));
    rustix::fs::fchown(pipe, Some(uid), gid).context(|| format!("give a pipe to the user {}", uid.as_raw()))
}

/// Opens a terminal of the guest's own devpts, so that `tty`, `screen` and `sudo` work in it, and
/// gives its master side to the client. Standard error may have a pipe instead.
fn give_terminal(request: &AttachRequest, user: &User, client: &Packets, error: &[OwnedFd]) -> Result<()> {
    let (master, slave, path) = sys::tty::open_pty("/dev/ptmx")?;
    sys::tty::set_window_size(&master, request.rows, request.cols)?;
    nix::unistd::chown(path.as_str(), Some(Uid::from_raw(user.uid)), None)
        .context(|| format!("give `{path}` to the user {}", user.uid))?;
    client.send(&Reply::Terminal, &[master.as_raw_fd()])?;
    sys::tty::make_standard(&slave)?;
    match error {
        [] => Ok(()),
        [error] => rustix::stdio::dup2_stderr(error).context(|| "take standard error"),
        _ => Err(Error::failed("one descriptor at most was expected")),
    }
}

fn take_pipes(fds: &[OwnedFd]) -> Result<()> {
    match fds {
        [input, output, error] => {
            let standard = || -> rustix::io::Result<()> {
                rustix::stdio::dup2_stdin(input)?;
                rustix::stdio::dup2_stdout(output)?;
                rustix::stdio::dup2_stderr(error)
            };
            standard().context(|| "take standard input and output")
        }
        // A command of our own (a guest's shutdown) has no client.
        [] => {
            let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())
                .context(|| "open /dev/null")?;
            sys::tty::make_standard(&null)
        }
        _ => Err(Error::failed("three descriptors were expected")),
    }
}

fn become_user(user: &User) -> Result<()> {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let become_it = || -> nix::Result<()> {
        nix::unistd::setgroups(&groups)?;
        nix::unistd::setresgid(gid, gid, gid)?;
        nix::unistd::setresuid(uid, uid, uid)
    };
    become_it().context(|| format!("become user {uid}"))
}
