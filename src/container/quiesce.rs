//! A container whose files do not change for a moment.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::cgroup::{ContainerCgroup, Hierarchies};
use crate::error::{Context, Result};
use crate::storage::Activity;
use crate::store::{AliveLock, BootRecord, Layout};
use crate::sys;
use crate::types::ContainerName;

/// How long the kernel may take to freeze a guest: one of its processes may wait for a disk.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps a container's files still until it is dropped: a running guest is frozen.
pub(crate) struct Still {
    frozen: Option<Frozen>,
    running: bool,
}

impl Still {
    /// The caller holds the operation lock, so that the container is not started meanwhile.
    pub(crate) fn begin(layout: &Layout, name: &ContainerName) -> Result<Self> {
        if !AliveLock::is_held(layout, name)? {
            return Ok(Still { frozen: None, running: false });
        }
        let cgroup = ContainerCgroup::new(Hierarchies::detect()?, BootRecord::cgroup_of(layout, name)?);
        // A guest that an admin has frozen stays frozen.
        let frozen = if cgroup.is_frozen()? { None } else { Some(Frozen::begin(cgroup)?) };
        Ok(Still { frozen, running: true })
    }

    pub(crate) fn activity(&self) -> Activity {
        if self.running { Activity::Running } else { Activity::Idle }
    }

    /// Thaws the guest.
    pub(crate) fn end(self) -> Result<()> {
        self.frozen.map_or(Ok(()), Frozen::end)
    }
}

struct Frozen {
    cgroup: ContainerCgroup,
    /// Its end of file tells the helper that this process has died.
    lifeline: Option<OwnedFd>,
}

impl Frozen {
    fn begin(cgroup: ContainerCgroup) -> Result<Self> {
        let lifeline = spawn_thaw_helper(&cgroup)?;
        let frozen = Frozen { cgroup, lifeline: Some(lifeline) };
        frozen.cgroup.set_frozen(true, TIMEOUT)?;
        Ok(frozen)
    }

    fn end(self) -> Result<()> {
        self.cgroup.set_frozen(false, TIMEOUT)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Thawed twice after `end`, which does nothing. The helper would do it too, but not at once.
        let _ = self.cgroup.set_frozen(false, Duration::ZERO);
        self.lifeline.take();
    }
}

/// Starts a process that thaws the guest when this one dies, however it does.
fn spawn_thaw_helper(cgroup: &ContainerCgroup) -> Result<OwnedFd> {
    let (reader, writer) = std::io::pipe().context(|| "make a pipe")?;
    let inherited = std::os::fd::AsRawFd::as_raw_fd(&writer);
    // Its exit status is not needed: init reaps a child that this process has not waited for.
    sys::clone::clone(sys::clone::SingleThreaded::check()?, 0, None, move || {
        // Else it would keep the pipe open itself.
        let _ = nix::unistd::close(inherited);
        // Ctrl-C at the terminal is to end the command, not the helper that cleans up after it.
        let _ = nix::unistd::setsid();
        let mut reader = reader;
        let _ = reader.read(&mut [0]);
        u8::from(cgroup.set_frozen(false, TIMEOUT).is_err())
    })?;
    Ok(writer.into())
}
