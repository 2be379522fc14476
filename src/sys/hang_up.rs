//! Ending connections of another process, which waits for an answer that nobody will give it.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::sys::socket::{Shutdown, UnixAddr, getpeername, shutdown};
use nix::unistd::Pid;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::error::{Context, Result};

/// A system's manager has some dozens of descriptors.
const MAX_DESCRIPTORS: usize = 4096;

/// Shuts down what process `pid`, behind `pidfd`, has connected to a socket whose path ends in `path`: it
/// reads an end of file. To be called in a child of its own, because what another process has opened may
/// be a file whose close waits for that process.
pub(crate) fn connections(pid: Pid, pidfd: impl AsFd, path: &Path) -> Result<()> {
    let dir = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&dir).context(|| format!("read `{dir}`"))?;
    for entry in entries.flatten().take(MAX_DESCRIPTORS) {
        if !fs::read_link(entry.path())
            .is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
        {
            continue;
        }
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have been closed meanwhile.
        let Ok(socket) = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) else { continue };
        let peer = getpeername::<UnixAddr>(socket.as_raw_fd());
        if peer.is_ok_and(|peer| peer.path().is_some_and(|bound| bound.ends_with(path))) {
            shutdown(socket.as_raw_fd(), Shutdown::Both).context(|| "shut down a connection")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn who_waits_for_an_answer_reads_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let connect = |name: &str| {
            let listener = UnixListener::bind(dir.path().join(name)).unwrap();
            (UnixStream::connect(dir.path().join(name)).unwrap(), listener)
        };
        // Nobody accepts them.
        let ((mut bus, _bus), (other, _other)) = (connect("bus_socket"), connect("my_bus_socket"));
        other.set_nonblocking(true).unwrap();
        let pid = nix::unistd::getpid();
        let pidfd = crate::sys::pidfd::open(pid).unwrap();
        connections(pid, &pidfd, Path::new("bus_socket")).unwrap();
        assert_eq!(bus.read(&mut [0]).unwrap(), 0);
        let waits = (&other).read(&mut [0]).unwrap_err();
        assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock, "another connection was shut down");
    }
}
