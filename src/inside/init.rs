//! From the clone to the exec, step by step.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid};
use rustix::fs::{Mode, OFlags};

use super::lsm::OpenLabels;
use super::plan::{FromChild, ToChild};
use super::{BootPlan, NetworkView, confine, lock, mounts, places, run_host};
use crate::error::{Context, Error, Result};
use crate::sys;
use crate::sys::socket::Packets;

/// Becomes the guest's init. Returns an exit status only when that failed, after reporting why.
///
/// `locker` leads to the helper that locks the mounts of a guest with ids of its own (`lock`); a privileged
/// guest's root is the host's, whom the kernel refuses nothing.
pub(crate) fn boot(plan: &BootPlan, supervisor: &Packets, locker: Option<&Packets>) -> u8 {
    let Err(error) = run(plan, supervisor, locker);
    refuse(supervisor, error)
}

/// Reports why there is no guest; returns the exit status.
pub(crate) fn refuse(supervisor: &Packets, error: Error) -> u8 {
    // If this fails the supervisor is gone, and there is no one left to report it to.
    let _ = supervisor.send(&FromChild::Failed(error), &[]);
    1
}

fn run(plan: &BootPlan, supervisor: &Packets, locker: Option<&Packets>) -> Result<std::convert::Infallible> {
    let labels = plan.confinement.labels.open()?;
    let fds = expect(supervisor, "the root file system", |message| matches!(message, ToChild::Root))?;
    let [root, dev]: [OwnedFd; 2] = fds.try_into().map_err(|_| Error::failed("two mounts were expected"))?;
    become_root(plan)?;
    // After the ids, which clear it. If the supervisor is gone already, the next receive says so.
    sys::creds::die_with_parent(libc::SIGKILL)?;
    nix::unistd::setsid().context(|| "start a session")?;
    sys::creds::new_session_keyring();
    // Here and not in the clone: clone3 makes the namespace's root the parent's group.
    nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).context(|| "make a cgroup namespace")?;
    nix::unistd::sethostname(&plan.hostname).context(|| "set the host name")?;
    if plan.network == NetworkView::Own {
        sys::net::loopback_up()?;
    }

    let kernel = mounts::KernelFilesystems::make(plan)?;
    mounts::change_root(root.as_fd())?;
    mounts::mount_all(kernel, dev.as_fd())?;
    if plan.network == NetworkView::Own {
        let_all_groups_ping(plan.last_group);
    }
    let notify = run_host::fill(plan)?;
    let (master, mut console, terminal) = open_console(plan)?;
    drop((root, dev));
    let mut binds = Vec::new();
    while let Some((target, directory, mount)) = next_bind(supervisor)? {
        binds.push((places::resolve(&target)?, directory, mount));
    }
    for (place, directory, mount) in binds {
        mounts::bind(mount.as_fd(), &place, directory)?;
    }
    if let Some(locker) = locker {
        lock::enter_locked(locker)?;
        // Anew: the mount that this one was opened on is in no namespace now, and ttyname(3) needs a path.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        console = rustix::fs::open(&terminal, flags, Mode::empty()).context(|| "open the console again")?;
    }
    mounts::share()?;

    let mut fds = vec![master.as_raw_fd(), console.as_raw_fd()];
    fds.extend(notify.iter().map(AsRawFd::as_raw_fd));
    supervisor.send(&FromChild::Prepared, &fds)?;
    drop((master, notify));

    expect(supervisor, "the release", |message| matches!(message, ToChild::Release))?;
    execute(plan, console, &labels)
}

/// Waits for the message that `wanted` accepts; any other is an error, and so is the end.
fn expect(supervisor: &Packets, what: &str, wanted: impl Fn(&ToChild) -> bool) -> Result<Vec<OwnedFd>> {
    match supervisor.recv::<ToChild>()? {
        Some((message, fds)) if wanted(&message) => Ok(fds),
        Some((message, _)) => Err(Error::failed(format!("{message:?} came where {what} was expected"))),
        None => Err(Error::failed("the supervisor is gone")),
    }
}

/// The next mount to make, until all have been given.
fn next_bind(supervisor: &Packets) -> Result<Option<(String, bool, OwnedFd)>> {
    match supervisor.recv::<ToChild>()? {
        Some((ToChild::Bind { target, directory }, mut fds)) => {
            let mount = fds.pop().ok_or_else(|| Error::failed(format!("no mount came for `{target}`")))?;
            Ok(Some((target, directory, mount)))
        }
        Some((ToChild::Complete, _)) => Ok(None),
        Some((message, _)) => Err(Error::failed(format!("{message:?} came where a mount was expected"))),
        None => Err(Error::failed("the supervisor is gone")),
    }
}

/// Takes the guest's ids 0: until now the ids were the supervisor's, unmapped in here.
fn become_root(plan: &BootPlan) -> Result<()> {
    let take = || -> nix::Result<()> {
        nix::unistd::setgroups(&[])?;
        if plan.mapped {
            nix::unistd::setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
            nix::unistd::setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))?;
        }
        Ok(())
    };
    take().context(|| "become the guest's root")
}

/// Lets every user of the guest open ICMP sockets (icmp(7), ping_group_range), as systemd does at its boot
/// since 243: ping(8) of Debian 13, Fedora and Arch has no other right. A new network namespace lets none,
/// and what systemd would write ends beyond the ids of the guest, which the kernel refuses.
fn let_all_groups_ping(last: u32) {
    // Not had where the kernel has no IPv4; no guest is kept from starting by it.
    let _ = std::fs::write("/proc/sys/net/ipv4/ping_group_range", format!("0 {last}"));
}

/// A terminal of the guest's own devpts, bound over /dev/console. Returns both sides and the slave's path.
fn open_console(plan: &BootPlan) -> Result<(OwnedFd, OwnedFd, String)> {
    let (master, slave, path) = sys::tty::open_pty("/dev/ptmx").context(|| "open the console")?;
    sys::tty::set_window_size(&master, plan.rows, plan.cols)?;
    sys::mount::attach(sys::mount::copy_tree(&path, false)?, "/dev/console")?;
    Ok((master, slave, path))
}

fn execute(plan: &BootPlan, console: OwnedFd, labels: &OpenLabels) -> Result<std::convert::Infallible> {
    sys::signals::reset().context(|| "reset the signals")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::birth::guest_limits();
    sys::tty::make_standard(&console).context(|| "open the console as standard input and output")?;
    drop(console);
    // Whatever is open above is ours; the boot socket's end of file tells that init runs.
    sys::creds::close_on_exec_from(3)?;
    confine(&plan.confinement, labels)?;
    let argv: [&CString; 1] = [&plan.init];
    nix::unistd::execve(&plan.init, &argv, &plan.environment)
        .context(|| format!("execute init `{}`", plan.init.to_string_lossy()))
}
