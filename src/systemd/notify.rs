//! What a service tells systemd: readiness, status, watchdog (sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::error::{Context, Error, Result};

/// The socket that systemd gave this service.
///
/// Not the crate sd-notify, which makes a socket for each message: ours is made while the descriptors
/// of a supervisor suffice, and tells its watchdog still when they do not.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: UnixDatagram,
    to: SocketAddr,
    /// How often systemd wants to hear that we are alive.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From the environment; `None` when no service manager listens.
    pub(crate) fn from_env() -> Result<Option<Self>> {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
        let bytes = path.as_encoded_bytes();
        let to = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&path),
        };
        let to = to.context(|| format!("understand NOTIFY_SOCKET, `{}`", path.display()))?;
        let socket = UnixDatagram::unbound().context(|| "make a socket")?;
        Ok(Some(Notifier { socket, to, watchdog: watchdog()? }))
    }

    /// Sends one message. If systemd cannot take it, that cannot be reported.
    pub(crate) fn tell(&self, message: &str) {
        let _ = self.socket.send_to_addr(message.as_bytes(), &self.to);
    }

    /// How long this process may be silent: half of what systemd waits (sd_watchdog_enabled(3)).
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog.map(|interval| interval / 2)
    }
}

fn watchdog() -> Result<Option<Duration>> {
    let Ok(text) = std::env::var("WATCHDOG_USEC") else { return Ok(None) };
    let ours = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
    let micros: u64 = text.parse().map_err(|_| Error::failed(format!("WATCHDOG_USEC is `{text}`")))?;
    Ok(Some(Duration::from_micros(micros)).filter(|interval| ours && !interval.is_zero()))
}

/// What of a guest's message its host may hear: the status and the X_SYSTEMD_ fields.
///
/// Not MAINPID, FDSTORE, NOTIFYACCESS and the like, which would be about us.
pub(crate) fn passed_on(message: &str) -> String {
    let allowed = |line: &&str| {
        let key = line.split_once('=').map_or("", |(key, _)| key);
        key == "STATUS" || key.starts_with("X_SYSTEMD_")
    };
    let lines: Vec<&str> = message.lines().filter(allowed).filter(|line| !line.contains('\0')).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_speak_for_its_supervisor() {
        let told =
            "READY=1\nSTATUS=Ready.\nMAINPID=1\nNOTIFYACCESS=all\nX_SYSTEMD_UNIT_ACTIVE=ssh.target\nWATCHDOG=1\nSTATUS";
        assert_eq!(passed_on(told), "STATUS=Ready.\nX_SYSTEMD_UNIT_ACTIVE=ssh.target");
        assert_eq!(passed_on("FDSTORE=1"), "");
    }
}
