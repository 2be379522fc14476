//! How the starts at the host's boot went, and their order.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::config::{self, Config, StartOrder};
use crate::error::{Context, Result};
use crate::store::{AliveLock, LastRun, Layout, RunEnd};
use crate::sys::fs::read_text;
use crate::systemd::{self, unit};
use crate::types::ContainerName;

/// How the start of one container went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BootEntry {
    pub name: ContainerName,
    pub state: BootState,
    /// Starts that were tried.
    pub attempts: u32,
    /// Microseconds from the begin of all starts to the begin of this one.
    pub began_us: u64,
    /// Microseconds until it was ready, or had failed.
    pub took_us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BootState {
    Started,
    /// It runs, but has not said in time that it is ready.
    Slow,
    Starting,
    Failed,
    /// What it requires did not start.
    Skipped,
    /// It has ended since, or was never asked to start.
    Stopped,
}

impl BootState {
    /// As machines and people read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            BootState::Started => "started",
            BootState::Slow => "slow",
            BootState::Starting => "starting",
            BootState::Failed => "failed",
            BootState::Skipped => "skipped",
            BootState::Stopped => "stopped",
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Report {
    pub container: Vec<BootEntry>,
}

/// How the last starts of the host went.
pub(crate) fn report(layout: &Layout) -> Result<Vec<BootEntry>> {
    if systemd::is_running() {
        return report_of_units(layout);
    }
    let file = report_file(layout);
    match read_text(&file) {
        Ok(text) => {
            let entries = config::parse::<Report>(&text, &file)?.container;
            Ok(entries.into_iter().map(|entry| as_it_is_now(layout, entry)).collect())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).context(|| format!("read `{}`", file.display())),
    }
}

/// What has started may have ended since.
fn as_it_is_now(layout: &Layout, mut entry: BootEntry) -> BootEntry {
    if entry.state == BootState::Started && !AliveLock::is_held(layout, &entry.name).unwrap_or(true) {
        entry.state = BootState::Stopped;
        entry.error = how_it_ended(layout, &entry.name);
    }
    entry
}

/// How a guest that was started at boot ended, unless that was asked for.
fn how_it_ended(layout: &Layout, name: &ContainerName) -> Option<String> {
    let run = LastRun::read(layout, name)?;
    (!matches!(run.end, RunEnd::ShutDown | RunEnd::Killed)).then(|| run.to_string())
}

pub(crate) fn report_file(layout: &Layout) -> std::path::PathBuf {
    layout.own_run().join(".autostart.toml")
}

/// From systemd's own memory: of the enabled units and those that they require.
fn report_of_units(layout: &Layout) -> Result<Vec<BootEntry>> {
    let enabled = layout.names()?.into_iter().filter(|name| unit::is_enabled(layout, name));
    let order = order(layout)?;
    let plan = order.start(enabled);
    let names: Vec<ContainerName> = plan.waiting().cloned().collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let units: Vec<String> = names.iter().map(|name| unit::unit_name(layout, name)).collect();
    let states = unit::states(&units)?;
    let by_name: BTreeMap<_, _> = names.iter().zip(&states).collect();
    let skipped: Vec<bool> = names.iter().map(|name| is_skipped(&order, &by_name, name)).collect();
    let first = states.iter().filter(|state| state.began_us > 0).map(|state| state.began_us).min().unwrap_or(0);
    let entry = |((name, unit), skipped): ((ContainerName, unit::UnitState), bool)| {
        let state = match (unit.active.as_str(), unit.began_us) {
            ("active" | "deactivating" | "reloading", _) => BootState::Started,
            ("activating", _) => BootState::Starting,
            ("failed", _) => BootState::Failed,
            (_, 0) if skipped => BootState::Skipped,
            _ => BootState::Stopped,
        };
        let failed = [BootState::Failed, BootState::Starting].contains(&state) && unit.result != "success";
        BootEntry {
            attempts: if unit.began_us == 0 { 0 } else { unit.restarts + 1 },
            began_us: unit.began_us.saturating_sub(first),
            took_us: unit.took_us,
            error: match state {
                BootState::Stopped => how_it_ended(layout, &name),
                _ => failed.then(|| unit::reason(layout, &name).unwrap_or(unit.result)),
            },
            name,
            state,
        }
    };
    let mut entries: Vec<BootEntry> = names.into_iter().zip(states).zip(skipped).map(entry).collect();
    entries.sort_by_key(|entry| entry.began_us);
    Ok(entries)
}

/// Whether a container was not started because one that it requires has failed, or is not there. One that was
/// enabled after the boot of the host is not.
fn is_skipped(order: &StartOrder, states: &BTreeMap<&ContainerName, &unit::UnitState>, name: &ContainerName) -> bool {
    order.required_by(name).iter().any(|required| states.get(required).is_none_or(|state| state.active == "failed"))
}

/// Whether the host starts the container when it boots.
pub(crate) fn is_enabled(layout: &Layout, name: &ContainerName, config: &Config) -> bool {
    if systemd::is_running() { unit::is_enabled(layout, name) } else { config.boot.autostart }
}

/// The order of all containers; what has an unreadable configuration, or names what is no container's
/// name, is not in it: no container keeps others from starting.
pub(crate) fn order(layout: &Layout) -> Result<StartOrder> {
    let mut order = StartOrder::default();
    for name in layout.names()? {
        if let Ok(config) = layout.config(&name) {
            let _ = order.insert(&name, &config);
        }
    }
    Ok(order)
}

/// The order of `names` and what they require; no other container is looked at.
pub(crate) fn order_of(layout: &Layout, names: &[ContainerName]) -> StartOrder {
    let mut order = StartOrder::default();
    let mut seen = BTreeSet::new();
    let mut queue = names.to_vec();
    while let Some(name) = queue.pop() {
        if let Some(config) = seen.insert(name.clone()).then(|| layout.config(&name).ok()).flatten() {
            let _ = order.insert(&name, &config);
            queue.extend(order.of(&name).1);
        }
    }
    order
}
