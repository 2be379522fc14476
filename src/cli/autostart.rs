//! `lxm enable`, `disable`, `autostart` and `boot-report`: containers and the host's boot.

use super::done::Done;
use super::{Context, Format, NamesOrAllArg, for_each, render, require_root};
use crate::container::boot_report::{self, BootEntry, BootState};
use crate::error::{Error, Result};
use crate::ops::autostart;
use serde::Serialize;

/// Start containers at boot
#[derive(Debug, clap::Args)]
pub(super) struct Enable {
    #[command(flatten)]
    names: NamesOrAllArg,
}

impl Enable {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("change what starts at boot")?;
        let names = self.names.get(context, |_| true)?;
        for_each::for_each(context, &names, |name| autostart::enable(&context.layout, name))
    }
}

/// Do not start containers at boot
#[derive(Debug, clap::Args)]
pub(super) struct Disable {
    #[command(flatten)]
    names: NamesOrAllArg,
}

impl Disable {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("change what starts at boot")?;
        let names = self.names.get(context, |_| true)?;
        for_each::for_each(context, &names, |name| autostart::disable(&context.layout, name))
    }
}

/// Start all enabled containers, as boot scripts do without systemd
///
/// In the order that `boot.autostart-after` and `boot.requires` give. With systemd, lxm.target does it.
#[derive(Debug, clap::Args)]
pub(super) struct Autostart {
    /// Stop all running containers instead, in reverse order
    #[arg(long)]
    stop: bool,
}

impl Autostart {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("start containers")?;
        if self.stop {
            return self::stop(context);
        }
        // A list in JSON has all that is said of each.
        let tell = |entry: &BootEntry| match context.format {
            Format::Text => context.say(&sentence(entry)),
            Format::Json => {}
        };
        let entries = autostart::start_all(&context.layout, &tell)?;
        if context.format == Format::Json {
            render::json(&entries.iter().cloned().map(row).collect::<Vec<_>>())?;
        }
        let failed = entries.iter().filter(|entry| [BootState::Failed, BootState::Skipped].contains(&entry.state));
        outcome(failed.count(), "start")
    }
}

fn stop(context: &Context) -> Result<u8> {
    let ended = autostart::stop_all(&context.layout)?;
    if context.format == Format::Json {
        let done = ended.into_iter().map(|(name, outcome)| Done::of(name, outcome)).collect::<Result<_>>()?;
        return for_each::list(context, done);
    }
    let failed: Vec<_> = ended.into_iter().filter_map(|(name, outcome)| Some((name, outcome.err()?))).collect();
    for (name, error) in &failed {
        context.say(&format!("{name}: {error}"));
    }
    outcome(failed.len(), "stop")
}

fn outcome(failed: usize, what: &str) -> Result<u8> {
    match failed {
        0 => Ok(0),
        1 => Err(Error::failed(format!("one container did not {what}"))),
        more => Err(Error::failed(format!("{more} containers did not {what}"))),
    }
}

fn sentence(entry: &BootEntry) -> String {
    let (name, seconds) = (&entry.name, entry.took_us as f64 / 1e6);
    match (&entry.error, entry.state) {
        (Some(error), BootState::Skipped) => format!("{name}: not started: {error}"),
        (Some(error), _) => error.clone(),
        (None, _) => format!("{name}: ready after {seconds:.1}s"),
    }
}

/// Show which containers started at boot, and which failed and why
#[derive(Debug, clap::Args)]
pub(super) struct BootReport {}

#[derive(Serialize)]
struct Row {
    name: String,
    state: BootState,
    attempts: u32,
    began_s: f64,
    took_s: f64,
    error: Option<String>,
}

impl BootReport {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let rows: Vec<Row> = boot_report::report(&context.layout)?.into_iter().map(row).collect();
        if context.format == Format::Json {
            return render::json(&rows).map(|()| 0);
        }
        let cells = |row: &Row| {
            let seconds = |s: f64| format!("{s:.1}s");
            let error = row.error.clone().unwrap_or_default();
            [
                row.name.clone(),
                row.state.name().to_owned(),
                row.attempts.to_string(),
                seconds(row.began_s),
                seconds(row.took_s),
                error,
            ]
        };
        let rows: Vec<_> = rows.iter().map(cells).collect();
        render::table(&["NAME", "STATE", "STARTS", "BEGAN", "TOOK", "REASON"], rows).map(|()| 0)
    }
}

fn row(entry: BootEntry) -> Row {
    let seconds = |us: u64| us as f64 / 1e6;
    Row {
        name: entry.name.to_string(),
        state: entry.state,
        attempts: entry.attempts,
        began_s: seconds(entry.began_us),
        took_s: seconds(entry.took_us),
        error: entry.error,
    }
}
