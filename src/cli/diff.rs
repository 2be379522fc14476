//! `lxm diff`: what has changed since a container was made.

use std::fmt::Write;

use serde::Serialize;

use super::{Context, Format, NameArg, render, require_root};
use crate::error::Result;
use crate::ops::diff::{Change, Difference, Versions, diff};
use crate::terminal;
use crate::types::SnapshotName;

/// Show changed files and packages, since creation or a snapshot
///
/// A file counts as changed if its owner, mode, size or modification time differs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Files: `A` added, `C` changed, `D` deleted. Packages: `+` added, `~` changed, `-` removed.")]
pub(super) struct Diff {
    #[command(flatten)]
    name: NameArg,

    /// Compare with this snapshot [default: the image that the container was created from]
    snapshot: Option<SnapshotName>,
}

#[derive(Debug, Serialize)]
struct Shown {
    files: Vec<File>,
    /// `null` where the guest's package manager is none whose database is read.
    packages: Option<Vec<Package>>,
}

#[derive(Debug, Serialize)]
struct File {
    path: String,
    change: Change,
}

#[derive(Debug, Serialize)]
struct Package {
    name: String,
    /// The version before; `null` where it is new.
    before: Option<String>,
    /// The version now; `null` where it was removed.
    now: Option<String>,
}

impl Diff {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("look at a container's files")?;
        let shown = Shown::of(diff(&context.layout, &self.name.name, self.snapshot.as_ref())?);
        match context.format {
            Format::Json => render::json(&shown)?,
            Format::Text => render::text(&shown.text())?,
        }
        Ok(0)
    }
}

impl Shown {
    fn of(difference: Difference) -> Self {
        let file =
            |(path, change): (std::path::PathBuf, Change)| File { path: path.to_string_lossy().into_owned(), change };
        let package = |(name, Versions { before, now })| Package { name, before, now };
        Shown {
            files: difference.files.into_iter().map(file).collect(),
            packages: difference.packages.map(|packages| packages.into_iter().map(package).collect()),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for File { path, change } in &self.files {
            let letter = match change {
                Change::Added => 'A',
                Change::Changed => 'C',
                Change::Removed => 'D',
            };
            let _ = writeln!(text, "{letter} {}", terminal::line(path));
        }
        for Package { name, before, now } in self.packages.iter().flatten() {
            let line = match (before, now) {
                (None, Some(now)) => format!("+ {name} {now}"),
                (Some(before), None) => format!("- {name} {before}"),
                (before, now) => {
                    format!("~ {name} {} -> {}", before.as_deref().unwrap_or("?"), now.as_deref().unwrap_or("?"))
                }
            };
            let _ = writeln!(text, "{}", terminal::line(&line));
        }
        text
    }
}
