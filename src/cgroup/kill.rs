//! Kills all that is in a container's groups, whatever the guest does against it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::ContainerCgroup;
use crate::error::{Context, Error, Result};
use crate::sys::pidfd;
use crate::types::Signal;

/// Killed processes that still exist after this wait for something, perhaps a FUSE server.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// How long the kernel may take to end processes that were killed.
const REAP_TIMEOUT: Duration = Duration::from_secs(10);

impl ContainerCgroup {
    /// Kills every process of the guest, frozen ones too; nothing can fork away from it (cgroup.kill, Linux
    /// 5.14). A missing group has no process to kill.
    pub(crate) fn kill(&self) -> Result<()> {
        kill_all(&self.payload()?)?;
        // A privileged guest may have frozen itself where the v2 kill does not reach.
        let groups = self.hierarchies.all_v1_mounts().into_iter().map(|mount| mount.join(&self.group));
        groups.map(|group| super::tree::thaw_v1(&group)).fold(Ok(()), Result::and)
    }

    /// Sends a signal to every process of the guest but `first`; fails where there is none.
    pub(crate) fn signal_others(&self, first: Pid, signal: Signal) -> Result<()> {
        let payload = self.payload()?;
        let others = super::tree::processes(&payload)?.into_iter().filter(|pid| *pid != first.as_raw());
        let opened: Vec<_> = others.filter_map(|pid| Some((pid, pidfd::open(Pid::from_raw(pid)).ok()?))).collect();
        // A number may have become another process's before it was opened.
        let still: HashSet<i32> = super::tree::processes(&payload)?.into_iter().collect();
        let meant: Vec<_> = opened.iter().filter(|(pid, _)| still.contains(pid)).collect();
        if meant.is_empty() {
            return Err(Error::failed("the guest has one process, which takes no signal"));
        }
        meant.into_iter().map(|(_, process)| pidfd::send_signal(process, signal)).fold(Ok(()), Result::and)
    }

    /// Kills everything of the container, its supervisor too; this process may not be in it.
    pub(crate) fn kill_with_supervisor(&self) -> Result<()> {
        self.kill()?;
        kill_all(&self.unified()?.join("supervisor"))
    }

    /// The processes beside the guest: its supervisor and the supervisor's helpers.
    pub(crate) fn supervisors(&self) -> Result<Vec<i32>> {
        let file = self.unified()?.join("supervisor/cgroup.procs");
        match fs::read_to_string(&file) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(e) if super::is_gone(&e) => Ok(Vec::new()),
            Err(e) => Err(e).context(|| format!("read `{}`", file.display())),
        }
    }

    /// Kills what is left of the guest and waits until its group is empty.
    pub(crate) fn kill_and_wait(&self) -> Result<()> {
        let (begun, deadline) = (Instant::now(), Instant::now() + REAP_TIMEOUT);
        while self.event("populated")? == Some(true) {
            self.kill()?;
            if begun.elapsed() > STUCK_AFTER {
                super::fuse::abort(&self.payload()?)?;
                std::thread::sleep(Duration::from_millis(50));
            }
            if Instant::now() >= deadline {
                return Err(Error::timed_out(format!(
                    "processes in cgroup `{}` do not die",
                    self.payload()?.display()
                ))
                .hint("a process in uninterruptible sleep waits for a device or a network file system"));
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        Ok(())
    }
}

/// Kills every process of a v2 group and those below it; a missing one has none.
fn kill_all(group: &Path) -> Result<()> {
    let file = group.join("cgroup.kill");
    match super::write_control(&file, "1") {
        Err(e) if !super::is_gone(&e) => Err(e).context(|| format!("write `{}`", file.display())),
        _ => Ok(()),
    }
}
