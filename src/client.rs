//! Talking to a running container's supervisor.

use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};
use crate::proto::control::{Reply, Request, StopStage, SupervisorStatus};
use crate::store::{AliveLock, BootRecord, Layout};
use crate::sys::socket::Packets;
use crate::types::ContainerName;

/// How long a supervisor may run without its socket: while it starts or ends.
const SOCKET: Duration = Duration::from_secs(10);

/// Connects to the supervisor; fails with `Kind::Conflict` when the container does not run.
pub(crate) fn connect(layout: &Layout, name: &ContainerName) -> Result<Packets> {
    layout.require(name)?;
    let deadline = Instant::now() + SOCKET;
    loop {
        match Packets::connect(&layout.control_socket(name)) {
            Ok(packets) => return Ok(packets),
            Err(_) if !AliveLock::is_held(layout, name)? => {
                return Err(layout.not_running(name));
            }
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ECONNREFUSED)) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(e) => {
                let error = e.step(format!("reach the supervisor of `{name}`"));
                return Err(match BootRecord::read(layout, name) {
                    // It takes the signal as a request to stop the guest.
                    Ok(Some(record)) => {
                        error.hint(format!("`kill {}` has the guest shut down in order", record.supervisor.pid))
                    }
                    _ => error,
                });
            }
        }
    }
}

/// The next reply; fails if the supervisor ends before it, or refuses.
pub(crate) fn reply(packets: &Packets) -> Result<(Reply, Vec<std::os::fd::OwnedFd>)> {
    match packets.recv::<Reply>()? {
        Some((Reply::Failed(e), _)) => Err(e),
        Some(reply) => Ok(reply),
        None => Err(Error::failed("the container's supervisor has ended")),
    }
}

/// The state of a running container; a supervisor that does not answer within `limit` is not waited for.
pub(crate) fn status(layout: &Layout, name: &ContainerName, limit: Duration) -> Result<SupervisorStatus> {
    let packets = ask(layout, name, &Request::Status)?;
    match packets.recv_within(limit).context(|| format!("ask the supervisor of `{name}`"))? {
        Some((Reply::Status(status), _)) => Ok(status),
        Some((other, _)) => Err(unexpected(&other)),
        None => Err(Error::failed("the container's supervisor has ended")),
    }
}

/// How long a supervisor may send nothing before it counts as stuck.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplyTimeout {
    /// Until its first reply.
    pub first: Duration,
    /// Until each further one: it cleans up after the guest, and may boot it again.
    pub then: Duration,
}

/// Asks for the guest's end and waits for it; returns the stop stage that was needed. `tell` is called at
/// each stage. Fails with `Kind::TimedOut` where the supervisor sends nothing for that long.
pub(crate) fn end(
    layout: &Layout,
    name: &ContainerName,
    request: &Request,
    timeout: ReplyTimeout,
    tell: &dyn Fn(StopStage),
) -> Result<StopStage> {
    follow_end(layout, name, &ask(layout, name, request)?, timeout, tell)
}

/// Sends a request; the answers come on the connection.
pub(crate) fn ask(layout: &Layout, name: &ContainerName, request: &Request) -> Result<Packets> {
    let packets = connect(layout, name)?;
    send(&packets, request).context(|| format!("ask the supervisor of `{name}`"))?;
    Ok(packets)
}

/// A supervisor that is about to end accepts no request: end of file is received then.
fn send(packets: &Packets, request: &Request) -> Result<()> {
    match packets.send(request, &[]) {
        Err(e) if matches!(e.errno(), Some(libc::EPIPE | libc::ECONNRESET)) => Ok(()),
        sent => sent,
    }
}

/// Waits for the end that was requested. A supervisor that closes the connection without a reply has ended:
/// that is `StopStage::Exited`, whether another client had asked before or it was killed.
pub(crate) fn follow_end(
    layout: &Layout,
    name: &ContainerName,
    asked: &Packets,
    timeout: ReplyTimeout,
    tell: &dyn Fn(StopStage),
) -> Result<StopStage> {
    let mut limit = timeout.first;
    loop {
        let said = asked.recv_within::<Reply>(limit);
        let said =
            said.map_err(|e| e.step(format!("wait for the supervisor of `{name}`")).hint(is_stuck(layout, name)))?;
        limit = timeout.then;
        let Some((reply, _)) = said else {
            let ended = AliveLock::wait_released(layout, name, Duration::from_secs(10))?;
            return if ended {
                Ok(StopStage::Exited)
            } else {
                Err(Error::timed_out("the container's supervisor does not answer"))
            };
        };
        match reply {
            Reply::Failed(e) => return Err(e),
            Reply::StopStage(stop_stage) => tell(stop_stage),
            Reply::Rebooted(stop_stage) => return Ok(stop_stage),
            Reply::Stopped(stop_stage) => {
                // It answers before it exits; who starts the container next needs its lock.
                AliveLock::wait_released(layout, name, Duration::from_secs(5))?;
                return Ok(stop_stage);
            }
            other => return Err(unexpected(&other)),
        }
    }
}

fn is_stuck(layout: &Layout, name: &ContainerName) -> String {
    let (info, stop) = (format_args!("info {name}"), format_args!("stop -k {name}"));
    format!("`{}` shows what it does; `{}` ends it without its help", layout.command(info), layout.command(stop))
}

/// A reply that the protocol does not have at this place.
pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::failed(format!("unexpected answer of the supervisor: {reply:?}"))
        .hint("the running supervisor may be of another version of lxm: restart the container")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::PacketListener;

    #[test]
    fn who_asks_a_supervisor_that_is_ending_hears_of_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control");
        let listener = PacketListener::bind(&socket).unwrap();
        // Connected and not accepted yet.
        let asking = Packets::connect(&socket).unwrap();
        drop(listener);
        assert!(asking.send(&Request::Status, &[]).is_err(), "the means are there");
        send(&asking, &Request::Status).unwrap();
        assert!(asking.recv::<Reply>().unwrap().is_none());
    }
}
