//! What the guest's init says on its notify socket (sd_notify(3), and systemd's container interface).
//!
//! The socket is the guest's to write to, so it is read with care: only init is believed, descriptors are
//! never taken, and messages are read at a limited rate ([`RateLimit`]).

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;

use crate::sys;

/// How long letting go of what was sent along may take, where it cannot be refused.
const LINGER: Duration = Duration::from_millis(5);

/// What of a message matters to us.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Notification {
    pub ready: bool,
    pub status: Option<String>,
    /// Init's signal handlers are installed (systemd 256 and newer).
    pub signals_installed: bool,
    /// Lines to pass on to the host's service manager as they are.
    pub text: String,
}

/// The next waiting message: `None` when there is none, `Some(None)` for one that is not `leader`'s.
///
/// There is room for the sender's credentials and nothing else, so that no descriptor is ever
/// installed: closing one may wait forever for the guest (a FUSE file is flushed by close(2)), and
/// enough of them fill our table. The kernel then drops them, and with them the message is not believed.
///
/// To drop the last reference of a socket that lingers takes as long as its sender has set (socket(7),
/// SO_LINGER), in this call of ours, but ends with a pending signal (sk_stream_wait_close in the kernel's
/// net/core/stream.c). Since Linux 6.16 none are sent here at all.
pub(super) fn receive(socket: &OwnedFd, leader: Pid) -> Option<Option<Notification>> {
    let mut data = [0; 4096];
    let (length, sender) = match sys::socket::refuses_descriptors(socket) {
        true => read(socket, &mut data)?,
        false => sys::signals::interrupted_every(LINGER, || read(socket, &mut data)).ok()??,
    };
    Some((sender == Some(leader)).then(|| parse(&String::from_utf8_lossy(&data[..length]))))
}

/// A message's length and its sender; `None` when there is none.
fn read(socket: &OwnedFd, data: &mut [u8]) -> Option<(usize, Option<Pid>)> {
    let mut control = nix::cmsg_space!(libc::ucred);
    let mut buffers = [IoSliceMut::new(data)];
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut control), MsgFlags::MSG_DONTWAIT).ok()?;
    let sender = received.cmsgs().into_iter().flatten().find_map(|message| match message {
        ControlMessageOwned::ScmCredentials(credentials) => Some(Pid::from_raw(credentials.pid())),
        _ => None,
    });
    Some((received.bytes, sender))
}

fn parse(text: &str) -> Notification {
    let mut message = Notification { text: text.to_owned(), ..Notification::default() };
    for line in text.lines() {
        match line.split_once('=') {
            Some(("READY", "1")) => message.ready = true,
            Some(("STATUS", status)) => message.status = Some(status.to_owned()),
            Some(("X_SYSTEMD_SIGNALS_LEVEL", level)) => message.signals_installed = level >= "2",
            _ => {}
        }
    }
    message
}

/// How many messages are read: a burst, which a booting systemd stays far below, and then some a second. The
/// others wait in the socket, and who sends them waits with them; so the host's service manager, to which
/// they are passed on, gets no more of them either.
#[derive(Debug)]
pub(super) struct RateLimit {
    /// Messages that may be read now.
    left: u32,
    filled: Instant,
}

impl RateLimit {
    pub(super) const BURST: u32 = 256;
    /// One more may be read after each of these.
    const PERIOD: Duration = Duration::from_millis(50);

    pub(super) fn new() -> Self {
        RateLimit { left: Self::BURST, filled: Instant::now() }
    }

    /// How long until one may be read, zero for now.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        let periods = now.saturating_duration_since(self.filled).as_millis() / Self::PERIOD.as_millis();
        let more = u32::try_from(periods).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(Self::BURST);
            // Not `now`: what is left of a period counts too.
            self.filled = now - (now.saturating_duration_since(self.filled) - Self::PERIOD.saturating_mul(more));
        }
        match self.left {
            0 => Self::PERIOD.saturating_sub(now.saturating_duration_since(self.filled)),
            _ => Duration::ZERO,
        }
    }

    /// One has been read.
    pub(super) fn took(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{
        AddressFamily, ControlMessage, SockFlag, SockType, sendmsg, setsockopt, socketpair, sockopt,
    };

    use super::*;

    /// The last reference to a connection that lingers for a minute over what is never read.
    #[test]
    fn a_lingering_socket_delays_nothing() {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::SOCK_CLOEXEC).unwrap();
        setsockopt(&ours, sockopt::PassCred, &true).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let speaker = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let silent = listener.accept().unwrap();
        setsockopt(&speaker, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 60 }).unwrap();
        speaker.set_nonblocking(true).unwrap();
        while std::io::Write::write(&mut &speaker, &[0; 65536]).is_ok() {}
        let fds = [speaker.as_raw_fd()];
        let words = [std::io::IoSlice::new(b"READY=1")];
        sendmsg::<()>(theirs.as_raw_fd(), &words, &[ControlMessage::ScmRights(&fds)], MsgFlags::empty(), None).unwrap();
        // Ours are the last references but the one under way; this one does not wait.
        nix::unistd::close(std::os::fd::IntoRawFd::into_raw_fd(speaker)).unwrap();
        let begun = Instant::now();
        let _ = receive(&ours, Pid::from_raw(1));
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        drop(silent);
    }

    #[test]
    fn a_message_is_read_line_by_line_and_garbage_is_harmless() {
        let message = parse("READY=1\nSTATUS=Ready.\nX_SYSTEMD_SIGNALS_LEVEL=2\n\u{0}=\nREADY");
        assert!(message.ready && message.signals_installed);
        assert_eq!(message.status.as_deref(), Some("Ready."));
        assert!(!parse("READY=0").ready);
    }

    #[test]
    fn descriptors_of_a_message_are_never_installed() {
        let pair = || socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let (ours, theirs) = pair();
        setsockopt(&ours, sockopt::PassCred, &true).unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let fds = vec![writer.as_raw_fd(); 20];
        let send = |fds: &[i32]| {
            let rights = [ControlMessage::ScmRights(fds)];
            let data = [std::io::IoSlice::new(b"READY=1")];
            sendmsg::<()>(theirs.as_raw_fd(), &data, &rights[..fds.len().min(1)], MsgFlags::empty(), None)
        };
        send(&fds).unwrap();
        drop(writer);
        assert_eq!(receive(&ours, nix::unistd::getpid()), Some(None), "it came with descriptors");
        // Were one of them open still, the pipe would not be at its end.
        assert!(super::super::super::sys::poll::wait_readable(&reader, Duration::from_secs(10)).unwrap());
        assert_eq!(nix::unistd::read(&reader, &mut [0]).unwrap(), 0);
        send(&[]).unwrap();
        assert!(receive(&ours, nix::unistd::getpid()).unwrap().unwrap().ready);
        if crate::sys::socket::refuse_descriptors(&ours) {
            assert_eq!(send(&[reader.as_raw_fd()]), Err(nix::errno::Errno::EPERM));
        }
    }

    #[test]
    fn a_flood_is_read_at_a_pace_and_a_burst_at_once() {
        let (mut flow, start) = (RateLimit::new(), Instant::now());
        let mut read = |after: Duration| {
            let mut count = 0;
            while flow.wait(start + after).is_zero() {
                flow.took();
                count += 1;
            }
            count
        };
        assert_eq!(read(Duration::ZERO), RateLimit::BURST);
        assert_eq!(read(Duration::from_millis(10)), 0);
        assert!((19..=21).contains(&read(Duration::from_secs(1))));
        assert_eq!(read(Duration::from_secs(3600)), RateLimit::BURST, "silence saves no more than a burst");
    }
}
