//! A container's unit: its name, its place in the boot, its limits, its state.

use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use zbus::Connection;
use zbus_systemd::systemd1::{ManagerProxy, UnitProxy};

use super::{bus, properties};
use crate::config::Config;
use crate::error::{Context, Error, Result};
use crate::store::{self, Layout, replace_file};
use crate::types::ContainerName;

/// How long a question to systemd may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// Where systemd keeps what was set over D-Bus until the next boot.
const RUNTIME_CONTROL: &str = "/run/systemd/system.control";

/// What the administrator's units and ours beside them are in.
const UNITS: &str = "/etc/systemd/system";

/// The unit of a container: `lxm@web.service`, the template that the package installs.
///
/// A state directory of its own (`LXM_ROOT`) has units of its own, which no file describes: two
/// containers of one name may run.
pub(crate) fn unit_name(layout: &Layout, name: &ContainerName) -> String {
    format!("{}@{name}.service", prefix(layout))
}

/// What the units begin with that the package's file describes.
const INSTALLED: &str = "lxm";

pub(crate) fn prefix(layout: &Layout) -> String {
    if layout.root() == Path::new("/") && layout.is_home() {
        return INSTALLED.to_owned();
    }
    layout.cgroup_base()
}

/// Sets the unit's properties from the container's configuration, until the next boot of the host.
///
/// What the configuration does not set is the administrator's, unless we had set it before.
pub(crate) fn apply_limits(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    let unit = unit_name(layout, name);
    let kept = Path::new(RUNTIME_CONTROL).join(format!("{unit}.d"));
    let ours =
        |property: &properties::Property| property.set || kept.join(format!("50-{}.conf", property.key)).exists();
    let all = properties::of(config)?.into_iter().filter(ours);
    let all: Vec<_> = all.map(|property| (property.name.to_owned(), property.value)).collect();
    if all.is_empty() {
        return Ok(());
    }
    bus::run(TIMEOUT, async |connection| {
        let manager = manager(connection).await?;
        manager.set_unit_properties(unit.clone(), true, all.clone()).await.map_err(bus::error)
    })
    .context(|| format!("set the limits of `{unit}`"))
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

/// Writes the container's place in the order of the boot into its unit; what there is nothing to
/// say about has no file.
pub(crate) fn write_order(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    put_order(layout, name, &order_lines(layout, name, config))
}

/// Takes a container that is gone out of the order.
pub(crate) fn forget_order(layout: &Layout, name: &ContainerName) -> Result<()> {
    put_order(layout, name, "")
}

fn put_order(layout: &Layout, name: &ContainerName, text: &str) -> Result<()> {
    let dir = Path::new(UNITS).join(format!("{}.d", unit_name(layout, name)));
    let file = dir.join("50-lxm-order.conf");
    let written = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e).context(|| format!("read `{}`", file.display())),
    };
    if text == written {
        return Ok(());
    }
    if text.is_empty() {
        std::fs::remove_file(&file).context(|| format!("remove `{}`", file.display()))?;
        // It stays where the admin has files of their own in it.
        let _ = std::fs::remove_dir(&dir);
    } else {
        replace_file(&file, text.as_bytes(), 0o644)?;
    }
    bus::run(TIMEOUT, async |connection| manager(connection).await?.reload().await.map_err(bus::error))
        .context(|| "make systemd read its units again")
}

fn order_lines(layout: &Layout, name: &ContainerName, config: &Config) -> String {
    let units = |names: &[String]| -> Vec<String> {
        let unit = |name: &String| Some(unit_name(layout, &name.parse().ok()?));
        names.iter().filter_map(unit).collect()
    };
    let (after, requires) = (units(&config.boot.autostart_after), units(&config.boot.requires));
    let mut lines = Vec::new();
    lines.extend(after.iter().chain(&requires).map(|unit| format!("After={unit}")));
    lines.extend(requires.iter().map(|unit| format!("Requires={unit}")));
    // The unit file itself names the default place.
    if prefix(layout) == INSTALLED && layout.containers() != Layout::new(layout.root()).containers() {
        lines.push(requires_mounts_for(&layout.container(name).to_string_lossy()));
    }
    // A disk or share that comes late would be mounted over what the guest has got instead of it, the
    // empty directory below.
    lines.extend(required_sources(config).iter().map(|source| requires_mounts_for(source)));
    if lines.is_empty() {
        return String::new();
    }
    format!("# Made by lxm from the container's config.toml.\n[Unit]\n{}\n", lines.join("\n"))
}

/// The sources of mounts that must be mounted first. An optional one is started without.
///
/// systemd refuses what has `..` in it, and no quoting is read the same by all its releases: a source with
/// that, or with a control character, is not waited for.
pub(crate) fn required_sources(config: &Config) -> Vec<String> {
    let sources = config.mount.iter().filter(|mount| !mount.optional).map(|mount| &mount.source);
    let plain = sources.filter(|source| !source.components().any(|part| part == Component::ParentDir));
    // `/srv//www/./` is `/srv/www`.
    let texts = plain.filter_map(|source| source.components().collect::<PathBuf>().to_str().map(str::to_owned));
    texts.filter(|source| !source.chars().any(|c| c.is_control())).collect()
}

/// In the words of a unit file (systemd.syntax(7), "Quoting"; systemd.unit(5), "Specifiers").
fn requires_mounts_for(path: &str) -> String {
    let path = path.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%");
    format!("RequiresMountsFor=\"{path}\"")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_mounts_are_named_as_every_systemd_reads_them() {
        let text = "[[mount]]\nsource = '/srv//a b/./'\ntarget = '/a'\n[[mount]]\nsource = '/srv/../x'\ntarget = '/b'\n\
                    [[mount]]\nsource = '/opt'\ntarget = '/c'\noptional = true\n[[mount]]\nsource = \"/x\\ny\"\ntarget = '/d'\n";
        let config: Config = toml::from_str(&format!("version = 1\nuuid = ''\n{text}")).unwrap();
        assert_eq!(required_sources(&config), ["/srv/a b"]);
        assert_eq!(requires_mounts_for("/100%\"b\\c"), r#"RequiresMountsFor="/100%%\"b\\c""#);
    }
}
