//! A container's unit: its name, its place in the boot, its limits, its state.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use zbus::Connection;
use zbus_systemd::systemd1::{ManagerProxy, UnitProxy};

use super::bus;
use crate::error::{Context, Error, Result};
use crate::store::{self, Layout};
use crate::types::ContainerName;

/// How long a question to systemd may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// What the administrator's units and ours beside them are in.
pub(super) const UNITS: &str = "/etc/systemd/system";

/// The unit of a container: `lxm@web.service`, the template that the package installs.
///
/// A state directory of its own (`LXM_ROOT`) has units of its own, which no file describes: two
/// containers of one name may run.
pub(crate) fn unit_name(layout: &Layout, name: &ContainerName) -> String {
    format!("{}@{name}.service", prefix(layout))
}

/// What the units begin with that the package's file describes.
pub(super) const INSTALLED: &str = "lxm";

pub(crate) fn prefix(layout: &Layout) -> String {
    if layout.root() == Path::new("/") && layout.is_home() {
        return INSTALLED.to_owned();
    }
    layout.cgroup_base()
}

/// Becomes `journalctl` with the entries of a container: its console, supervisor and unit.
pub(crate) fn show_journal(layout: &Layout, name: &ContainerName, lines: Option<usize>, follow: bool) -> Result<u8> {
    layout.require(name)?;
    if !super::is_running() {
        return Err(Error::host_lacks("this host has no journal")
            .hint(format!("its supervisor writes to `{}`", layout.log_dir(name).join("supervisor.log").display())));
    }
    let unit = unit_name(layout, name);
    let mut command = Command::new("journalctl");
    command.args([
        &format!("CONTAINER_NAME={}", layout.name_on_host(name)),
        "+",
        &format!("UNIT={unit}"),
        "+",
        &format!("_SYSTEMD_UNIT={unit}"),
    ]);
    command.args(lines.map(|lines| format!("--lines={lines}"))).args(follow.then_some("--follow"));
    Err(command.exec()).context(|| "run `journalctl`")
}

/// While the host is being shut down, when it began to run; `None` while it is not.
///
/// systemd 254 and newer can boot anew without the kernel (`systemctl soft-reboot`), and /run stays.
pub(crate) fn stopping_since_boot() -> Result<Option<SystemTime>> {
    bus::run(Duration::from_secs(2), async |connection| {
        let manager = manager(connection).await?;
        let state = manager.system_state().await.map_err(bus::error)?;
        let booted = Duration::from_micros(manager.userspace_timestamp().await.map_err(bus::error)?);
        Ok((state == "stopping").then_some(SystemTime::UNIX_EPOCH + booted))
    })
}

/// Makes the host start the container at boot.
pub(crate) fn enable(layout: &Layout, name: &ContainerName) -> Result<()> {
    let unit = installable(layout, name)?;
    // The target is what pulls them all in; an admin may have disabled it by a preset.
    let units = vec![unit.clone(), "lxm.target".to_owned()];
    bus::run(TIMEOUT, async |connection| {
        let manager = manager(connection).await?;
        manager.enable_unit_files(units.clone(), false, false).await.map_err(bus::error)?;
        manager.reload().await.map_err(bus::error)
    })
    .context(|| format!("enable `{unit}`"))
}

/// The opposite of [`enable`].
pub(crate) fn disable(layout: &Layout, name: &ContainerName) -> Result<()> {
    let unit = unit_name(layout, name);
    bus::run(TIMEOUT, async |connection| {
        let manager = manager(connection).await?;
        let changes = manager.disable_unit_files(vec![unit.clone()], false).await.map_err(bus::error)?;
        if changes.is_empty() { Ok(()) } else { manager.reload().await.map_err(bus::error) }
    })
    .context(|| format!("disable `{unit}`"))
}

/// Whether the host starts the container at boot, as its units say.
pub(crate) fn is_enabled(layout: &Layout, name: &ContainerName) -> bool {
    let wants = format!("lxm.target.wants/{}", unit_name(layout, name));
    [UNITS, "/run/systemd/system"].iter().any(|dir| Path::new(dir).join(&wants).symlink_metadata().is_ok())
}

/// What systemd knows of a container's starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitState {
    /// `active`, `activating`, `failed`, `inactive`, …
    pub active: String,
    /// `success`, `exit-code`, `timeout`, `start-limit-hit`, …
    pub result: String,
    /// Starts that systemd has repeated.
    pub restarts: u32,
    /// Microseconds from the begin of the last start to its end; 0 when it has not ended.
    pub took_us: u64,
    /// Microseconds from the kernel's start to the begin of the last start.
    pub began_us: u64,
}

/// Asks for the state of several units at once.
pub(crate) fn states(units: &[String]) -> Result<Vec<UnitState>> {
    bus::run(TIMEOUT, async |connection| {
        let manager = manager(connection).await?;
        let mut states = Vec::new();
        for unit in units {
            let path = manager.load_unit(unit.clone()).await.map_err(bus::error)?;
            states.push(state(connection, path).await.map_err(bus::error)?);
        }
        Ok(states)
    })
    .context(|| "ask systemd for the state of its units")
}

async fn state(connection: &Connection, path: zbus::OwnedObjectPath) -> zbus::Result<UnitState> {
    let unit = UnitProxy::builder(connection).path(path.clone()).build().await?;
    let service = zbus_systemd::systemd1::ServiceProxy::builder(connection).path(path).build().await?;
    let began_us = unit.inactive_exit_timestamp_monotonic().await?;
    let entered = unit.active_enter_timestamp_monotonic().await?;
    Ok(UnitState {
        active: unit.active_state().await?,
        result: service.result().await?,
        restarts: service.n_restarts().await?,
        took_us: entered.saturating_sub(began_us),
        began_us,
    })
}

pub(crate) async fn manager(connection: &Connection) -> Result<ManagerProxy<'_>> {
    ManagerProxy::new(connection).await.map_err(bus::error)
}

/// Whether a unit file describes it.
pub(crate) async fn is_installed(connection: &Connection, manager: &ManagerProxy<'_>, unit: &str) -> Result<bool> {
    let path = manager.load_unit(unit.to_owned()).await.map_err(bus::error)?;
    let unit = UnitProxy::builder(connection).path(path).build().await.map_err(bus::error)?;
    Ok(!unit.fragment_path().await.map_err(bus::error)?.is_empty() && !unit.transient().await.map_err(bus::error)?)
}

/// The unit's name, if a file describes it.
fn installable(layout: &Layout, name: &ContainerName) -> Result<String> {
    let unit = unit_name(layout, name);
    let template = format!("{}@.service", prefix(layout));
    let dirs = [UNITS, "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    if dirs.iter().any(|dir| Path::new(dir).join(&template).exists()) {
        return Ok(unit);
    }
    Err(Error::host_lacks(format!("no unit file `{template}` is installed, so systemd cannot start it at boot"))
        .hint("`make install` or the package installs it"))
}

/// Why the last start failed, in the supervisor's own words, if it has left some.
pub(crate) fn reason(layout: &Layout, name: &ContainerName) -> Option<String> {
    store::read_failure(layout, name).map(|error| error.to_string())
}

/// The reason of a start that failed: the supervisor's own, if it has left one.
pub(crate) fn failure_reason(layout: &Layout, name: &ContainerName, result: &str) -> Error {
    let unit = unit_name(layout, name);
    store::read_failure(layout, name).unwrap_or_else(|| {
        Error::failed(format!("systemd could not start `{unit}`: {result}"))
            .step(format!("start `{name}`"))
            .hint(format!("see `journalctl -u {unit}`"))
    })
}
