//! `lxm snapshot`: make, list, restore and remove snapshots.

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use super::{Context, Format, NameArg, render, require_root};
use crate::error::{Error, Result};
use crate::ops::snapshot::{self, SnapshotOptions};
use crate::store::Snapshot as Record;
use crate::terminal;
use crate::types::SnapshotName;

/// Create, list, restore and delete snapshots of a container
#[derive(Debug, clap::Args)]
pub(super) struct Snapshot {
    #[command(subcommand)]
    what: SnapshotVerb,
}

#[derive(Debug, Subcommand)]
enum SnapshotVerb {
    /// Create a snapshot; a running container is frozen meanwhile
    Create(CreateSnapshot),
    /// List the snapshots of a container, oldest first
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        name: NameArg,
    },
    /// Show one snapshot
    Show {
        #[command(flatten)]
        name: NameArg,

        /// Snapshot
        snapshot: SnapshotName,
    },
    /// Restore a stopped container to a snapshot
    ///
    /// Later snapshots are kept. Settings of the snapshot that grant more rights than the container has
    /// now are listed and not restored.
    Restore {
        #[command(flatten)]
        name: NameArg,

        /// Snapshot
        snapshot: SnapshotName,

        /// Restore these settings too
        #[arg(long)]
        trust: bool,
    },
    /// Rename a snapshot
    Rename {
        #[command(flatten)]
        name: NameArg,

        /// Snapshot
        snapshot: SnapshotName,

        /// New name of the snapshot
        new: SnapshotName,
    },
    /// Delete a snapshot
    #[command(visible_alias = "rm")]
    Delete {
        #[command(flatten)]
        name: NameArg,

        /// Snapshot
        snapshot: SnapshotName,
    },
    /// Create scheduled snapshots that are due, delete expired ones
    ///
    /// `lxm-snapshot.timer` runs it hourly; without systemd use cron.
    Tick,
}

#[derive(Debug, clap::Args)]
struct CreateSnapshot {
    #[command(flatten)]
    name: NameArg,

    /// Name of the snapshot [default: the time, as in 20260131-120000]
    snapshot: Option<SnapshotName>,

    /// Comment, shown by `list` and `show`
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    comment: String,
}

/// A snapshot in the machine's form.
#[derive(Debug, Serialize)]
struct SnapshotFacts<'a> {
    name: &'a str,
    created: String,
    comment: &'a str,
    /// The schedule made it, and may remove it.
    scheduled: bool,
    /// The guest ran.
    running: bool,
}

impl<'a> From<&'a Record> for SnapshotFacts<'a> {
    fn from(snapshot: &'a Record) -> Self {
        SnapshotFacts {
            name: snapshot.name.as_str(),
            created: snapshot.record.created.to_string(),
            comment: &snapshot.record.comment,
            scheduled: snapshot.record.scheduled,
            running: snapshot.record.running,
        }
    }
}

impl Snapshot {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("work on snapshots")?;
        let layout = &context.layout;
        match self.what {
            SnapshotVerb::Create(create) => {
                let name = create.name.name;
                let options = SnapshotOptions { name: create.snapshot, comment: create.comment };
                super::copy::nested_is_left_out(context, &name);
                let made = snapshot::create(layout, &name, options)?;
                if context.format == Format::Text {
                    render::line(&made.name)?;
                }
                context.done(&name, json!({ "snapshot": made.name, "created": made.record.created.to_string() }))
            }
            SnapshotVerb::List { name } => list(context, &Record::list(layout, &name.name)?).map(|()| 0),
            SnapshotVerb::Show { name, snapshot } => {
                show(context, &Record::read(layout, &name.name, &snapshot)?).map(|()| 0)
            }
            SnapshotVerb::Restore { name, snapshot, trust } => {
                for setting in snapshot::restore(layout, &name.name, &snapshot, trust)? {
                    context.say(&format!(
                        "not restored, because the container has fewer rights now (`--trust` restores it): {setting}"
                    ));
                }
                context.done(&name.name, json!({ "snapshot": snapshot }))
            }
            SnapshotVerb::Rename { name, snapshot, new } => {
                snapshot::rename(layout, &name.name, &snapshot, &new)?;
                context.done(&name.name, json!({ "snapshot": new, "from": snapshot }))
            }
            SnapshotVerb::Delete { name, snapshot } => {
                snapshot::delete(layout, &name.name, &snapshot)?;
                context.done(&name.name, json!({ "snapshot": snapshot }))
            }
            SnapshotVerb::Tick => tick(context).map(|()| 0),
        }
    }
}

fn list(context: &Context, snapshots: &[Record]) -> Result<()> {
    if context.format == Format::Json {
        return render::json(&snapshots.iter().map(SnapshotFacts::from).collect::<Vec<_>>());
    }
    let rows = snapshots.iter().map(|snapshot| {
        let Record { name, record, .. } = snapshot;
        [
            name.to_string(),
            render::time(&record.created.to_string()),
            made_by(record.scheduled).into(),
            record.comment.clone(),
        ]
    });
    render::table(&["NAME", "CREATED", "BY", "COMMENT"], rows)
}

fn show(context: &Context, snapshot: &Record) -> Result<()> {
    if context.format == Format::Json {
        return render::json(&SnapshotFacts::from(snapshot));
    }
    let record = &snapshot.record;
    render::line(format_args!("Name:     {}", snapshot.name))?;
    render::line(format_args!("Created:  {}", render::time(&record.created.to_string())))?;
    render::line(format_args!("By:       {}", made_by(record.scheduled)))?;
    render::line(format_args!("Guest:    {}", if record.running { "running" } else { "stopped" }))?;
    render::line(format_args!("Comment:  {}", record.comment))
}

fn made_by(scheduled: bool) -> &'static str {
    if scheduled { "schedule" } else { "admin" }
}

fn tick(context: &Context) -> Result<()> {
    let ticked = snapshot::tick(&context.layout, jiff::Timestamp::now())?;
    for (name, snapshot) in &ticked.made {
        context.say(&format!("made snapshot `{snapshot}` of `{name}`"));
    }
    for (name, snapshot) in &ticked.removed {
        context.say(&format!("removed snapshot `{snapshot}` of `{name}`"));
    }
    if context.format == Format::Json {
        let made = ticked.made.iter().map(|(name, snapshot)| json!({ "name": name, "made": snapshot }));
        let removed = ticked.removed.iter().map(|(name, snapshot)| json!({ "name": name, "removed": snapshot }));
        render::json(&made.chain(removed).collect::<Vec<_>>())?;
        terminal::take_notes();
    }
    let failed = ticked.failed.len();
    let mut failures = ticked.failed.into_iter().map(|(name, e)| (name.to_string(), e));
    match failures.next() {
        None => Ok(()),
        Some((name, e)) if failed == 1 => Err(e.step(format!("snapshots of `{name}`"))),
        Some((name, first)) => {
            let all: Vec<String> =
                std::iter::once((name, first)).chain(failures).map(|(name, e)| format!("`{name}`: {e}")).collect();
            Err(Error::failed(all.join("; ")).step(format!("snapshots of {failed} containers")))
        }
    }
}
