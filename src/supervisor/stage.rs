//! The named stages of a start: where its time goes, and where the crash tests kill us.

use std::time::Instant;

use crate::store::StageTime;

/// A stage is entered when the one before it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The alive lock is held.
    Locked,
    /// What an earlier generation left is gone.
    Swept,
    /// Its configuration is read, its root file system is mounted and looked at.
    Read,
    /// Log, control socket and cgroups exist.
    Prepared,
    /// The child exists in its namespaces and waits.
    Cloned,
    /// Its ids are mapped.
    Mapped,
    /// It has been given its root file system and builds its mounts.
    Rooted,
    /// Its network is wired.
    Wired,
    /// It has its mounts and console.
    Mounted,
    /// Init has been executed.
    Executed,
    /// The guest has ended; its remains are being removed.
    Ended,
}

impl Stage {
    pub const ALL: [Stage; 11] = [
        Stage::Locked,
        Stage::Swept,
        Stage::Read,
        Stage::Prepared,
        Stage::Cloned,
        Stage::Mapped,
        Stage::Rooted,
        Stage::Wired,
        Stage::Mounted,
        Stage::Executed,
        Stage::Ended,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Locked => "locked",
            Stage::Swept => "swept",
            Stage::Read => "read",
            Stage::Prepared => "prepared",
            Stage::Cloned => "cloned",
            Stage::Mapped => "mapped",
            Stage::Rooted => "rooted",
            Stage::Wired => "wired",
            Stage::Mounted => "mounted",
            Stage::Executed => "executed",
            Stage::Ended => "ended",
        }
    }
}

/// Measures each stage from the one before it.
#[derive(Debug)]
pub(super) struct Timeline {
    last: Instant,
    stages: Vec<StageTime>,
}

impl Timeline {
    pub(super) fn start() -> Self {
        Timeline { last: Instant::now(), stages: Vec::new() }
    }

    /// Notes that `stage` is reached.
    pub(super) fn reached(&mut self, stage: Stage) {
        let us = self.last.elapsed().as_micros() as u64;
        self.stages.push(StageTime { stage: stage.name().to_owned(), us });
        die_if_asked(stage);
        self.last = Instant::now();
    }

    pub(super) fn stages(&self) -> &[StageTime] {
        &self.stages
    }
}

/// Debug builds only: kills this process at the stage named by `LXM_DIE_AT`, for the crash tests.
fn die_if_asked(stage: Stage) {
    if cfg!(debug_assertions) && std::env::var("LXM_DIE_AT").is_ok_and(|name| name == stage.name()) {
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
    }
}

/// Debug builds only: holds the helper of an attached command up, when that has been cloned, for as many
/// milliseconds as `LXM_HELPER_LINGERS` says. Else it ends before anybody could look at it.
pub(super) fn linger_if_asked() {
    if !cfg!(debug_assertions) {
        return;
    }
    let asked = std::env::var("LXM_HELPER_LINGERS").ok().and_then(|text| text.parse().ok());
    asked.map(std::time::Duration::from_millis).into_iter().for_each(std::thread::sleep);
}
