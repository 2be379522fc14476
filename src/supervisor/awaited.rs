//! What of the host is not there yet when a container starts with it: bridges and links that another program
//! makes, disks and shares that are mounted late, devices that are found late.

use std::slice;
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;

use super::manager::Manager;
use super::stop::{StopGoal, asked_by};
use super::{bind, dev};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::net;
use crate::storage;
use crate::store::{Layout, Origin};
use crate::sys;
use crate::sys::host_path::open_host_path;
use crate::types::ContainerName;

/// How often it is looked again: nothing reports all of them.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// The first thing that a start needs and that does not exist, as the refusal of a start; `None` where all do.
/// What is wrong in another way is the start's to report.
pub(crate) fn absent(layout: &Layout, name: &ContainerName, config: &Config) -> Option<Error> {
    let is_absent = |e: &Error| e.kind() == Kind::NotFound;
    if let Some(error) = net::preview::require_links(layout, name, config).err().filter(is_absent) {
        return Some(error.step("connect the network"));
    }
    let is_missing = |e: &Error| matches!(e.errno(), Some(libc::ENOENT | libc::ENXIO | libc::ENODEV));
    let lacks = |device| dev::rules(slice::from_ref(device)).err().filter(is_missing);
    if let Some(error) = config.device.iter().find_map(lacks) {
        return Some(error);
    }
    let is_needed = |mount: &&crate::config::Mount| !mount.optional;
    for mount in config.mount.iter().filter(is_needed) {
        if let Ok(None) = open_host_path(&mount.source) {
            return Some(bind::missing(mount));
        }
    }
    let origin = Origin::read(layout, name).ok()?;
    let missing = storage::backend(layout, &origin.storage).ok()?.missing(&layout.container(name))?;
    Some(Error::failed(format!("`{}`, which its files are stored as changes to, does not exist", missing.display())))
}

/// Waits until all is there, `boot.wait-timeout` at most; returns false where `pause` says to give up. `pause`
/// gets what is missing and how long it is waited for, and returns after a while.
///
/// Fails with `Kind::TimedOut`, which systemd's unit takes as a reason to try again.
pub(crate) fn await_host(
    layout: &Layout,
    name: &ContainerName,
    config: &Config,
    mut pause: impl FnMut(&Error, Duration) -> Result<bool>,
) -> Result<bool> {
    let limit = config.boot.wait_timeout;
    let deadline = Instant::now() + limit.get();
    // The start itself refuses what is missing.
    if limit.get().is_zero() {
        return Ok(true);
    }
    while let Some(error) = absent(layout, name, config) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(error.step(format!("waited {limit} (`boot.wait-timeout`)")).with_kind(Kind::TimedOut));
        }
        if !pause(&error, left)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The same for a supervisor that the host has started; returns false when a signal asks to stop.
pub(super) fn await_all(layout: &Layout, name: &ContainerName, manager: &Manager, signals: &SignalFd) -> Result<bool> {
    // A mistake in it is reported by the start.
    let Ok(config) = layout.config(name) else { return Ok(true) };
    let mut is_said = false;
    await_host(layout, name, &config, |missing, left| {
        if !std::mem::replace(&mut is_said, true) {
            sys::log::line(&format!("`{name}` waits for what is not there yet: {missing}"));
            manager.awaits(missing, left);
        }
        if !sys::poll::wait_readable(signals, PAUSE.min(left))? {
            return Ok(true);
        }
        let asks = |number: u32| asked_by(number as i32) == Some(StopGoal::PowerOff);
        Ok(!signals.read_signal().ok().flatten().is_some_and(|signal| asks(signal.ssi_signo)))
    })
}
