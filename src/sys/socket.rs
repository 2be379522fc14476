//! Sequenced-packet sockets with descriptors beside the data (unix(7)).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, connect, listen,
    sendmsg, setsockopt, socket, socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, Error, Result};

/// Most bytes of one message.
const MAX_MESSAGE: usize = 128 * 1024;
/// Most descriptors beside one message.
const MAX_FDS: usize = 8;
/// What the kernel lets a process send at once (SCM_MAX_FD).
const KERNELS_MOST_FDS: usize = 253;
/// How long a peer may not take what it is sent, and a listener not take connections: one that is stopped or
/// hung blocks no process for long.
const SEND_TIMEOUT: i64 = 10; // seconds

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
        setsockopt(&fd, sockopt::SendTimeout, &TimeVal::seconds(SEND_TIMEOUT)).context(|| "set up a socket")?;
        connect(fd.as_raw_fd(), &address).context(|| format!("connect to `{}`", path.display()))?;
        Ok(Packets(fd))
    }

    pub fn send<T: Serialize>(&self, message: &T, fds: &[RawFd]) -> Result<()> {
        self.send_as(message, fds, MsgFlags::empty())
    }

    /// As [`Self::send`], to a peer that is not waited for: fails where it has not taken what came before.
    pub fn send_now<T: Serialize>(&self, message: &T) -> Result<()> {
        self.send_as(message, &[], MsgFlags::MSG_DONTWAIT)
    }

    fn send_as<T: Serialize>(&self, message: &T, fds: &[RawFd], how: MsgFlags) -> Result<()> {
        let data = serde_json::to_vec(message).map_err(|e| Error::failed(e.to_string()))?;
        let control = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &control[..0] } else { &control[..] };
        // The peer may be gone: an error, not a signal that ends us.
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&data)], control, how | MsgFlags::MSG_NOSIGNAL, None)
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
        // As long as it is: memory for the longest would be mapped anew for each, in each process of a start.
        let mut none = [0_u8; 0];
        let length = loop {
            match rustix::net::recv(&self.0, &mut none, RecvFlags::PEEK | RecvFlags::TRUNC) {
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                other => break other.context(|| "receive a message")?.1,
            }
        };
        if length == 0 {
            return Ok(None);
        }
        let mut data = vec![0; length.min(MAX_MESSAGE)];
        let mut space = [const { MaybeUninit::uninit() }; rustix::cmsg_space!(ScmRights(KERNELS_MOST_FDS))];
        // Owns what it has received, whatever becomes of the message: the kernel may have installed some
        // descriptors and then have met the limit (MSG_CTRUNC, EMFILE).
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut buffers = [IoSliceMut::new(&mut data)];
            match rustix::net::recvmsg(&self.0, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
                // ECONNRESET: the peer died with a message of ours unread. The kernel tells that once
                // and before what the peer said last, which is still there to be read.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                other => break other.context(|| "receive a message")?,
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        let (length, truncated) = (
            received.bytes,
            received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || fds.len() > MAX_FDS,
        );
        if length == 0 {
            return Ok(None);
        }
        if truncated {
            return Err(Error::failed("a message is too long, or descriptors could not be received"));
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
pub(crate) struct PacketListener(OwnedFd);

impl PacketListener {
    /// Binds `path`, replacing what a dead predecessor left there; only root may connect.
    pub(crate) fn bind(path: &Path) -> Result<Self> {
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

    /// The next waiting connection, if there is one. An error may be over in a moment (EMFILE, ENOMEM)
    /// and says nothing of the listener; the connection waits on.
    pub(crate) fn accept(&self) -> Result<Option<Packets>> {
        match accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            // SAFETY: the kernel has just made this descriptor for us; it has no other owner.
            Ok(fd) => Ok(Some(Packets(unsafe { OwnedFd::from_raw_fd(fd) }))),
            Err(nix::errno::Errno::EAGAIN) => Ok(None),
            Err(e) => Err(e).context(|| "accept a connection"),
        }
    }
}

impl AsFd for PacketListener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether [`refuse_descriptors`] holds for a socket.
pub(crate) fn refuses_descriptors(socket: impl AsFd) -> bool {
    let mut value: i32 = 1;
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel writes one int, which outlives the call and whose true size is given.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    result == 0 && value == 0
}

/// socket(7), since Linux 6.16; libc does not have it.
const SO_PASSRIGHTS: i32 = 83;

/// Has the kernel refuse descriptors sent to a socket: the sender gets EPERM. Says whether it can, which
/// came with Linux 6.16.
pub(crate) fn refuse_descriptors(socket: impl AsFd) -> bool {
    let off: i32 = 0;
    // SAFETY: the kernel reads one int, which outlives the call and whose true size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const off).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    result == 0
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
    fn a_message_arrives_with_its_descriptors_and_the_end_is_seen() {
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
    fn last_messages_of_a_dead_peer_are_received() {
        let (ours, theirs) = Packets::pair().unwrap();
        ours.send(&Request::Status, &[]).unwrap();
        theirs.send(&Reply::Done, &[]).unwrap();
        drop(theirs);
        assert!(matches!(ours.recv::<Reply>().unwrap(), Some((Reply::Done, _))));
        assert!(ours.recv::<Reply>().unwrap().is_none());
    }
}
