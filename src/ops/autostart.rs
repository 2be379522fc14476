//! Starting containers with the host, and stopping them with it.
//!
//! Where systemd is PID 1 it does both itself: an enabled container is an enabled unit, and the
//! order is written into the units. On a bare host [`start_all`] and [`stop_all`] do the same from
//! the same configuration; an init script runs them (`lxm autostart`).

use std::time::{Duration, Instant};

use super::start::{GuestChanges, StartRequest, WaitFor, start_and_wait};
use super::stop::stop;
use crate::cgroup::{ContainerCgroup, Hierarchies};
use crate::config::{self, Config, NextStep, ReadyCondition};
use crate::container::boot_report::{BootEntry, BootState, Report, order, report_file};
use crate::error::{Context, Error, Kind, Result};
use crate::host::StopMode;
use crate::store::{AliveLock, Layout, OperationLock, replace_file, write_volatile};
use crate::supervisor;
use crate::sys::fork;
use crate::sys::fs::read_text;
use crate::systemd::{self, dropin, journal_link, unit};
use crate::types::ContainerName;

/// How often a start is tried, with a pause between that doubles from a second.
const ATTEMPTS: u32 = 4;

/// How long what waits for a container waits for it to be ready.
const READY: Duration = Duration::from_secs(120);

/// Refuses a configuration with which containers would wait for each other in a circle.
pub(crate) fn check(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    let mut order = order(layout)?;
    order.insert(name, config)?;
    order.check()
}

/// Carries a changed configuration to where it is in force beyond the file: the unit's order, and
/// the limits of a running guest.
pub(crate) fn changed(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    let running = AliveLock::is_held(layout, name)?;
    if systemd::is_running() {
        return if running { dropin::change(layout, name, config) } else { dropin::write(layout, name, config) };
    }
    if !running {
        return Ok(());
    }
    let cgroup = ContainerCgroup::new(Hierarchies::detect()?, layout.cgroup(name));
    cgroup.change_limits(&config.limits).context(|| format!("change the limits of `{name}`"))
}

/// Has a systemd host do as `boot.autostart` was set, whose truth is the unit.
pub(crate) fn follow(layout: &Layout, name: &ContainerName, autostart: bool) -> Result<()> {
    match (systemd::is_running(), autostart) {
        (false, _) => Ok(()),
        (true, is) if unit::is_enabled(layout, name) == is => Ok(()),
        (true, true) => unit::enable(layout, name),
        (true, false) => unit::disable(layout, name),
    }
}

/// Makes the host start the container when it boots.
pub(crate) fn enable(layout: &Layout, name: &ContainerName) -> Result<()> {
    let config = layout.config(name)?;
    check(layout, name, &config)?;
    let _lock = OperationLock::acquire(layout, name)?;
    if systemd::is_running() {
        dropin::write(layout, name, &config)?;
        unit::enable(layout, name)?;
        // A file that says otherwise would be shown.
        return if config.boot.autostart { Ok(()) } else { set_if_written(layout, name, true) };
    }
    set(layout, name, true)
}

/// The opposite of [`enable`].
pub(crate) fn disable(layout: &Layout, name: &ContainerName) -> Result<()> {
    layout.require(name)?;
    let _lock = OperationLock::acquire(layout, name)?;
    if !systemd::is_running() {
        return set(layout, name, false);
    }
    unit::disable(layout, name)?;
    set_if_written(layout, name, false)
}

/// Takes a container that is being destroyed out of the host's boot.
pub(crate) fn forget(layout: &Layout, name: &ContainerName) -> Result<()> {
    if !systemd::is_running() {
        return Ok(());
    }
    journal_link::forget(&layout.container(name));
    unit::disable(layout, name)?;
    dropin::forget(layout, name)
}

/// Where `boot.autostart` is in the file, has it say what the unit does.
fn set_if_written(layout: &Layout, name: &ContainerName, autostart: bool) -> Result<()> {
    let text = std::fs::read_to_string(layout.config_file(name)).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    let is_written = table.get("boot").is_some_and(|boot| boot.get("autostart").is_some());
    if is_written { set(layout, name, autostart) } else { Ok(()) }
}

fn set(layout: &Layout, name: &ContainerName, autostart: bool) -> Result<()> {
    let file = layout.config_file(name);
    let text = read_text(&file).context(|| format!("read `{}`", file.display()))?;
    // Its error names the line.
    config::parse::<Config>(&text, &file)?;
    let mut document: toml_edit::DocumentMut =
        text.parse().map_err(|e| Error::config(format!("{}: {e}", file.display())))?;
    let boot = document.entry("boot").or_insert(toml_edit::table());
    boot["autostart"] = toml_edit::value(autostart);
    let text = document.to_string();
    config::parse::<Config>(&text, &file)?;
    replace_file(&file, text.as_bytes(), 0o644)
}

/// Starts what a bare host shall start at boot, in its order: independent containers at once, each when those
/// before it are ready. Returns how it went; `tell` is called at each end.
///
/// Fails with `Kind::Conflict` where systemd does it.
pub(crate) fn start_all(layout: &Layout, tell: &dyn Fn(&BootEntry)) -> Result<Vec<BootEntry>> {
    if systemd::is_running() {
        return Err(Error::conflict("systemd starts the enabled containers on this host")
            .hint("`lxm enable NAME` enables one, `systemctl start lxm.target` starts them all"));
    }
    let order = order(layout)?;
    let names = layout.names()?;
    let is_wanted = |name: &&ContainerName| layout.config(name).is_ok_and(|config| config.boot.autostart);
    let mut plan = order.start(names.iter().filter(is_wanted).cloned());
    let begun = Instant::now();
    let since = |at: Instant| at.saturating_duration_since(begun).as_micros() as u64;
    let mut report = Report::default();
    let done = |report: &mut Report, entry: BootEntry| -> Result<()> {
        tell(&entry);
        report.container.push(entry);
        write_volatile(&report_file(layout), report)
    };
    unreadable(layout, &names).into_iter().try_for_each(|entry| done(&mut report, entry))?;
    let mut running: Vec<PendingJob> = Vec::new();
    loop {
        match plan.take_next() {
            NextStep::Begin(name) if AliveLock::is_held(layout, &name).unwrap_or(false) => plan.ended(&name, true),
            NextStep::Begin(name) => running.push(PendingJob::start(layout, name)?),
            NextStep::Skip(name, because) => {
                let error = Some(format!("it requires `{because}`, which did not start"));
                let began_us = since(Instant::now());
                done(&mut report, skipped(name, error, began_us))?;
            }
            NextStep::Wait if running.is_empty() => {
                // They wait for each other.
                let error = order.check().err().map(|e| e.to_string());
                for name in plan.waiting() {
                    let (name, error, began_us) = (name.clone(), error.clone(), since(Instant::now()));
                    done(&mut report, skipped(name, error, began_us))?;
                }
                return Ok(report.container);
            }
            NextStep::Wait => {
                for job in wait_any(&mut running)? {
                    let (name, began, attempt) = (job.name.clone(), job.began, job.attempt);
                    let Some((state, error)) = outcome(job.result(), attempt) else {
                        let until = Instant::now() + Duration::from_secs(1 << (attempt - 1));
                        running.push(PendingJob { name, began, attempt, task: Task::Pause(until) });
                        continue;
                    };
                    plan.ended(&name, state != BootState::Failed);
                    let took_us = began.elapsed().as_micros() as u64;
                    let (began_us, attempts) = (since(began), attempt);
                    done(&mut report, BootEntry { name, state, attempts, began_us, took_us, error })?;
                }
            }
        }
        for job in &mut running {
            if matches!(job.task, Task::Pause(until) if until <= Instant::now()) {
                (job.task, job.attempt) = (Task::start(layout, &job.name)?, job.attempt + 1);
            }
        }
    }
}

/// Stops all running containers, each before those it was started after, and kills what has not stopped when
/// the host's time for it is over. Returns what came of each.
pub(crate) fn stop_all(layout: &Layout) -> Result<Vec<(ContainerName, Result<()>)>> {
    let budget = layout.host_settings().shutdown_budget();
    let deadline = Instant::now() + budget;
    let names = layout.names()?.into_iter();
    let mut plan = order(layout)?.stop(names.filter(|name| AliveLock::is_held(layout, name).unwrap_or(false)));
    let mut running: Vec<PendingJob> = Vec::new();
    let mut ended = Vec::new();
    loop {
        match plan.take_next() {
            NextStep::Begin(name) | NextStep::Skip(name, _) => {
                let own = layout.config(&name).map_or(budget, |config| config.boot.stop_timeout.get());
                let limit = own.min(deadline.saturating_duration_since(Instant::now()));
                running.push(PendingJob::stop(layout, name, limit)?);
            }
            NextStep::Wait if running.is_empty() => return Ok(ended),
            NextStep::Wait => {
                for job in wait_any(&mut running)? {
                    plan.ended(&job.name, true);
                    let name = job.name.clone();
                    let outcome = match job.result() {
                        // Killed in the end, which is what was wanted of it.
                        Err(e) if [Kind::TimedOut, Kind::Conflict].contains(&e.kind()) => Ok(()),
                        outcome => outcome,
                    };
                    ended.push((name, outcome));
                }
            }
        }
    }
}

/// What the end of a start means for the report; `None` where it is tried again.
fn outcome(result: Result<()>, attempt: u32) -> Option<(BootState, Option<String>)> {
    match result {
        Ok(()) => Some((BootState::Started, None)),
        Err(e) if e.kind() == Kind::TimedOut => Some((BootState::Slow, Some(e.to_string()))),
        Err(e) if e.kind() == Kind::Failed && attempt < ATTEMPTS => None,
        Err(e) => Some((BootState::Failed, Some(e.to_string()))),
    }
}

/// Those of which cannot be told whether they are to be started: the admin has to know.
fn unreadable(layout: &Layout, names: &[ContainerName]) -> Vec<BootEntry> {
    let failed = |name: &ContainerName| {
        let error = layout.config(name).err()?.to_string();
        Some(BootEntry { state: BootState::Failed, ..skipped(name.clone(), Some(error), 0) })
    };
    names.iter().filter_map(failed).collect()
}

fn skipped(name: ContainerName, error: Option<String>, began_us: u64) -> BootEntry {
    BootEntry { name, state: BootState::Skipped, attempts: 0, began_us, took_us: 0, error }
}

/// A start or a stop of one container.
struct PendingJob {
    name: ContainerName,
    began: Instant,
    attempt: u32,
    task: Task,
}

enum Task {
    /// In a child, because several are under way and a start clones.
    Work(fork::ChildWork<()>),
    /// Until it is tried again.
    Pause(Instant),
}

impl PendingJob {
    fn new(name: ContainerName, task: Task) -> Self {
        PendingJob { name, began: Instant::now(), attempt: 1, task }
    }

    fn start(layout: &Layout, name: ContainerName) -> Result<Self> {
        Task::start(layout, &name).map(|task| PendingJob::new(name, task))
    }

    fn stop(layout: &Layout, name: ContainerName, limit: Duration) -> Result<Self> {
        let how = if limit.is_zero() { StopMode::Kill } else { StopMode::Graceful { limit } };
        let work = fork::ChildWork::begin(|| stop(layout, &name, how, |_| ()).map(drop))?;
        Ok(PendingJob::new(name, Task::Work(work)))
    }

    /// What came of it, once it is done.
    fn result(self) -> Result<()> {
        match self.task {
            Task::Work(work) => work.finish(),
            Task::Pause(_) => Ok(()),
        }
    }
}

impl Task {
    fn start(layout: &Layout, name: &ContainerName) -> Result<Self> {
        let start = || {
            let config = layout.config(name)?;
            let booted = config.boot.ready == ReadyCondition::Booted;
            let pause = |_: &Error, left: Duration| {
                std::thread::sleep(supervisor::PAUSE.min(left));
                Ok(true)
            };
            // Nobody tries again what did not come in that time.
            supervisor::await_host(layout, name, &config, pause)
                .map_err(|e| e.step(format!("start `{name}`")).with_kind(Kind::NotFound))?;
            let wait = booted.then_some(WaitFor::Ready);
            let request = StartRequest { window: (24, 80), limit: READY, changes: GuestChanges::Stay, wait };
            start_and_wait(layout, name, request)
        };
        fork::ChildWork::begin(start).map(Task::Work)
    }
}

/// Waits until a job is done or a pause is over; takes the jobs that are done.
fn wait_any(running: &mut Vec<PendingJob>) -> Result<Vec<PendingJob>> {
    let pauses = running.iter().filter_map(|job| match job.task {
        Task::Pause(until) => Some(until.saturating_duration_since(Instant::now())),
        Task::Work(_) => None,
    });
    let timeout = pauses.min().unwrap_or(Duration::MAX);
    let works = running.iter().filter_map(|job| match &job.task {
        Task::Work(work) => Some(work),
        Task::Pause(_) => None,
    });
    let mut is_done = fork::wait_any(works, timeout)?.into_iter();
    let done = |job: &mut PendingJob| matches!(job.task, Task::Work(_)) && is_done.next() == Some(true);
    Ok(running.extract_if(.., done).collect())
}
