//! Processes by descriptor: no pid is ever mistaken for a later one.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::error::{Context, Result};
use crate::types::Signal;

/// Opens a process by number; the caller makes sure that it is still the one meant.
pub(crate) fn open(pid: Pid) -> Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(nix::errno::Errno::ESRCH)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).context(|| "open a process")
}

/// Sends `signal`; a process that is gone already is not an error.
pub(crate) fn send_signal(pidfd: impl AsFd, signal: Signal) -> Result<()> {
    // SAFETY: the descriptor is open, the signal is a valid number and a null siginfo is allowed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal.number(),
            std::ptr::null::<libc::siginfo_t>(),
            0u32,
        )
    };
    match result {
        -1 => match nix::errno::Errno::last() {
            nix::errno::Errno::ESRCH => Ok(()),
            e => Err(e).context(|| format!("send {signal}")),
        },
        _ => Ok(()),
    }
}

/// Reaps the child behind `pidfd` if it has ended.
pub(crate) fn try_reap(pidfd: impl AsFd) -> Result<Option<WaitStatus>> {
    match waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
        Ok(WaitStatus::StillAlive) => Ok(None),
        Ok(status) => Ok(Some(status)),
        Err(e) => Err(e).context(|| "wait for a child"),
    }
}

/// Waits for the end of the child behind `pidfd` and reaps it.
pub fn reap(pidfd: impl AsFd) -> Result<WaitStatus> {
    loop {
        match waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return other.context(|| "wait for a child"),
        }
    }
}

/// Waits until the process behind `pidfd` has ended, at most `limit`; returns whether it has.
pub(crate) fn wait_exit(pidfd: impl AsFd, limit: Duration) -> Result<bool> {
    super::poll::wait_readable(pidfd, limit).context(|| "wait for a process")
}

/// Joins the namespaces in `flags` (`CLONE_NEW*`) of the process behind `pidfd`.
pub(crate) fn enter(pidfd: impl AsFd, flags: i32) -> Result<()> {
    // SAFETY: takes integers only. Callers have one thread, as joining user and mount namespaces needs.
    let result = unsafe { libc::setns(pidfd.as_fd().as_raw_fd(), flags) };
    nix::errno::Errno::result(result).map(drop).context(|| "enter the namespaces")
}
