//! How a boot ended, in words for who asks later.

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

use super::console::Console;
use super::setup::Setup;
use super::stop::Escalation;
use crate::cgroup::stats;
use crate::store::{LastRun, RunEnd};
use crate::sys;

/// What ended a boot: who asked for it, or else what the kernel says of its init (reboot(2) in a pid namespace:
/// pid_namespaces(7)).
pub(super) fn of(asked: Option<&Escalation>, init: Option<WaitStatus>) -> RunEnd {
    match (asked, init) {
        (Some(escalation), _) => escalation.end(),
        (None, Some(WaitStatus::Exited(_, status))) => RunEnd::Exited(status),
        (None, Some(WaitStatus::Signaled(_, Signal::SIGINT, _))) => RunEnd::PoweredOff,
        (None, Some(WaitStatus::Signaled(_, Signal::SIGHUP, _))) => RunEnd::Rebooted,
        (None, Some(WaitStatus::Signaled(_, signal, _))) => RunEnd::Signalled(signal as i32),
        (None, _) => RunEnd::Lost,
    }
}

/// Writes down how a boot ended, for `lxm info`, the log, and who waits for it.
pub(super) fn keep_end(setup: &Setup, console: &Console, end: RunEnd, lived: Duration) {
    let (oom_kills, console) = match end.is_failure() {
        true => (stats::oom_kills_of_guest(setup.cgroup.hierarchies(), setup.cgroup.group()), console.last_lines()),
        false => (0, Vec::new()),
    };
    let run = LastRun { lived_ms: lived.as_millis() as u64, oom_kills, console, ..LastRun::of(end) };
    run.write(&setup.layout, &setup.name);
    sys::log::line(&format!("`{}` has ended: {run}", setup.name));
}
