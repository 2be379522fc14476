use std::time::Duration;

use super::look::Observer;
use crate::error::{Error, Result};
use crate::store::{AliveLock, Layout};
use crate::sys::{pidfd, process};
use crate::types::{ContainerName, Signal};

/// How long what is left of a killed guest may take to be removed.
const BURIAL: Duration = Duration::from_secs(20);

/// Sends a signal to a guest's init. One that kills it is waited for.
///
/// Fails with `Kind::Conflict` if it does not run.
pub fn kill(layout: &Layout, name: &ContainerName, signal: Signal) -> Result<()> {
    let observer = Observer::new(layout)?;
    let record = observer.running(name)?.record;
    let gone = || Error::conflict(format!("container `{name}` has just ended"));
    let leader = pidfd::open(nix::unistd::Pid::from_raw(record.leader.pid)).map_err(|_| gone())?;
    // Only now is it sure that the descriptor is the leader's, and not of a later process.
    if !process::is_same(&record.leader) {
        return Err(gone());
    }
    pidfd::send_signal(&leader, signal)?;
    if signal == Signal::KILL && !AliveLock::wait_released(layout, name, BURIAL)? {
        return Err(Error::timed_out(format!("container `{name}` was killed, but is not gone yet")));
    }
    Ok(())
}
