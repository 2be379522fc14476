//! Sequenced-packet sockets with descriptors beside the data (unix(7)).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind,
    connect, listen, recvmsg, sendmsg, socket, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, Error, Result};

/// Most bytes of one message.
const MAX_MESSAGE: usize = 128 * 1024;
/// Most descriptors beside one message.
const MAX_FDS: usize = 8;

/// One end of a connection that carries whole messages.
#[derive(Debug)]
pub struct Packets(OwnedFd);

impl Packets {
    /// A connected pair.
    pub fn pair() -> Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .context(|| "make a socket pair")?;
        Ok((Packets(a), Packets(b)))
    }

    pub fn connect(path: &Path) -> Result<Self> {
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
            .context(|| "make a socket")?;
        let (address, _dir) = address(path)?;
        connect(fd.as_raw_fd(), &address).context(|| format!("connect to `{}`", path.display()))?;
        Ok(Packets(fd))
    }

    pub fn send<T: Serialize>(&self, message: &T, fds: &[RawFd]) -> Result<()> {
        let data = serde_json::to_vec(message).map_err(|e| Error::failed(e.to_string()))?;
        let control = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &control[..0] } else { &control[..] };
        // The peer may be gone: an error, not a signal that ends us.
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&data)], control, MsgFlags::MSG_NOSIGNAL, None)
            .map(drop)
            .context(|| "send a message")
    }

    /// As [`Self::recv`]; fails with `Kind::TimedOut` when nothing comes within `limit`.
    pub fn recv_within<T: DeserializeOwned>(&self, limit: std::time::Duration) -> Result<Option<(T, Vec<OwnedFd>)>> {
        let came = super::poll::wait_readable(self, limit).context(|| "wait for a message")?;
        if came { self.recv() } else { Err(Error::timed_out("no answer came")) }
    }

    /// The next message and its descriptors; `None` at the end of the connection.
    pub fn recv<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>> {
        let mut data = vec![0; MAX_MESSAGE];
        let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
        let mut buffers = [IoSliceMut::new(&mut data)];
        let received = loop {
            match recvmsg::<()>(self.0.as_raw_fd(), &mut buffers, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
                // ECONNRESET: the peer died with a message of ours unread. The kernel tells that once
                // and before what the peer said last, which is still there to be read.
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNRESET) => {}
                other => break other.context(|| "receive a message")?,
            }
        };
        let mut fds = Vec::new();
        for message in received.cmsgs().context(|| "receive descriptors")? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just installed these descriptors for us; nobody else owns them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let (length, truncated) =
            (received.bytes, received.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC));
        if length == 0 {
            return Ok(None);
        }
        if truncated {
            return Err(Error::failed("a message is too long"));
        }
        let message = serde_json::from_slice(&data[..length]);
        message.map(|message| Some((message, fds))).map_err(|e| Error::failed(format!("a message is malformed: {e}")))
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Packets {
    fn from(fd: OwnedFd) -> Self {
        Packets(fd)
    }
}

impl From<Packets> for OwnedFd {
    fn from(packets: Packets) -> Self {
        packets.0
    }
}

/// A listening socket at a path of the file system.
#[derive(Debug)]
pub struct PacketListener(OwnedFd);

impl PacketListener {
    /// Binds `path`, replacing what a dead predecessor left there; only root may connect.
    pub fn bind(path: &Path) -> Result<Self> {
        let make = || -> Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
            let _ = std::fs::remove_file(path);
            let (address, _dir) = address(path)?;
            bind(fd.as_raw_fd(), &address)?;
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            listen(&fd, Backlog::new(64)?)?;
            Ok(fd)
        };
        make().map(PacketListener).context(|| format!("listen on `{}`", path.display()))
    }

    /// The next waiting connection, if there is one.
    pub fn accept(&self) -> Result<Option<Packets>> {
        match accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
            Ok(fd) => Ok(Some(Packets(unsafe { OwnedFd::from_raw_fd(fd) }))),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::ECONNABORTED | nix::errno::Errno::EINTR) => Ok(None),
            Err(e) => Err(e).context(|| "accept a connection"),
        }
    }
}

impl AsFd for PacketListener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Closes descriptors that came beside a message and are not wanted.
pub fn close_received(fds: Vec<RawFd>) {
    for fd in fds {
        // SAFETY: the kernel has just installed the descriptor for us; nobody else owns it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// The address of a path of any length: sun_path holds 107 bytes, so a longer one goes through
/// /proc/self/fd of its directory, which must stay open for the call.
fn address(path: &Path) -> Result<(UnixAddr, Option<OwnedFd>)> {
    if path.as_os_str().len() < 108 {
        return Ok((UnixAddr::new(path)?, None));
    }
    let (dir, name) = path.parent().zip(path.file_name()).ok_or_else(|| Error::failed("a socket needs a file name"))?;
    let dir = super::fs::open_dir(dir)?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    Ok((UnixAddr::new(&short)?, Some(dir)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::control::{Reply, Request};

    #[test]
    fn a_message_and_its_descriptors_arrive_together_and_the_end_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("d".repeat(100));
        std::fs::create_dir(&long).unwrap();
        let listener = PacketListener::bind(&long.join("control.sock")).unwrap();
        let client = Packets::connect(&long.join("control.sock")).unwrap();
        client.send(&Request::Status, &[0, 1]).unwrap();
        let server = listener.accept().unwrap().expect("a connection waits");
        let (request, fds) = server.recv::<Request>().unwrap().unwrap();
        assert!(matches!(request, Request::Status));
        assert_eq!(fds.len(), 2);
        drop(server);
        assert!(client.recv::<Reply>().unwrap().is_none());
    }

    #[test]
    fn last_words_are_heard_although_the_speaker_died_without_listening() {
        let (ours, theirs) = Packets::pair().unwrap();
        ours.send(&Request::Status, &[]).unwrap();
        theirs.send(&Reply::Done, &[]).unwrap();
        drop(theirs);
        assert!(matches!(ours.recv::<Reply>().unwrap(), Some((Reply::Done, _))));
        assert!(ours.recv::<Reply>().unwrap().is_none());
    }
}
