//! `lxm wait`: until a container is in a state.

use std::fs::File;
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};

use super::start::{self, WaitFor};
use crate::client;
use crate::container::status::{ContainerState, Observer};
use crate::error::{Error, Kind, Result};
use crate::proto::control::{Reply, Request, SupervisorStatus};
use crate::store::{AliveLock, Layout};
use crate::sys::poll::timeout;
use crate::types::ContainerName;

/// What a container is waited for to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    State(ContainerState),
    /// It runs, and its init has said that it has booted or cannot say it.
    Booted,
    /// It runs and has an address that others can reach.
    Network,
    /// It runs and its ssh server answers.
    Ssh,
}

impl FromStr for Goal {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s.to_ascii_lowercase().as_str() {
            "booted" => Ok(Goal::Booted),
            "network" => Ok(Goal::Network),
            "ssh" => Ok(Goal::Ssh),
            _ => s.parse().map(Goal::State).map_err(|_: Error| {
                let known = ContainerState::ALL.map(|state| format!("`{}`", state.name())).join(", ");
                Error::usage(format!("`{s}` is not a state"))
                    .hint(format!("valid values: {known}, `booted`, `network`, `ssh`"))
            }),
        }
    }
}

/// Poll interval where no descriptor reports a change.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until the container is what one of `goals` says; forever without a `limit`.
///
/// Fails with `Kind::TimedOut`. One that is destroyed meanwhile has stopped.
pub(crate) fn wait(layout: &Layout, name: &ContainerName, goals: &[Goal], limit: Option<Duration>) -> Result<()> {
    let reached = match goals {
        [Goal::Network] => WaitFor::Network,
        [Goal::Ssh] => WaitFor::Ssh,
        goals if goals.contains(&Goal::Network) || goals.contains(&Goal::Ssh) => {
            return Err(Error::usage("`network` and `ssh` are waited for alone, without other states"));
        }
        goals => return wait_state(layout, name, goals, limit),
    };
    let deadline = limit.map(|limit| Instant::now() + limit);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        wait_state(layout, name, &[Goal::State(ContainerState::Running)], left)?;
        let left = deadline.map_or(Duration::from_secs(3600), |d| d.saturating_duration_since(Instant::now()));
        match start::wait_for(layout, name, reached, left) {
            // It has stopped, or it is waited for without a limit.
            Err(e) if e.kind() != Kind::TimedOut && !AliveLock::is_held(layout, name)? => {}
            Err(e) if e.kind() == Kind::TimedOut && limit.is_none() => {}
            outcome => return outcome,
        }
    }
}

fn wait_state(layout: &Layout, name: &ContainerName, goals: &[Goal], limit: Option<Duration>) -> Result<()> {
    layout.require(name)?;
    let observer = Observer::new(layout)?;
    let deadline = limit.map(|limit| Instant::now() + limit);
    loop {
        let (state, record) = observer.state(name)?;
        if goals.contains(&Goal::State(state)) {
            return Ok(());
        }
        if layout.require(name).is_err_and(|e| e.kind() == Kind::NotFound) {
            return Err(Error::not_found(format!("container `{name}` was destroyed")));
        }
        let left = deadline.map_or(Duration::from_secs(3600), |d| d.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            let waited = (limit.unwrap_or_default().as_secs_f64() * 10.0).round() / 10.0;
            return Err(Error::timed_out(format!("container `{name}` is still {} after {waited} s", state.name())));
        }
        match record {
            Some(record) => {
                let events = observer.guest(record).cgroup().payload()?.join("cgroup.events");
                // A frozen guest answers nobody: what it was before does not count until it is thawed.
                let booted = goals.contains(&Goal::Booted) && state == ContainerState::Running;
                if watch(layout, name, booted, &events, left)? {
                    return Ok(());
                }
            }
            // There is no supervisor to ask yet.
            None => std::thread::sleep(POLL_INTERVAL.min(left)),
        }
    }
}

/// Waits for a change of a running container, its supervisor's or the freezer's, at most `left`;
/// says whether it has booted, if that is asked.
fn watch(
    layout: &Layout,
    name: &ContainerName,
    booted: bool,
    events: &std::path::Path,
    left: Duration,
) -> Result<bool> {
    // Gone between the two looks: the next look tells.
    let (Ok(packets), Ok(events)) = (client::connect(layout, name), File::open(events)) else {
        std::thread::sleep(POLL_INTERVAL.min(left));
        return Ok(false);
    };
    packets.send(&Request::Watch, &[])?;
    let deadline = Instant::now() + left;
    let mut first = true;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // cgroupfs tells a change of its events by POLLPRI (cgroups(7)).
        let mut fds =
            [PollFd::new(packets.as_fd(), PollFlags::POLLIN), PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        match poll(&mut fds, timeout(left)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
        if !fds[0].any().unwrap_or(false) {
            return Ok(false);
        }
        match packets.recv::<Reply>()? {
            Some((Reply::Status(SupervisorStatus { ready, .. }), _)) if booted && ready != Some(false) => {
                return Ok(true);
            }
            // The first only tells what is known.
            Some((Reply::Status(_), _)) if first => first = false,
            _ => return Ok(false),
        }
    }
}
