//! Ends a container without its supervisor, which is stopped, hung, or has lost its run directory.
//!
//! No process is killed by its pid alone. The guest is what is in its group, and a supervisor is what is in
//! its group or what the record names by pid and start time.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::StopMode;
use crate::cgroup::{ContainerCgroup, Hierarchies};
use crate::error::{Error, Kind, Result};
use crate::proto::control::StopStage;
use crate::store::{AliveLock, BootRecord, Layout};
use crate::sys::{pidfd, process};
use crate::types::{ContainerName, Signal};

/// How long a supervisor whose guest has been killed may take to clean up.
const CLEARING: Duration = Duration::from_secs(5);
/// How long a killed supervisor may take to end.
const REAP_TIMEOUT: Duration = Duration::from_secs(10);

/// Kills the guest, then its supervisor if that does not end by itself. The next sweep removes what is left.
/// `refused` is the failure of the request to the supervisor; it is returned where force is not needed: the
/// container does not run, or its supervisor has answered.
pub(crate) fn end(layout: &Layout, name: &ContainerName, how: StopMode, refused: Error) -> Result<StopStage> {
    if !AliveLock::is_held(layout, name)? {
        let Some(stray) = Stray::find(layout, name)? else { return Err(refused) };
        stray.cgroup.kill_with_supervisor()?;
        return if stray.wait_gone(REAP_TIMEOUT) { Ok(StopStage::Killed) } else { Err(has_not_ended(name)) };
    }
    let silent = refused.kind() == Kind::TimedOut || refused.errno() == Some(libc::EAGAIN);
    // A supervisor whose socket is gone may work: the hint says how to ask it for an orderly shutdown.
    let unreachable = how == StopMode::Kill && matches!(refused.errno(), Some(libc::ECONNREFUSED | libc::ENOENT));
    if !silent && !unreachable {
        return Err(refused);
    }
    kill(layout, name)?;
    Ok(StopStage::Killed)
}

/// Kills what holds the alive lock of `name`, its guest first.
pub(crate) fn kill(layout: &Layout, name: &ContainerName) -> Result<()> {
    crate::terminal::say(format!("note: the supervisor of `{name}` does not answer; killing its guest without it"));
    // A record that cannot be read names no process.
    let record = BootRecord::read(layout, name).ok().flatten();
    let group = record.as_ref().map_or_else(|| layout.cgroup(name), |record| record.cgroup.clone());
    let cgroup = ContainerCgroup::new(Hierarchies::detect()?, group);
    cgroup.kill()?;
    if AliveLock::wait_released(layout, name, CLEARING)? {
        return Ok(());
    }
    match record.and_then(|record| same(&record)) {
        Some(supervisor) => pidfd::send_signal(&supervisor, Signal::KILL)?,
        None => cgroup.kill_with_supervisor()?,
    }
    if AliveLock::wait_released(layout, name, REAP_TIMEOUT)? { Ok(()) } else { Err(has_not_ended(name)) }
}

fn same(record: &BootRecord) -> Option<OwnedFd> {
    let supervisor = pidfd::open(Pid::from_raw(record.supervisor.pid)).ok()?;
    // Only now is it sure that the descriptor is the supervisor's, and not of a later process.
    process::is_same(&record.supervisor).then_some(supervisor)
}

fn has_not_ended(name: &ContainerName) -> Error {
    Error::timed_out(format!("the supervisor of `{name}` was killed and has not ended"))
        .hint("a process in uninterruptible sleep waits for a device or a network file system")
}

/// A supervisor that runs although its run directory was removed, for example by `rm -r /run/lxm`.
pub(crate) struct Stray {
    cgroup: ContainerCgroup,
    processes: Vec<OwnedFd>,
}

impl Stray {
    /// Looks for one among the processes of the container's own group.
    pub(crate) fn find(layout: &Layout, name: &ContainerName) -> Result<Option<Self>> {
        let cgroup = ContainerCgroup::new(Hierarchies::detect()?, layout.cgroup(name));
        let mut processes = Vec::new();
        for pid in cgroup.supervisors()? {
            // The pidfd is opened before the process is examined, so that both are the same process.
            let Ok(pidfd) = pidfd::open(Pid::from_raw(pid)) else { continue };
            if holds_deleted(pid, &format!("/{name}/{}", AliveLock::FILE)) {
                processes.push(pidfd);
            }
        }
        Ok((!processes.is_empty()).then_some(Stray { cgroup, processes }))
    }

    /// Fails with `Kind::Conflict` where there is one.
    pub(crate) fn refuse(layout: &Layout, name: &ContainerName) -> Result<()> {
        match Self::find(layout, name)? {
            None => Ok(()),
            Some(_) => Err(Error::conflict(format!(
                "`{name}` still runs, though `{}` was removed",
                layout.run_dir(name).display()
            ))
            .hint(format!("`{}` ends it", layout.command(format_args!("stop {name}"))))),
        }
    }

    /// Asks it to shut its guest down; returns whether it has ended within `limit`.
    pub(crate) fn stop(&self, limit: Duration) -> Result<bool> {
        for process in &self.processes {
            pidfd::send_signal(process, Signal::plain(nix::sys::signal::Signal::SIGTERM))?;
        }
        if !self.wait_gone(limit) {
            return Ok(false);
        }
        self.wait_cleared()?;
        Ok(true)
    }

    /// It continues in another process while it removes its groups; the next sweep removes what is left.
    fn wait_cleared(&self) -> Result<()> {
        let deadline = Instant::now() + CLEARING;
        while self.cgroup.has_leftovers()? && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn wait_gone(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let left = || deadline.saturating_duration_since(Instant::now());
        self.processes.iter().all(|process| pidfd::wait_exit(process, left()).unwrap_or(false))
    }
}

/// Whether a process has a file open that was deleted and whose path ended so (proc_pid_fd(5)).
fn holds_deleted(pid: i32, path: &str) -> bool {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let end = format!("{path} (deleted)");
    fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|to| to.to_string_lossy().ends_with(&end))
}
