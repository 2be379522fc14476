//! How often what was mended: somebody who changes it back each time would have us repair for ever.
//!
//! It is in a file, because a server whose bridge is deleted ends with its watchdog, and the next one makes the
//! bridge again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::{Error, Result};
use crate::store::{Layout, remove_tree, write_volatile};

/// So many times in a row, each within [`WINDOW`] of the one before, and no more.
const MOST: u32 = 10;
/// What lasts for so long was worth it.
const WINDOW: u64 = 60; // seconds
/// Most things that are remembered.
const MOST_FAULTS: usize = 4096;

/// What to do about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    GoesOn,
    /// This time it is not mended any more.
    GivesUp,
    HasGivenUp,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    #[serde(default)]
    fault: BTreeMap<String, Times>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Times {
    times: u32,
    last: u64,
}

impl Tally {
    fn attempt(&mut self, fault: &str, now: u64) -> Attempt {
        self.fault.retain(|_, of| of.times > MOST || now.saturating_sub(of.last) < WINDOW);
        if self.fault.len() >= MOST_FAULTS && !self.fault.contains_key(fault) {
            return Attempt::HasGivenUp;
        }
        let of = self.fault.entry(fault.to_owned()).or_insert(Times { times: 0, last: now });
        if of.times > MOST {
            return Attempt::HasGivenUp;
        }
        *of = Times { times: of.times + 1, last: now };
        if of.times > MOST { Attempt::GivesUp } else { Attempt::GoesOn }
    }
}

fn file(layout: &Layout, bridge: &str) -> PathBuf {
    layout.network_run().join(bridge).join("repairs.toml")
}

fn read(layout: &Layout, bridge: &str) -> Result<Tally> {
    let file = file(layout, bridge);
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(config::parse(&text, &file).unwrap_or_default()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Tally::default()),
        Err(e) => Err(Error::from(e).step(format!("read `{}`", file.display()))),
    }
}

/// Notes that a fault was found; says whether it is to be mended.
pub(crate) fn attempt(layout: &Layout, bridge: &str, fault: &str) -> Result<Attempt> {
    let mut tally = read(layout, bridge)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
    let attempt = tally.attempt(fault, now);
    if attempt != Attempt::HasGivenUp {
        write_volatile(&file(layout, bridge), &tally)?;
    }
    Ok(attempt)
}

/// Whether a fault of the bridge is not mended any more.
pub(crate) fn given_up(layout: &Layout, bridge: &str) -> Result<bool> {
    Ok(read(layout, bridge)?.fault.values().any(|of| of.times > MOST))
}

/// Begins anew.
pub(crate) fn forget(layout: &Layout, bridge: &str) -> Result<()> {
    remove_tree(&file(layout, bridge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fights_gives_up_and_a_rare_fault_is_mended_for_ever() {
        let mut tally = Tally::default();
        for nth in 0..100 {
            assert_eq!(tally.attempt("rare", nth * WINDOW), Attempt::GoesOn);
        }
        for nth in 0..u64::from(MOST) {
            assert_eq!(tally.attempt("down", nth), Attempt::GoesOn);
        }
        assert_eq!(tally.attempt("down", 20), Attempt::GivesUp);
        assert_eq!(tally.attempt("down", 20 + 100 * WINDOW), Attempt::HasGivenUp);
        assert_eq!(tally.attempt("rare", 30 + 100 * WINDOW), Attempt::GoesOn);
    }
}
