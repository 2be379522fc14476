//! Whether a guest that runs could be booted again: asked before it is shut down, not after.

use std::os::fd::{AsFd, OwnedFd};

use super::setup::Setup;
use super::{bind, dev};
use crate::cgroup::{ContainerCgroup, Hierarchies};
use crate::error::{Context, Result};
use crate::net;
use crate::store::{BootRecord, Layout, Origin};
use crate::sys::{fork, process};
use crate::types::ContainerName;

/// Refuses all that a start of the container `name` would refuse before its guest exists: a mistake in its
/// configuration, a missing init, and what this host lacks or another container has. Nothing is changed.
///
/// The guest runs; where it does not, there is nothing to lose by trying.
pub(crate) fn require_startable(layout: &Layout, name: &ContainerName) -> Result<()> {
    // No mistake in it is found later than here.
    layout.config(name)?;
    let Some(record) = BootRecord::read(layout, name)?.filter(|record| process::is_same(&record.leader)) else {
        return Ok(());
    };
    let root = record.open_root(name)?;
    let check = || {
        let cgroup = ContainerCgroup::new(Hierarchies::detect()?, record.cgroup.as_str());
        let setup = Setup::of_running(layout, name, cgroup, root.as_fd())?;
        setup.require_host(&root)?;
        let (place, origin) = (layout.container(name), Origin::read(layout, name)?);
        match setup.config.storage.size {
            Some(size) => crate::storage::backend(layout, &origin.storage)?
                .limit(&place, Some(size.bytes()))
                .context(|| "hold `storage.size`"),
            None => Ok(()),
        }
    };
    // In a child: netlink wants a runtime, and what is mounted goes with it.
    fork::run(check).map_err(|e| e.step(format!("`{name}` runs on, as it could not be started again")))
}

impl Setup {
    /// Refuses what of the host it needs and cannot have. `rootfs` is where targets of mounts are looked up.
    ///
    /// Run it in a short-lived process.
    pub(super) fn require_host(&self, rootfs: &OwnedFd) -> Result<()> {
        self.cgroup.require_controllers(&self.config.limits)?;
        dev::rules(&self.config.device)?;
        for entry in &self.config.mount {
            bind::open(entry, self, rootfs)?;
        }
        net::preview::check(&self.layout, &self.name, &self.config).context(|| "connect the network")
    }
}
