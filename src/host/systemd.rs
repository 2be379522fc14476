//! A container as a unit of the host's systemd, over D-Bus.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use zbus::{Connection, OwnedVariant, Variant, fdo};
use zbus_systemd::systemd1::{ManagerProxy, UnitProxy};

use super::{Host, Start, Stop, force, properties};
use crate::attach::control;
use crate::bus;
use crate::config::{Config, Limits};
use crate::error::{Context, Error, Result};
use crate::proto::control::{Request, Rung};
use crate::store::{self, BootRecord, Layout, replace_file};
use crate::sys::process;
use crate::types::ContainerName;

/// How long a question to systemd may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a start may take before init runs; the unit has its own limit, which comes first.
const START: Duration = Duration::from_secs(600);

/// Where systemd keeps what was set over D-Bus until the next boot.
const RUNTIME_CONTROL: &str = "/run/systemd/system.control";

/// What the administrator's units and ours beside them are in.
const UNITS: &str = "/etc/systemd/system";

/// Whether systemd is PID 1 of this host (sd_booted(3)).
pub fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The unit of a container: `lxm@web.service`, the template that the package installs.
///
/// A state directory of its own (`LXM_ROOT`) has units of its own, which no file describes: two
/// containers of one name may run.
pub fn unit_name(layout: &Layout, name: &ContainerName) -> String {
    format!("{}@{name}.service", prefix(layout))
}

/// What the units begin with that the package's file describes.
const INSTALLED: &str = "lxm";

fn prefix(layout: &Layout) -> String {
    if layout.root() == Path::new("/") && layout.is_home() {
        return INSTALLED.to_owned();
    }
    layout.cgroup_base()
}

/// How a wait for a start ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Init runs.
    Running,
    /// The job's result: `done`, `failed`, `canceled`, `timeout`, `dependency`, `skipped`.
    Job(String),
}

/// systemd, over D-Bus.
pub struct Systemd;

impl Host for Systemd {
    /// The unit has a time limit of its own, and no terminal to take the size of.
    fn start(&self, layout: &Layout, name: &ContainerName, _: Start) -> Result<()> {
        // The admin may have edited the file by hand.
        write_order(layout, name, &layout.config(name)?)?;
        start(layout, name)
    }

    fn stop(&self, layout: &Layout, name: &ContainerName, how: Stop, tell: &dyn Fn(Rung)) -> Result<Rung> {
        // The supervisor hears from us what systemd has no words for: how long it may take.
        let asked = control::ask(layout, name, &Request::Stop(how.message()));
        let follow = || {
            let ended = asked.and_then(|asked| control::follow_end(layout, name, &asked, how.patience(), tell));
            ended.or_else(|refused| force::end(layout, name, how, refused))
        };
        // Even where no guest runs: systemd may be about to start it again.
        stop(layout, name, how.limit(), follow)?
    }

    fn reboot(&self, layout: &Layout, name: &ContainerName, how: Stop, tell: &dyn Fn(Rung)) -> Result<Rung> {
        let asked = control::ask(layout, name, &Request::Stop(how.message()))?;
        restart(layout, name, how.limit(), || {
            control::follow_end(layout, name, &asked, how.patience_to_reboot(), tell)
        })?
    }
}

/// Starts the unit; returns when the guest's init runs.
///
/// Fails with what the supervisor says, or with the result of systemd's job where it says nothing.
fn start(layout: &Layout, name: &ContainerName) -> Result<()> {
    let unit = unit_name(layout, name);
    store::forget_failure(layout, name);
    let runs = new_boot(layout, name);
    let outcome = bus::run(START, async |connection| {
        let manager = manager(connection).await?;
        let mut jobs = watch_jobs(&manager).await?;
        let job = begin(connection, &manager, layout, name).await?;
        wait_started(connection, &manager, &unit, &mut jobs, &job, &runs).await
    })?;
    started(layout, name, outcome)
}

/// Stops the guest and starts it again. `meanwhile` follows its shutdown.
fn restart<T>(layout: &Layout, name: &ContainerName, limit: Duration, meanwhile: impl FnOnce() -> T) -> Result<T> {
    let unit = unit_name(layout, name);
    store::forget_failure(layout, name);
    let runs = new_boot(layout, name);
    let (mut meanwhile, mut told) = (Some(meanwhile), None);
    let outcome = bus::run(limit + START, async |connection| {
        let manager = manager(connection).await?;
        let mut jobs = watch_jobs(&manager).await?;
        let installed = is_installed(connection, &manager, &unit).await?;
        let mut job = None;
        if meanwhile.is_some() {
            let asked = if installed {
                // systemd counts restarts by hand too, and refuses the eleventh within a minute.
                let _ = manager.reset_failed_unit(unit.clone()).await;
                manager.restart_unit(unit.clone(), "replace".into()).await.map_err(bus::error)?
            } else {
                // systemd restarts no transient unit: it is gone when it has ended.
                manager.stop_unit(unit.clone(), "replace".into()).await.map_err(bus::error)?
            };
            // Nothing else runs in this runtime: what systemd says meanwhile waits in the socket.
            told = meanwhile.take().map(|meanwhile| meanwhile());
            if installed {
                job = Some(asked);
            } else {
                wait_done(&mut jobs, &asked).await?;
            }
        }
        let job = match job {
            Some(job) => job,
            // What is about to be restarted already is restarted all the same.
            None => begin(connection, &manager, layout, name).await?,
        };
        wait_started(connection, &manager, &unit, &mut jobs, &job, &runs).await
    })?;
    started(layout, name, outcome)?;
    told.ok_or_else(|| Error::failed("the guest's shutdown was not followed"))
}

/// Stops the unit and those that require it. `meanwhile` follows the guest's shutdown; returns
/// when systemd has done its part.
fn stop<T>(layout: &Layout, name: &ContainerName, limit: Duration, meanwhile: impl FnOnce() -> T) -> Result<T> {
    let unit = unit_name(layout, name);
    let (mut meanwhile, mut told) = (Some(meanwhile), None);
    let result = bus::run(limit + PATIENCE, async |connection| {
        let manager = manager(connection).await?;
        let mut jobs = watch_jobs(&manager).await?;
        let job = manager.stop_unit(unit.clone(), "replace".into()).await;
        if let Some(meanwhile) = meanwhile.take() {
            told = Some(meanwhile());
        }
        match job {
            // A transient unit is forgotten when it has ended.
            Err(e) if bus::is_missing(&e) => Ok("done".to_owned()),
            job => wait_done(&mut jobs, &job.map_err(bus::error)?).await,
        }
    })?;
    match (result.as_str(), told) {
        ("done", Some(told)) => Ok(told),
        (other, _) => Err(Error::failed(format!("systemd could not stop `{unit}`: {other}"))),
    }
}

/// Begins to start the unit; one that starts already goes on.
async fn begin(
    connection: &Connection,
    manager: &ManagerProxy<'_>,
    layout: &Layout,
    name: &ContainerName,
) -> Result<zbus::OwnedObjectPath> {
    let unit = unit_name(layout, name);
    // Whoever starts it by hand does not care how often it has failed before.
    let _ = manager.reset_failed_unit(unit.clone()).await;
    if !is_installed(connection, manager, &unit).await? {
        let properties = transient(layout, name)?;
        match manager.start_transient_unit(unit.clone(), "replace".into(), properties, Vec::new()).await {
            Err(e) if bus::has_name(&e, "org.freedesktop.systemd1.UnitExists") => {}
            job => return job.map_err(bus::error),
        }
    }
    manager.start_unit(unit, "replace".into()).await.map_err(bus::error)
}

/// Tells whether a guest runs under another supervisor than now.
fn new_boot(layout: &Layout, name: &ContainerName) -> impl Fn() -> bool {
    let supervisor = |record: BootRecord| process::is_same(&record.leader).then_some(record.supervisor);
    let now =
        move |layout: &Layout, name: &ContainerName| BootRecord::read(layout, name).ok().flatten().and_then(supervisor);
    let (layout, name) = (layout.clone(), name.clone());
    let before = now(&layout, &name);
    move || now(&layout, &name).is_some_and(|supervisor| Some(supervisor) != before)
}

/// The job's end is told to those alone who have asked before it begins.
async fn watch_jobs(manager: &ManagerProxy<'_>) -> Result<Jobs> {
    match manager.subscribe().await {
        // A client of the bus before its restart had the name that we have now.
        Err(e) if !bus::has_name(&e, "org.freedesktop.systemd1.AlreadySubscribed") => return Err(bus::error(e)),
        _ => {}
    }
    manager.receive_job_removed().await.map_err(bus::error)
}

async fn wait_done(jobs: &mut Jobs, job: &zbus::OwnedObjectPath) -> Result<String> {
    while let Some(removed) = jobs.next().await {
        let removed = removed.args().map_err(bus::error)?;
        if &removed.job == job {
            return Ok(removed.result.to_string());
        }
    }
    Err(Error::failed("the connection to systemd was closed"))
}

/// Waits until `runs` says that init runs, or for the end of the job.
async fn wait_started(
    connection: &Connection,
    manager: &ManagerProxy<'_>,
    unit: &str,
    jobs: &mut Jobs,
    job: &zbus::OwnedObjectPath,
    runs: impl Fn() -> bool,
) -> Result<Outcome> {
    let path = manager.load_unit(unit.to_owned()).await.map_err(bus::error)?;
    let builder = fdo::PropertiesProxy::builder(connection).destination("org.freedesktop.systemd1").path(path);
    let proxy: fdo::PropertiesProxy<'_> = builder.build().await.map_err(bus::error)?;
    let mut changes = proxy.receive_properties_changed().await.map_err(bus::error)?;
    // The supervisor has a status for systemd as soon as init runs. What it is does not matter: the
    // guest may have one of its own a moment later.
    while !runs() {
        tokio::select! {
            result = wait_done(jobs, job) => return result.map(Outcome::Job),
            changed = changes.next() => {
                changed.ok_or_else(|| Error::failed("the connection to systemd was closed"))?;
            }
        }
    }
    Ok(Outcome::Running)
}

type Jobs = zbus_systemd::systemd1::JobRemovedStream;

/// The end of a start that was asked for. systemd would try a failed one again, and again: the
/// person who asked knows now and decides.
fn started(layout: &Layout, name: &ContainerName, outcome: Outcome) -> Result<()> {
    match outcome {
        Outcome::Running => Ok(()),
        Outcome::Job(result) if result == "done" => Ok(()),
        Outcome::Job(result) => {
            let error = why(layout, name, &result);
            stop(layout, name, PATIENCE, || ())?;
            Err(error)
        }
    }
}

/// Sets the unit's properties from the container's configuration, until the next boot of the host.
///
/// What the configuration does not set is the administrator's, unless we had set it before.
pub fn apply_limits(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    let unit = unit_name(layout, name);
    let kept = Path::new(RUNTIME_CONTROL).join(format!("{unit}.d"));
    let ours =
        |property: &properties::Property| property.set || kept.join(format!("50-{}.conf", property.key)).exists();
    let all = properties::of(config)?.into_iter().filter(ours);
    let all: Vec<_> = all.map(|property| (property.name.to_owned(), property.value)).collect();
    if all.is_empty() {
        return Ok(());
    }
    bus::run(PATIENCE, async |connection| {
        let manager = manager(connection).await?;
        manager.set_unit_properties(unit.clone(), true, all.clone()).await.map_err(bus::error)
    })
    .context(|| format!("set the limits of `{unit}`"))
}

/// Becomes `journalctl` with the entries of a container: its console, supervisor and unit.
pub fn show_journal(layout: &Layout, name: &ContainerName, lines: Option<usize>, follow: bool) -> Result<u8> {
    layout.require(name)?;
    if !is_running() {
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
pub fn stopping_since_boot() -> Result<Option<SystemTime>> {
    bus::run(Duration::from_secs(2), async |connection| {
        let manager = manager(connection).await?;
        let state = manager.system_state().await.map_err(bus::error)?;
        let booted = Duration::from_micros(manager.userspace_timestamp().await.map_err(bus::error)?);
        Ok((state == "stopping").then_some(SystemTime::UNIX_EPOCH + booted))
    })
}

/// Writes the container's place in the order of the boot into its unit; what there is nothing to
/// say about has no file.
pub fn write_order(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    put_order(layout, name, &order_lines(layout, name, config))
}

/// Takes a container that is gone out of the order.
pub fn forget_order(layout: &Layout, name: &ContainerName) -> Result<()> {
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
    bus::run(PATIENCE, async |connection| manager(connection).await?.reload().await.map_err(bus::error))
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
        let place = layout.container(name).display().to_string();
        lines.push(format!("RequiresMountsFor=\"{}\"", place.replace('%', "%%")));
    }
    if lines.is_empty() {
        return String::new();
    }
    format!("# Made by lxm from the container's config.toml.\n[Unit]\n{}\n", lines.join("\n"))
}

/// Makes the host start the container at boot.
pub fn enable(layout: &Layout, name: &ContainerName) -> Result<()> {
    let unit = installable(layout, name)?;
    // The target is what pulls them all in; an admin may have disabled it by a preset.
    let units = vec![unit.clone(), "lxm.target".to_owned()];
    bus::run(PATIENCE, async |connection| {
        let manager = manager(connection).await?;
        manager.enable_unit_files(units.clone(), false, false).await.map_err(bus::error)?;
        manager.reload().await.map_err(bus::error)
    })
    .context(|| format!("enable `{unit}`"))
}

/// The opposite of [`enable`].
pub fn disable(layout: &Layout, name: &ContainerName) -> Result<()> {
    let unit = unit_name(layout, name);
    bus::run(PATIENCE, async |connection| {
        let manager = manager(connection).await?;
        let changes = manager.disable_unit_files(vec![unit.clone()], false).await.map_err(bus::error)?;
        if changes.is_empty() { Ok(()) } else { manager.reload().await.map_err(bus::error) }
    })
    .context(|| format!("disable `{unit}`"))
}

/// Whether the host starts the container at boot, as its units say.
pub fn is_enabled(layout: &Layout, name: &ContainerName) -> bool {
    let wants = format!("lxm.target.wants/{}", unit_name(layout, name));
    [UNITS, "/run/systemd/system"].iter().any(|dir| Path::new(dir).join(&wants).symlink_metadata().is_ok())
}

/// What systemd knows of a container's starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
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
pub fn states(units: &[String]) -> Result<Vec<UnitState>> {
    bus::run(PATIENCE, async |connection| {
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

async fn manager(connection: &Connection) -> Result<ManagerProxy<'_>> {
    ManagerProxy::new(connection).await.map_err(bus::error)
}

/// Whether a unit file describes it.
async fn is_installed(connection: &Connection, manager: &ManagerProxy<'_>, unit: &str) -> Result<bool> {
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

/// The properties of a unit that no file describes, those of `units/system/lxm@.service`.
fn transient(layout: &Layout, name: &ContainerName) -> Result<Vec<(String, OwnedVariant)>> {
    let program = std::env::current_exe().context(|| "find this program")?.to_string_lossy().into_owned();
    let mut command = vec![program.clone(), "supervise".to_owned(), name.to_string()];
    if layout.containers() != Layout::new(layout.root()).containers() {
        command.extend(["--path".to_owned(), layout.containers().to_string_lossy().into_owned()]);
    }
    let mut environment = vec![format!("LXM_ROOT={}", layout.root().display())];
    // For debug builds: where the crash tests make a supervisor die.
    environment.extend(std::env::var("LXM_DIE_AT").ok().map(|stage| format!("LXM_DIE_AT={stage}")));
    let seconds = |seconds: u64| Variant::from(seconds * 1_000_000);
    let reboot = || Variant::from((vec![133i32], Vec::<i32>::new()));
    let refused: (Vec<i32>, Vec<i32>) = (vec![2, 3, 4, 5, 6], Vec::new());
    let fields: Vec<Vec<u8>> = vec![format!("CONTAINER_NAME={}", layout.name_on_host(name)).into_bytes()];
    let properties: Vec<(&str, Variant<'_>)> = vec![
        ("Description", format!("Container {name}").into()),
        ("CollectMode", "inactive-or-failed".into()),
        ("RequiresMountsFor", vec![layout.container(name).to_string_lossy().into_owned()].into()),
        ("After", vec!["network.target", "dbus.service", "systemd-machined.service"].into()),
        ("Type", "notify".into()),
        ("NotifyAccess", "main".into()),
        ("ExecStart", vec![(program, command, false)].into()),
        ("Environment", environment.into()),
        ("Slice", "machine.slice".into()),
        ("Delegate", true.into()),
        ("KillMode", "mixed".into()),
        ("TimeoutStartUSec", seconds(180)),
        ("TimeoutStopUSec", seconds(90)),
        ("WatchdogUSec", seconds(180)),
        ("SuccessExitStatus", reboot()),
        ("RestartForceExitStatus", reboot()),
        ("RestartPreventExitStatus", refused.into()),
        ("RestartUSec", Variant::from(500_000u64)),
        ("OOMPolicy", "continue".into()),
        ("DevicePolicy", "closed".into()),
        (
            "DeviceAllow",
            Vec::from(properties::DEVICES.map(|(node, access)| (node.to_owned(), access.to_owned()))).into(),
        ),
        ("TasksMax", Limits::default().pids.into()),
        ("LogExtraFields", fields.into()),
        ("SyslogIdentifier", "lxm".into()),
    ];
    let owned = |(name, value): (&str, Variant<'_>)| Ok((name.to_owned(), value.try_into_owned()?));
    properties.into_iter().map(owned).collect::<zbus::Result<_>>().map_err(bus::error)
}

/// Why the last start failed, in the supervisor's own words, if it has left some.
pub fn reason(layout: &Layout, name: &ContainerName) -> Option<String> {
    store::read_failure(layout, name).map(|error| error.to_string())
}

/// The reason of a start that failed: the supervisor's own, if it has left one.
fn why(layout: &Layout, name: &ContainerName, result: &str) -> Error {
    let unit = unit_name(layout, name);
    store::read_failure(layout, name).unwrap_or_else(|| {
        Error::failed(format!("systemd could not start `{unit}`: {result}"))
            .step(format!("start `{name}`"))
            .hint(format!("`journalctl -u {unit}` tells more"))
    })
}
