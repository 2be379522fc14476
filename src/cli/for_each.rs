//! One verb for several containers: all of them at the same time, each in a child of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::context::{Context, Format, with_rights};
use super::done::{Done, summary};
use super::render;
use crate::error::{Error, Result};
use crate::progress;
use crate::sys::fork::{self, ChildWork};
use crate::types::ContainerName;

/// How many are worked on at a time.
const AT_ONCE: usize = 32;

/// Does `work` for each of `names`; returns the exit status. In the machine's form the result is a
/// list with an entry for each name, in their order, which has what `work` returns.
///
/// The failure of one does not keep the others from being done: each is reported when it comes,
/// and the exit status is that of the first.
pub(super) fn for_each<T: Serialize>(
    context: &Context,
    names: &[ContainerName],
    work: impl Fn(&ContainerName) -> Result<T>,
) -> Result<u8> {
    if let ([name], Format::Text) = (names, context.format) {
        return work(name).map(|_| 0);
    }
    let done = |name: &ContainerName| Done::of(name, work(name).map_err(with_rights));
    let outcomes = match names {
        // Nothing is gained by a child.
        [name] => Outcomes { done: vec![done(name)?], status: 0 },
        _ => at_once(context, names, done)?,
    };
    match context.format {
        Format::Text => Ok(outcomes.status),
        Format::Json => list(context, outcomes.done),
    }
}

/// Shows what came of each; fails if one has failed.
pub(super) fn list(context: &Context, done: Vec<Done>) -> Result<u8> {
    let of = done.len();
    let failed = done.iter().filter_map(|done| done.error.clone()).collect();
    render::json(&done.into_iter().map(|done| done.entry(&context.verb)).collect::<Vec<_>>())?;
    summary(failed, of).map_or(Ok(0), Err)
}

struct Outcomes {
    /// In the order of the names.
    done: Vec<Done>,
    /// The exit status of the first that failed, in the order of time.
    status: u8,
}

/// Works on all of them at a time. In text a failure is reported when it comes.
fn at_once(
    context: &Context,
    names: &[ContainerName],
    done: impl Fn(&ContainerName) -> Result<Done>,
) -> Result<Outcomes> {
    let (mut all, mut status) = (BTreeMap::new(), 0);
    let mut waiting = names.iter().enumerate();
    let mut working: Vec<(usize, ChildWork<Done>)> = Vec::new();
    loop {
        for (at, name) in waiting.by_ref().take(AT_ONCE - working.len()) {
            let work = || {
                // One terminal cannot show several progress bars.
                progress::be_quiet();
                done(name)
            };
            working.push((at, ChildWork::begin(work)?));
        }
        if working.is_empty() {
            return Ok(Outcomes { done: all.into_values().collect(), status });
        }
        let mut is_done = fork::wait_any(working.iter().map(|(_, work)| work), Duration::MAX)?.into_iter();
        for (at, work) in working.extract_if(.., |_| is_done.next() == Some(true)) {
            let done = work.finish().or_else(|e| Done::of(&names[at], Err::<(), Error>(e)))?;
            if let Some(e) = &done.error {
                let its = e.kind().exit_status();
                status = if status == 0 { its } else { status };
                if context.format == Format::Text {
                    context.report(e, its);
                }
            }
            all.insert(at, done);
        }
    }
}
