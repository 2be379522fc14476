use std::time::Duration;

use crate::attach::control::{connect, reply, unexpected};
use crate::error::Result;
use crate::proto::control::{Reply, Request, Rung, Stop};
use crate::store::{AliveLock, Layout, OperationLock};
use crate::types::ContainerName;

/// How to end a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// In order, killed when it takes longer.
    Graceful {
        limit: Duration,
    },
    Kill,
}

impl How {
    fn message(self) -> Stop {
        match self {
            How::Kill => Stop { timeout_ms: 0 },
            How::Graceful { limit } => Stop { timeout_ms: limit.as_millis().clamp(1, u128::from(u64::MAX)) as u64 },
        }
    }
}

/// Stops a container and waits until nothing of it is left; says what it took.
///
/// `tell` hears of each step. Fails with `Kind::Conflict` if it does not run.
pub fn stop(layout: &Layout, name: &ContainerName, how: How, tell: impl Fn(Rung)) -> Result<Rung> {
    let _lock = OperationLock::acquire(layout, name)?;
    let rung = request(layout, name, &Request::Stop(how.message()), tell)?;
    // The supervisor answers before it exits; who starts the container next needs its lock.
    AliveLock::wait_released(layout, name, Duration::from_secs(5))?;
    Ok(rung)
}

/// Reboots a guest in its own way under the same supervisor, as `reboot` inside would.
pub fn restart(layout: &Layout, name: &ContainerName, how: How, tell: impl Fn(Rung)) -> Result<Rung> {
    let _lock = OperationLock::acquire(layout, name)?;
    request(layout, name, &Request::Reboot(how.message()), tell)
}

fn request(layout: &Layout, name: &ContainerName, request: &Request, tell: impl Fn(Rung)) -> Result<Rung> {
    let packets = connect(layout, name)?;
    packets.send(request, &[])?;
    loop {
        match reply(&packets)?.0 {
            Reply::Rung(rung) => tell(rung),
            Reply::Stopped(rung) | Reply::Rebooted(rung) => return Ok(rung),
            other => return Err(unexpected(&other)),
        }
    }
}
