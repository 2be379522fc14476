//! Moving bytes between our standard input and output and a terminal of the guest.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal as Sig;
use nix::sys::signalfd::SignalFd;

use crate::error::{Context, Result};
use crate::sys;
use crate::sys::socket::Packets;

/// Waits for whatever comes first: a signal, a message, output of the guest, or input for it.
pub struct Relay {
    signals: SignalFd,
    reads_input: bool,
}

/// What came. One at a time: the last thing the guest wrote is taken before the news of its end.
#[derive(Debug)]
pub enum Event {
    Signal(i32),
    /// The control connection has a message or has ended.
    Packet,
    /// The guest has written, or hung up.
    Output,
    Input(Vec<u8>),
    InputEnd,
    Nothing,
}

impl Relay {
    pub fn new(signals: &[Sig]) -> Result<Self> {
        Ok(Relay { signals: sys::signals::descriptor(signals)?, reads_input: false })
    }

    pub fn read_input(&mut self) {
        self.reads_input = true;
    }

    pub fn wait(&mut self, packets: &Packets, guest: Option<BorrowedFd<'_>>) -> Result<Event> {
        let stdin = std::io::stdin();
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![readable(self.signals.as_fd()), readable(packets.as_fd())];
        fds.extend(guest.map(readable));
        if self.reads_input {
            fds.push(readable(stdin.as_fd()));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Event::Nothing),
            Err(e) => return Err(e).context(|| "wait for input"),
        }
        let happened: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if happened[0] {
            let signal = self.signals.read_signal().context(|| "read a signal")?;
            return Ok(signal.map_or(Event::Nothing, |info| Event::Signal(info.ssi_signo as i32)));
        }
        if happened[1] {
            return Ok(Event::Packet);
        }
        if guest.is_some() && happened[2] {
            return Ok(Event::Output);
        }
        if self.reads_input && happened.last() == Some(&true) {
            return self.take_input();
        }
        Ok(Event::Nothing)
    }

    fn take_input(&mut self) -> Result<Event> {
        let mut buffer = [0; 4096];
        match nix::unistd::read(std::io::stdin(), &mut buffer) {
            Ok(0) => {
                self.reads_input = false;
                Ok(Event::InputEnd)
            }
            Ok(length) => Ok(Event::Input(buffer[..length].to_vec())),
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(Event::Nothing),
            // A terminal that was taken away reads as an error.
            Err(_) => {
                self.reads_input = false;
                Ok(Event::InputEnd)
            }
        }
    }

    /// Writes to the guest what was typed. One that takes nothing for ten seconds loses it: a frozen
    /// guest must not make us deaf to signals.
    pub fn send_input(&self, guest: impl AsFd, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let mut fds = [PollFd::new(guest.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut fds, sys::poll::timeout(Duration::from_secs(10))).context(|| "wait for the guest")? == 0 {
                return Ok(());
            }
            match nix::unistd::write(guest.as_fd(), data) {
                Ok(written) => data = &data[written..],
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                // It has just gone; its end is on its way to us.
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Copies to standard output what the guest has written so far; says whether it goes on.
    pub fn copy_output(&self, guest: impl AsFd) -> bool {
        let mut buffer = [0; 16384];
        match nix::unistd::read(guest.as_fd(), &mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(&buffer[..length]).and_then(|()| stdout.flush()).is_ok()
            }
            Err(e) => matches!(e, Errno::EINTR | Errno::EAGAIN),
        }
    }
}

/// Copies what is left in a terminal whose command has ended.
pub fn drain(guest: impl AsFd) -> Result<()> {
    rustix::io::ioctl_fionbio(guest.as_fd(), true).context(|| "drain the terminal")?;
    let mut buffer = [0; 16384];
    let mut stdout = std::io::stdout().lock();
    while let Ok(length @ 1..) = nix::unistd::read(guest.as_fd(), &mut buffer) {
        if stdout.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = stdout.flush();
    Ok(())
}
