//! What the guest's init says on its notify socket (sd_notify(3), and systemd's container interface).

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;

/// What of a message matters to us.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub ready: bool,
    pub status: Option<String>,
    /// Init's signal handlers are installed (systemd 256 and newer).
    pub signals_installed: bool,
    /// Lines to pass on to the host's service manager as they are.
    pub text: String,
}

/// The next waiting message: `None` when there is none, `Some(None)` for one that is not `leader`'s.
pub fn receive(socket: &OwnedFd, leader: Pid) -> Option<Option<Message>> {
    let mut data = [0; 4096];
    let mut control = nix::cmsg_space!(libc::ucred, [i32; 8]);
    let mut buffers = [IoSliceMut::new(&mut data)];
    let received =
        recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC).ok()?;
    let mut sender = None;
    for message in received.cmsgs().into_iter().flatten() {
        match message {
            ControlMessageOwned::ScmCredentials(credentials) => sender = Some(credentials.pid()),
            // Descriptors (FDSTORE=1) are not for us: close them, or the guest fills our table.
            ControlMessageOwned::ScmRights(fds) => crate::sys::socket::close_received(fds),
            _ => {}
        }
    }
    let length = received.bytes;
    Some((sender == Some(leader.as_raw())).then(|| parse(&String::from_utf8_lossy(&data[..length]))))
}

fn parse(text: &str) -> Message {
    let mut message = Message { text: text.to_owned(), ..Message::default() };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_line_by_line_and_garbage_is_harmless() {
        let message = parse("READY=1\nSTATUS=Ready.\nX_SYSTEMD_SIGNALS_LEVEL=2\n\u{0}=\nREADY");
        assert!(message.ready && message.signals_installed);
        assert_eq!(message.status.as_deref(), Some("Ready."));
        assert!(!parse("READY=0").ready);
    }
}
