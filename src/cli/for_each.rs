//! One verb for several containers: all of them at the same time, each in a child of its own.

use std::time::Duration;

use super::context::{report, with_rights};
use crate::error::Result;
use crate::progress;
use crate::sys::fork::{self, ChildWork};
use crate::types::ContainerName;

/// How many are worked on at a time.
const AT_ONCE: usize = 32;

/// Does `work` for each of `names`; returns the exit status.
///
/// The failure of one does not keep the others from being done: each is reported when it comes,
/// and the exit status is that of the first.
pub(super) fn for_each(names: &[ContainerName], work: impl Fn(&ContainerName) -> Result<()>) -> Result<u8> {
    if let [name] = names {
        return work(name).map(|()| 0);
    }
    let mut status = 0;
    let mut waiting = names.iter();
    let mut working: Vec<ChildWork<()>> = Vec::new();
    loop {
        for name in waiting.by_ref().take(AT_ONCE - working.len()) {
            working.push(ChildWork::begin(|| {
                // One terminal cannot show several progress bars.
                progress::be_quiet();
                work(name)
            })?);
        }
        if working.is_empty() {
            return Ok(status);
        }
        let mut is_done = fork::wait_any(working.iter(), Duration::MAX)?.into_iter();
        for done in working.extract_if(.., |_| is_done.next() == Some(true)) {
            if let Err(e) = done.finish().map_err(with_rights) {
                report(&e);
                status = if status == 0 { e.kind().exit_status() } else { status };
            }
        }
    }
}
