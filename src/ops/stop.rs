//! `lxm stop` and `lxm restart`: ends a guest, or has it boot again.

use crate::cgroup::{ContainerCgroup, Hierarchies};
use crate::container::sweep::sweep_run;
use crate::error::{Error, Result};
use crate::host;
use crate::ops::meaning;
use crate::proto::control::StopStage;
use crate::store::{self, AliveLock, Layout, OperationLock};
use crate::supervisor;
use crate::types::ContainerName;

pub(crate) use crate::host::StopMode;

/// Stops a container and waits until nothing of it is left; returns the stop stage that was needed.
///
/// `tell` is called at each stage. Fails with `Kind::Conflict` if it does not run.
pub(crate) fn stop(
    layout: &Layout,
    name: &ContainerName,
    how: StopMode,
    tell: impl Fn(StopStage),
) -> Result<StopStage> {
    layout.require(name)?;
    let lock = OperationLock::acquire(layout, name)?;
    end(layout, name, how, &lock, &tell)
}

/// The same for who holds the operation lock. One that was killed leaves nothing, even if its supervisor
/// could not clean up.
pub(crate) fn end(
    layout: &Layout,
    name: &ContainerName,
    how: StopMode,
    lock: &OperationLock,
    tell: &dyn Fn(StopStage),
) -> Result<StopStage> {
    let stop_stage = host::detect().stop(layout, name, how, tell)?;
    let hierarchies = Hierarchies::detect()?;
    let leftovers = || ContainerCgroup::new(hierarchies.clone(), layout.cgroup(name)).has_leftovers();
    // They are left where the supervisor was killed as well.
    if !AliveLock::is_held(layout, name)? && (layout.boot_record(name).exists() || leftovers()?) {
        sweep_run(layout, name, &hierarchies, lock)?;
    }
    Ok(stop_stage)
}

/// Refuses what [`restart`] would refuse of one of `names`.
pub(crate) fn require_restartable(layout: &Layout, names: &[ContainerName]) -> Result<()> {
    names.iter().try_for_each(|name| layout.require(name).and_then(|()| require_bootable(layout, name)))
}

/// Fails with what a boot would fail with, as far as it can be seen while the guest runs.
fn require_bootable(layout: &Layout, name: &ContainerName) -> Result<()> {
    let runs_on = |e: Error| e.step(format!("`{name}` runs on, as it could not be started again"));
    supervisor::require_startable(layout, name)?;
    meaning::require(layout, name).map_err(runs_on)
}

/// Reboots a guest in its own way, as `reboot` inside would.
pub(crate) fn restart(
    layout: &Layout,
    name: &ContainerName,
    how: StopMode,
    tell: impl Fn(StopStage),
) -> Result<StopStage> {
    layout.require(name)?;
    let _lock = OperationLock::acquire(layout, name)?;
    require_bootable(layout, name)?;
    store::forget_failure(layout, name);
    let stop_stage = host::detect().reboot(layout, name, how, &tell)?;
    match (AliveLock::is_held(layout, name)?, store::read_failure(layout, name)) {
        (true, None) => Ok(stop_stage),
        (_, Some(error)) => Err(error),
        (false, None) => Err(Error::failed(format!("container `{name}` stopped instead of rebooting"))
            .hint(format!("`{}` starts it", layout.command(format_args!("start {name}"))))),
    }
}
