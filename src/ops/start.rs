//! `lxm start`: a supervisor is started, and what is waited for has come.

use std::time::{Duration, Instant};

use super::ssh;
use crate::client::{ask, status, unexpected};
use crate::error::{Context, Error, Result};
use crate::host::{self, StartMode};
use crate::net::reach;
use crate::proto::control::{Reply, Request};
use crate::storage;
use crate::store::{self, AliveLock, Layout, OperationLock};
use crate::types::ContainerName;

/// What a start waits for beyond the execution of init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// The guest's init says that it has booted
    Booted,
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
    match (start(layout, name, StartMode { window, limit }, changes)?, wait) {
        (Begun::Before, None) => return Err(Error::conflict(format!("container `{name}` is already running"))),
        (Begun::Before, Some(_)) if changes == GuestChanges::Vanish && !layout.ephemeral_mark(name).exists() => {
            return Err(Error::conflict(format!("container `{name}` is already running, and not with `--ephemeral`")));
        }
        // For users who may not read the guest's files; a command that lacks the keys reports it.
        (Begun::Now, _) => drop(ssh::note_host_keys(layout, name)),
        (Begun::Before, Some(_)) => {}
    }
    wait.map_or(Ok(()), |wait| wait_for(layout, name, wait, limit))
}

/// Waits until a running container has come as far as `wait` says; fails with `Kind::TimedOut` after `limit`.
pub(crate) fn wait_for(layout: &Layout, name: &ContainerName, wait: WaitFor, limit: Duration) -> Result<()> {
    match wait {
        WaitFor::Booted => wait_booted(layout, name, limit),
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
pub(crate) fn wait_booted(layout: &Layout, name: &ContainerName, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    let packets = ask(layout, name, &Request::Watch)?;
    let mut said = String::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match packets.recv_within::<Reply>(left) {
            Ok(Some((Reply::Status(status), _))) => {
                if status.ready != Some(false) {
                    return Ok(());
                }
                said = status.text;
            }
            Ok(Some((other, _))) => return Err(unexpected(&other)),
            Ok(None) => {
                return Err(Error::failed(format!("container `{name}` ended before it had booted"))
                    .hint(format!("`{}` shows its console", layout.command(format_args!("logs {name}")))));
            }
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
