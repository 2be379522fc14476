use serde::Serialize;

use super::{Context, Format, render, require_root};
use crate::error::Result;
use crate::ops::gc::gc;

/// Remove leftovers of commands and containers that were killed
///
/// Containers, snapshots, images and whatever a running process uses are kept.
#[derive(Debug, clap::Args)]
pub(super) struct Gc {}

#[derive(Serialize)]
struct RemovedFacts {
    what: &'static str,
    which: String,
}

impl Gc {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("remove what is left over")?;
        let swept = gc(&context.layout)?;
        let removed = swept.removed.into_iter();
        match context.format {
            Format::Json => {
                let facts = removed.map(|removed| RemovedFacts { what: removed.what, which: removed.which });
                render::json(&facts.collect::<Vec<_>>())?;
            }
            Format::Text => {
                let lines = removed.map(|removed| format!("removed {} {}\n", removed.what, removed.which));
                render::text(&lines.collect::<String>())?;
            }
        }
        let mut failed = swept.failed.into_iter();
        let Some(first) = failed.next() else { return Ok(0) };
        // In JSON there is one error, and the others are notes beside it.
        failed.for_each(|e| context.report_too(&e));
        Err(first)
    }
}
