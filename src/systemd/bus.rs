//! Blocking calls over D-Bus.
//!
//! Each piece of work has a connection and a current-thread runtime of its own, gone when it is
//! done: a supervisor must stay one thread, and must outlive every restart of the bus.

use std::path::Path;
use std::time::Duration;

use zbus::Connection;
use zbus::fdo;

use crate::error::{Context, Error, Result};

/// Runs `work` on a connection to the system bus, at most for `limit`.
///
/// It is run again when the bus is restarted in the middle, so that doing it twice must be as good
/// as once. Fails with `Kind::HostLacks` where there is no bus and with `Kind::TimedOut` at the limit.
pub(crate) fn run<T>(limit: Duration, mut work: impl AsyncFnMut(&Connection) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    runtime.context(|| "make a runtime")?.block_on(async {
        let done = async {
            loop {
                let connection = match zbus::connection::Builder::system().build().await {
                    Err(e) if is_ending(&e) => {
                        tokio::time::sleep(RESTART).await;
                        continue;
                    }
                    connection => connection.map_err(unreachable)?,
                };
                match work(&connection).await {
                    Err(_) if !is_alive(&connection).await => tokio::time::sleep(RESTART).await,
                    done => return done,
                }
            }
        };
        let timed = tokio::time::timeout(limit, done).await;
        timed.unwrap_or_else(|_| Err(Error::timed_out(format!("no answer over D-Bus within {}", seconds(limit)))))
    })
}

/// Runs `work` as [`run`] does, where `service` is running; `None` where it is not, or there is no bus.
/// It is not started for this.
pub(crate) fn run_with<T>(
    service: &str,
    limit: Duration,
    mut work: impl AsyncFnMut(&Connection) -> zbus::Result<T>,
) -> Result<Option<T>> {
    if !Path::new(SOCKET).exists() {
        return Ok(None);
    }
    run(limit, async |connection| {
        let has_owner = async {
            let bus = fdo::DBusProxy::new(connection).await?;
            zbus::Result::Ok(bus.name_has_owner(service.try_into()?).await?)
        };
        if !has_owner.await.map_err(error)? {
            return Ok(None);
        }
        work(connection).await.map(Some).map_err(error)
    })
}

const SOCKET: &str = "/run/dbus/system_bus_socket";

/// How long to wait after the bus has gone.
const RESTART: Duration = Duration::from_millis(50);

/// Whether a bus has closed a connection that was just being made, as one does that is restarted. Where there
/// is no bus, no connection is closed.
fn is_ending(e: &zbus::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match e {
        zbus::Error::InputOutput(e) => matches!(e.kind(), BrokenPipe | ConnectionReset | UnexpectedEof),
        zbus::Error::Handshake(_) => true,
        _ => false,
    }
}

/// Whether the bus still answers. A failure on a connection that has died says nothing of the work.
async fn is_alive(connection: &Connection) -> bool {
    let Ok(bus) = fdo::DBusProxy::new(connection).await else { return false };
    bus.get_id().await.is_ok()
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs())
}

fn unreachable(e: zbus::Error) -> Error {
    Error::host_lacks(format!("the system bus cannot be reached: {}", message(&e)))
        .hint("`systemctl status dbus.socket` shows its state")
}

/// The D-Bus error as ours: the message that the service gave.
pub(crate) fn error(e: zbus::Error) -> Error {
    Error::failed(message(&e))
}

fn message(e: &zbus::Error) -> String {
    match e {
        zbus::Error::MethodError(name, None, _) => name.to_string(),
        zbus::Error::MethodError(_, Some(message), _) => message.clone(),
        zbus::Error::FDO(e) => e.to_string(),
        other => other.to_string(),
    }
}

/// Whether the service does not exist on this host.
pub(crate) fn is_missing(e: &zbus::Error) -> bool {
    matches!(e, zbus::Error::FDO(e) if matches!(**e, fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_)))
        || has_name(e, "org.freedesktop.systemd1.NoSuchUnit")
        || has_name(e, "org.freedesktop.systemd1.UnitMasked")
}

/// Whether the service is too old to know the method.
pub(crate) fn is_unknown_method(e: &zbus::Error) -> bool {
    matches!(e, zbus::Error::FDO(e) if matches!(**e, fdo::Error::UnknownMethod(_) | fdo::Error::InvalidArgs(_)))
}

/// Whether the error has this D-Bus name.
pub(crate) fn has_name(e: &zbus::Error, name: &str) -> bool {
    matches!(e, zbus::Error::MethodError(found, ..) if found.as_str() == name)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_bus_that_hangs_up_is_tried_again_but_no_missing_one() {
        let failed = |kind: ErrorKind| zbus::Error::InputOutput(Arc::new(kind.into()));
        for kind in [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof] {
            assert!(is_ending(&failed(kind)), "{kind}");
        }
        for kind in [ErrorKind::NotFound, ErrorKind::ConnectionRefused, ErrorKind::PermissionDenied] {
            assert!(!is_ending(&failed(kind)), "{kind}");
        }
    }
}
