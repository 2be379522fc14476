//! `lxm diff`: what has changed since a container was made.

use std::fmt::Write;

use serde::Serialize;

use super::{Context, Format, NameArg, render, require_root};
use crate::error::Result;
use crate::ops::diff::{Difference, FileChange, Versions, diff};
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
struct DiffFacts {
    files: Vec<ChangedFile>,
    /// `null` where the guest's package manager is none whose database is read.
    packages: Option<Vec<ChangedPackage>>,
}

#[derive(Debug, Serialize)]
struct ChangedFile {
    path: String,
    change: FileChange,
}

#[derive(Debug, Serialize)]
struct ChangedPackage {
    name: String,
    /// The version before; `null` where it is new.
    before: Option<String>,
    /// The version now; `null` where it was removed.
    now: Option<String>,
}

impl Diff {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("look at a container's files")?;
        let shown = DiffFacts::of(diff(&context.layout, &self.name.name, self.snapshot.as_ref())?);
        match context.format {
            Format::Json => render::json(&shown)?,
            Format::Text => render::text(&shown.text())?,
        }
        Ok(0)
    }
}

impl DiffFacts {
    fn of(difference: Difference) -> Self {
        let file = |(path, change): (std::path::PathBuf, FileChange)| ChangedFile {
            path: path.to_string_lossy().into_owned(),
            change,
        };
        let package = |(name, Versions { before, now })| ChangedPackage { name, before, now };
        DiffFacts {
            files: difference.files.into_iter().map(file).collect(),
            packages: difference.packages.map(|packages| packages.into_iter().map(package).collect()),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for ChangedFile { path, change } in &self.files {
            let letter = match change {
                FileChange::Added => 'A',
                FileChange::Changed => 'C',
                FileChange::Removed => 'D',
            };
            let _ = writeln!(text, "{letter} {}", terminal::line(path));
        }
        for ChangedPackage { name, before, now } in self.packages.iter().flatten() {
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
