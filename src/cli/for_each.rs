//! One verb for several containers: all of them at the same time, each in a child of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::context::{Context, Format, with_rights};
use super::done::{Done, summary};
use super::render;
use crate::config::{Plan, Turn};
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
    at_once(context, names, |name| Done::of(name, work(name).map_err(with_rights)))?.finish(context)
}

/// Does `work` in the order of `plan`: at the same time where there is no order, and not at all for what cannot
/// do without one that failed.
pub(super) fn in_order<T: Serialize>(
    context: &Context,
    mut plan: Plan,
    work: impl Fn(&ContainerName) -> Result<T>,
) -> Result<Outcomes> {
    let mut all = Outcomes { done: Vec::new(), status: 0 };
    loop {
        let Turn { begin, skip } = plan.take_turn();
        if begin.is_empty() && skip.is_empty() {
            return Ok(all);
        }
        for (name, failed) in skip {
            let error = Error::conflict(format!("`{name}` requires `{failed}`, which did not start"));
            all.add(context, Done::of(&name, Err::<(), Error>(error))?);
        }
        let turn = at_once(context, &begin, |name| Done::of(name, work(name).map_err(with_rights)))?;
        for (name, done) in begin.iter().zip(&turn.done) {
            plan.ended(name, done.error.is_none());
        }
        all.status = if all.status == 0 { turn.status } else { all.status };
        all.done.extend(turn.done);
    }
}

/// Shows what came of each; fails if one has failed.
pub(super) fn list(context: &Context, done: Vec<Done>) -> Result<u8> {
    let of = done.len();
    let failed = done.iter().filter_map(|done| done.error.clone()).collect();
    render::json(&done.into_iter().map(|done| done.entry(&context.verb)).collect::<Vec<_>>())?;
    summary(failed, of).map_or(Ok(0), Err)
}

/// What came of several.
pub(super) struct Outcomes {
    /// In the order of the names.
    done: Vec<Done>,
    /// The exit status of the first that failed, in the order of time.
    pub status: u8,
}

impl Outcomes {
    /// Adds what came of one. In text a failure is reported when it comes.
    fn add(&mut self, context: &Context, done: Done) {
        if let Some(e) = &done.error {
            let its = e.kind().exit_status();
            self.status = if self.status == 0 { its } else { self.status };
            if context.format == Format::Text {
                context.report(e, its);
            }
        }
        self.done.push(done);
    }

    /// In the order of these names, after what was done with others for them.
    pub(super) fn arranged(mut self, names: &[ContainerName]) -> Self {
        let place = |done: &Done| names.iter().position(|name| done.is_of(name)).map(|place| place + 1);
        self.done.sort_by_key(place);
        self
    }

    /// Shows it in the machine's form; returns the exit status.
    pub(super) fn finish(self, context: &Context) -> Result<u8> {
        match context.format {
            Format::Text => Ok(self.status),
            Format::Json => list(context, self.done),
        }
    }
}

/// Works on all of them at a time. In text a failure is reported when it comes.
fn at_once(
    context: &Context,
    names: &[ContainerName],
    done: impl Fn(&ContainerName) -> Result<Done>,
) -> Result<Outcomes> {
    let mut outcomes = Outcomes { done: Vec::new(), status: 0 };
    if let [name] = names {
        // Nothing is gained by a child.
        outcomes.add(context, done(name)?);
        return Ok(outcomes);
    }
    let mut places = Vec::new();
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
            let sorted: BTreeMap<usize, Done> = places.into_iter().zip(outcomes.done).collect();
            return Ok(Outcomes { done: sorted.into_values().collect(), ..outcomes });
        }
        let mut is_done = fork::wait_any(working.iter().map(|(_, work)| work), Duration::MAX)?.into_iter();
        for (at, work) in working.extract_if(.., |_| is_done.next() == Some(true)) {
            let done = work.finish().or_else(|e| Done::of(&names[at], Err::<(), Error>(e)))?;
            outcomes.add(context, done);
            places.push(at);
        }
    }
}
