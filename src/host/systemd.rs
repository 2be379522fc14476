//! A container as a unit of the host's systemd, over D-Bus.

use std::time::Duration;

use futures_util::StreamExt;
use zbus::{Connection, OwnedVariant, Variant, fdo};
use zbus_systemd::systemd1::ManagerProxy;

use super::{ServiceManager, StartMode, StopMode, force};
use crate::client;
use crate::config::Limits;
use crate::error::{Context, Error, Result};
use crate::proto::control::{Request, StopStage};
use crate::store::{self, BootRecord, Layout};
use crate::supervisor;
use crate::sys::process;
use crate::systemd::bus;
use crate::systemd::dropin;
use crate::systemd::properties;
use crate::systemd::unit::{TIMEOUT, failure_reason, is_installed, manager, unit_name};
use crate::types::ContainerName;

/// What a start may take before init runs; the unit has its own limit, which comes first.
const START: Duration = Duration::from_secs(600);

/// How long systemd waits for a supervisor to stop that has not asked for more time.
const STOP_SECONDS: u64 = 90;

/// How a wait for a start ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Init runs.
    Running,
    /// The job's result: `done`, `failed`, `canceled`, `timeout`, `dependency`, `skipped`.
    Job(String),
}

/// systemd, over D-Bus.
pub(crate) struct Systemd;

impl ServiceManager for Systemd {
    /// The unit has a time limit of its own, and no terminal to take the size of.
    fn start(&self, layout: &Layout, name: &ContainerName, _: StartMode) -> Result<()> {
        // The admin may have edited the file by hand.
        let config = layout.config(name)?;
        dropin::write(layout, name, &config)?;
        // The unit would wait for it, as at boot.
        if let Some(missing) = supervisor::absent(layout, name, &config) {
            return Err(missing.step(format!("start `{name}`")));
        }
        start(layout, name)
    }

    fn stop(
        &self,
        layout: &Layout,
        name: &ContainerName,
        how: StopMode,
        tell: &dyn Fn(StopStage),
    ) -> Result<StopStage> {
        // The supervisor hears from us what systemd has no words for: how long it may take.
        let asked = client::ask(layout, name, &Request::Stop(how.message()));
        let follow = || {
            let ended = asked.and_then(|asked| client::follow_end(layout, name, &asked, how.reply_timeout(), tell));
            ended.or_else(|refused| force::end(layout, name, how, refused))
        };
        // Even where no guest runs: systemd may be about to start it again.
        stop(layout, name, how.limit(), follow)?
    }

    fn reboot(
        &self,
        layout: &Layout,
        name: &ContainerName,
        how: StopMode,
        tell: &dyn Fn(StopStage),
    ) -> Result<StopStage> {
        let asked = client::ask(layout, name, &Request::Stop(how.message()))?;
        restart(layout, name, how.limit(), || {
            client::follow_end(layout, name, &asked, how.reboot_reply_timeout(), tell)
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
    let result = bus::run(limit + TIMEOUT, async |connection| {
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
            let error = failure_reason(layout, name, &result);
            stop(layout, name, TIMEOUT, || ())?;
            Err(error)
        }
    }
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
    // It writes them down without quotes: one with a space would be two after a `daemon-reload`.
    let is_plain = |path: &String| !path.contains([' ', '%', '"', '\\']);
    let sources = layout.config(name).map(|config| dropin::required_sources(&config)).unwrap_or_default();
    let place = layout.container(name).to_string_lossy().into_owned();
    let mounts_for: Vec<String> = [place].into_iter().chain(sources.into_iter().filter(is_plain)).collect();
    let fields: Vec<Vec<u8>> = vec![format!("CONTAINER_NAME={}", layout.name_on_host(name)).into_bytes()];
    let properties: Vec<(&str, Variant<'_>)> = vec![
        ("Description", format!("Container {name}").into()),
        ("CollectMode", "inactive-or-failed".into()),
        ("RequiresMountsFor", mounts_for.into()),
        ("After", vec!["network.target", "dbus.service", "systemd-machined.service"].into()),
        ("Type", "notify".into()),
        ("NotifyAccess", "main".into()),
        ("ExecStart", vec![(program, command, false)].into()),
        ("Environment", environment.into()),
        ("Slice", "machine.slice".into()),
        ("Delegate", true.into()),
        ("KillMode", "mixed".into()),
        ("TimeoutStartUSec", seconds(180)),
        ("TimeoutStopUSec", seconds(STOP_SECONDS)),
        ("WatchdogUSec", seconds(180)),
        ("SuccessExitStatus", reboot()),
        ("RestartForceExitStatus", reboot()),
        ("RestartPreventExitStatus", refused.into()),
        ("RestartUSec", Variant::from(500_000u64)),
        ("OOMPolicy", "continue".into()),
        ("DevicePolicy", "closed".into()),
        ("DeviceAllow", properties::devices().into()),
        ("TasksMax", Limits::default().pids.into()),
        ("LogExtraFields", fields.into()),
        ("SyslogIdentifier", "lxm".into()),
    ];
    let owned = |(name, value): (&str, Variant<'_>)| Ok((name.to_owned(), value.try_into_owned()?));
    properties.into_iter().map(owned).collect::<zbus::Result<_>>().map_err(bus::error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("../../units/system/lxm@.service");
    const STOP: &str = include_str!("../../units/system/lxm@.service.d/10-stop.conf");

    /// Values of a key of the unit file.
    fn in_file(key: &str) -> Vec<&'static str> {
        FILE.lines().chain(STOP.lines()).filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
    }

    fn microseconds(time: &str) -> u64 {
        let units = [("min", 60_000_000), ("ms", 1000), ("s", 1_000_000)];
        let (count, unit) = units.iter().find_map(|(name, unit)| Some((time.strip_suffix(name)?, unit))).unwrap();
        count.parse::<u64>().unwrap() * unit
    }

    fn numbers(text: &str) -> Vec<i32> {
        text.split(' ').map(|number| number.parse().unwrap()).collect()
    }

    #[test]
    fn a_unit_without_a_file_is_as_the_file_describes_it() {
        let (layout, name) = (Layout::new("/srv/lxm"), "web".parse().unwrap());
        let properties = transient(&layout, &name).unwrap();
        for (property, value) in &properties {
            // D-Bus has times in microseconds.
            let key = property.strip_suffix("USec").map_or(property.clone(), |time| format!("{time}Sec"));
            let lines = in_file(&key);
            let filled =
                |name: &ContainerName| lines.iter().map(|line| line.replace("%i", name.as_str())).collect::<Vec<_>>();
            let expected: Variant<'_> = match property.as_str() {
                // Those of a state directory of its own, which is gone when its container has ended.
                "CollectMode" | "Environment" | "ExecStart" | "RequiresMountsFor" => continue,
                // lxm itself brings up the network there.
                "After" => {
                    let all = lines[0].split(' ');
                    all.filter(|unit| !["nss-lookup.target", "lxm-net.service"].contains(unit))
                        .collect::<Vec<_>>()
                        .into()
                }
                "Description" => filled(&name).remove(0).into(),
                "LogExtraFields" => {
                    let fields = filled(&layout.name_on_host(&name)).into_iter().map(String::into_bytes);
                    fields.collect::<Vec<_>>().into()
                }
                "Delegate" => (lines == ["yes"]).into(),
                "TasksMax" => lines[0].parse::<u64>().unwrap().into(),
                "SuccessExitStatus" | "RestartForceExitStatus" | "RestartPreventExitStatus" => {
                    (numbers(lines[0]), Vec::<i32>::new()).into()
                }
                "DeviceAllow" => {
                    let device =
                        |line: &&str| line.split_once(' ').map(|(node, access)| (node.to_owned(), access.to_owned()));
                    lines.iter().filter_map(device).collect::<Vec<_>>().into()
                }
                time if time.ends_with("USec") => microseconds(lines[0]).into(),
                _ => (*lines.first().unwrap_or_else(|| panic!("the file has no `{key}`"))).into(),
            };
            assert_eq!(*value, expected.try_into_owned().unwrap(), "{property}");
        }
        let (_, service) = FILE.split_once("[Service]").unwrap();
        let (service, _) = service.split_once("[Install]").unwrap();
        let keys = service.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        let is_set = |key: &str| properties.iter().any(|(property, _)| property.replace("USec", "Sec") == key);
        let more: Vec<_> = keys.map(|(key, _)| key).filter(|key| !is_set(key)).collect();
        // It is no use to a unit that is forgotten when it has ended.
        assert_eq!(more, ["Restart"]);
    }
}
