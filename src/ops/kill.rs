use std::time::Duration;

use super::stop;
use crate::container::status::Observer;
use crate::error::{Error, Result};
use crate::host::StopMode;
use crate::store::{AliveLock, Layout, OperationLock};
use crate::sys::{pidfd, process};
use crate::types::{ContainerName, Signal};

/// How long the supervisor of a killed guest may take to remove what is left of it; then this is done without
/// the supervisor.
const CLEARING: Duration = Duration::from_secs(10);

/// Sends a signal to a guest's init. One that kills it is waited for.
///
/// Fails with `Kind::Conflict` if it does not run.
pub(crate) fn kill(layout: &Layout, name: &ContainerName, signal: Signal) -> Result<()> {
    let observer = Observer::new(layout)?;
    let record = observer.running(name)?.record;
    let gone = || Error::conflict(format!("container `{name}` has just ended"));
    let leader = pidfd::open(nix::unistd::Pid::from_raw(record.leader.pid)).map_err(|_| gone())?;
    // Only now is it sure that the descriptor is the leader's, and not of a later process.
    if !process::is_same(&record.leader) {
        return Err(gone());
    }
    pidfd::send_signal(&leader, signal)?;
    if signal == Signal::KILL && !AliveLock::wait_released(layout, name, CLEARING)? {
        let lock = OperationLock::acquire(layout, name)?;
        stop::end(layout, name, StopMode::Kill, &lock, &|_| ())?;
    }
    Ok(())
}
