//! `lxm start`: a supervisor is started, and what is waited for has come.

use std::time::{Duration, Instant};

use super::ssh;
use crate::client::{ask, status, unexpected};
use crate::container::status::{ContainerState, Observer};
use crate::error::{Context, Error, Kind, Result};
use crate::host::{self, StartMode};
use crate::net::{self, reach};
use crate::proto::control::{Reply, Request, SupervisorStatus};
use crate::storage;
use crate::store::{self, AliveLock, LastRun, Layout, OperationLock};
use crate::sys;
use crate::sys::socket::Packets;
use crate::types::ContainerName;

/// What a start waits for beyond the execution of init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// The guest's init says that it has booted; one that cannot say it has run for a moment
    Booted,
    /// The same, and an init that cannot say it is believed at once
    Ready,
    /// The guest has an address that others can reach
    Network,
    /// The guest's ssh server answers
    Ssh,
}

/// What becomes of the guest's changes when it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuestChanges {
    Stay,
    /// They are undone.
    Vanish,
}

/// A start, and what it waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StartRequest {
    pub window: (u16, u16),
    /// How long the execution of init may take, and then what is waited for.
    pub limit: Duration,
    pub changes: GuestChanges,
    pub wait: Option<WaitFor>,
}

/// Starts a container and waits until it has come as far as asked. One that runs already is no error
/// where something is waited for: it is what is wanted that counts.
pub(crate) fn start_and_wait(layout: &Layout, name: &ContainerName, request: StartRequest) -> Result<()> {
    let StartRequest { window, limit, changes, wait } = request;
    let before = wait.and_then(|_| LastRun::read(layout, name));
    match (start(layout, name, StartMode { window, limit }, changes)?, wait) {
        (Begun::Before, None) => return Err(Error::conflict(format!("container `{name}` is already running"))),
        (Begun::Before, Some(_)) if changes == GuestChanges::Vanish && !layout.ephemeral_mark(name).exists() => {
            return Err(Error::conflict(format!("container `{name}` is already running, and not with `--ephemeral`")));
        }
        // For users who may not read the guest's files; a command that lacks the keys reports it.
        (Begun::Now, _) => drop(ssh::note_host_keys(layout, name)),
        (Begun::Before, Some(_)) => refuse_frozen(layout, name)?,
    }
    wait.map_or(Ok(()), |wait| wait_for_guest(layout, name, wait, limit, before.as_ref()))
}

/// A frozen guest does not come further by being waited for.
fn refuse_frozen(layout: &Layout, name: &ContainerName) -> Result<()> {
    match Observer::new(layout)?.state(name)? {
        (ContainerState::Frozen, _) => Err(Error::conflict(format!("container `{name}` is frozen"))
            .hint(format!("`{}` lets it run on", layout.command(format_args!("unfreeze {name}"))))),
        _ => Ok(()),
    }
}

/// As [`wait_for`]; of a guest that ends instead it is said how. `before` is how the boot before it ended.
pub(crate) fn wait_for_guest(
    layout: &Layout,
    name: &ContainerName,
    wait: WaitFor,
    limit: Duration,
    before: Option<&LastRun>,
) -> Result<()> {
    wait_for(layout, name, wait, limit).map_err(|e| {
        // It is written before the lock is given up.
        if e.kind() == Kind::TimedOut || !AliveLock::wait_released(layout, name, ENDING).unwrap_or(false) {
            return e;
        }
        match LastRun::read(layout, name).filter(|run| Some(run) != before) {
            Some(run) => run.error(layout, name),
            None => e,
        }
    })
}

/// What an admin should know of a container that was just started.
pub(crate) fn note(layout: &Layout, name: &ContainerName) -> Option<String> {
    net::without_address(layout, name)
}

/// Waits until a running container has come as far as `wait` says; fails with `Kind::TimedOut` after `limit`.
pub(crate) fn wait_for(layout: &Layout, name: &ContainerName, wait: WaitFor, limit: Duration) -> Result<()> {
    match wait {
        WaitFor::Booted => wait_booted(layout, name, limit, SETTLED),
        WaitFor::Ready => wait_booted(layout, name, limit, Duration::ZERO),
        WaitFor::Network => reach::wait_address(layout, name, limit).map(drop),
        WaitFor::Ssh => {
            reach::wait_ssh(layout, name, limit)?;
            // It was asked from inside. Others need its address, which may come a little later.
            reach::await_lease(layout, name);
            Ok(())
        }
    }
}

/// Since when a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Now,
    Before,
}

/// Starts a container unless it runs already; returns when its init has been executed.
///
/// Fails with the supervisor's own reason.
fn start(layout: &Layout, name: &ContainerName, how: StartMode, changes: GuestChanges) -> Result<Begun> {
    layout.require(name)?;
    let _lock = OperationLock::acquire(layout, name)?;
    if runs(layout, name)? {
        return Ok(Begun::Before);
    }
    let mark = layout.ephemeral_mark(name);
    if changes == GuestChanges::Stay {
        store::remove_tree(&mark)?;
        return host::detect().start(layout, name, how).map(|()| Begun::Now);
    }
    storage::ephemeral::begin(layout, name)?;
    let marked = std::fs::create_dir_all(layout.run_dir(name)).and_then(|()| std::fs::write(&mark, ""));
    marked.context(|| format!("write `{}`", mark.display()))?;
    host::detect().start(layout, name, how).inspect_err(|_| {
        // The failure to start is what is reported; the next start puts back what this does not.
        let _ = store::remove_tree(&mark).and_then(|()| storage::ephemeral::end(layout, name));
    })?;
    Ok(Begun::Now)
}

/// Whether a supervisor serves the container. One that is about to end, because the command that
/// started it was killed or its guest has just ended, is waited for.
fn runs(layout: &Layout, name: &ContainerName) -> Result<bool> {
    if !AliveLock::is_held(layout, name)? {
        return Ok(false);
    }
    Ok(status(layout, name, ENDING).is_ok() || !AliveLock::wait_released(layout, name, ENDING)?)
}

/// How long a supervisor that answers no request may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// Waits until the guest has booted: its init said so, or cannot say it.
///
/// Fails with `Kind::TimedOut` after `limit`, saying what the guest said last.
fn wait_booted(layout: &Layout, name: &ContainerName, limit: Duration, settled: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    let packets = ask(layout, name, &Request::Watch)?;
    let mut said = String::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match packets.recv_within::<Reply>(left) {
            Ok(Some((Reply::Status(status), _))) => {
                match status.ready {
                    Some(false) => {}
                    Some(true) => return Ok(()),
                    None => return wait_settled(layout, name, &packets, &status, settled),
                }
                said = status.text;
            }
            Ok(Some((other, _))) => return Err(unexpected(&other)),
            Ok(None) => return Err(ended(layout, name)),
            Err(_) => {
                let last = if said.is_empty() { String::new() } else { format!("; it said last: {said}") };
                return Err(Error::timed_out(format!(
                    "container `{name}` has not booted within {}s{last}",
                    limit.as_secs()
                ))
                .hint(format!(
                    "it keeps running; `{}` shows what it does",
                    layout.command(format_args!("console {name}"))
                )));
            }
        }
    }
}

/// How long an init that cannot say that it has booted has to have run to be believed: most that cannot work
/// end sooner.
const SETTLED: Duration = Duration::from_millis(200);

/// Waits until the guest of `status` is as old as `settled`; fails if it ends before.
fn wait_settled(
    layout: &Layout,
    name: &ContainerName,
    packets: &Packets,
    status: &SupervisorStatus,
    settled: Duration,
) -> Result<()> {
    let leader = sys::process::generation(nix::unistd::Pid::from_raw(status.leader));
    let age = leader.ok().and_then(|leader| sys::process::age(&leader)).unwrap_or_default();
    let deadline = Instant::now() + settled.saturating_sub(age);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        match packets.recv_within::<Reply>(left) {
            Ok(None) => return Err(ended(layout, name)),
            Ok(Some(_)) => {}
            Err(_) => return Ok(()),
        }
    }
}

fn ended(layout: &Layout, name: &ContainerName) -> Error {
    Error::failed(format!("container `{name}` ended before it had booted"))
        .hint(format!("`{}` shows its console", layout.command(format_args!("logs {name}"))))
}
