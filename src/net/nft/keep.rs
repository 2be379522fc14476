//! Keeps the tables: a process beside each bridge's server, with the rights that the server gave up.
//!
//! Firewalls of others flush everything when they are reloaded, and docker makes its chains when it
//! is started: the kernel tells of both, and what is missing is written again.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use rtnetlink::sys::{Socket, SocketAddr};

use super::super::firewall;
use super::{apply, is_whole};
use crate::error::{Context, Error, Result};
use crate::store::Layout;
use crate::sys;
use crate::sys::clone::{SingleThreaded, clone};

/// A change is seldom alone: repair when the kernel has been silent for so long…
const QUIET: u8 = 50; // milliseconds
/// …or has talked for so long.
const PATIENCE: Duration = Duration::from_millis(400);

const NETLINK_NETFILTER: isize = 12;
/// NFNLGRP_NFTABLES, as a bit.
const NFTABLES_GROUP: u32 = 1 << (7 - 1);
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// Tables and chains made and deleted, rules deleted (NFT_MSG_*): elements of sets come and go all
/// day and take nothing of ours away.
const TELLING: [u16; 5] = [0, 2, 3, 5, 8];

/// Starts the keeper; it ends with this process.
pub fn spawn(layout: &Layout) -> Result<()> {
    let witness = SingleThreaded::check()?;
    let parent = nix::unistd::getpid();
    let keeper = || match detach(parent).and_then(|server| Ok((server, subscribe()?))) {
        Ok((server, socket)) => {
            keep(layout, &Sources { server, socket });
            0
        }
        Err(e) => {
            eprintln!("keep the rules of the firewall: {e}");
            1
        }
    };
    clone(witness, 0, None, keeper).map(drop).context(|| "start the keeper of the firewall's rules")
}

/// Lets go of what belongs to the parent, for whoever waits for its output must not wait for us;
/// gives a hold of its life.
///
/// A death signal would not do: the parent gives up the right to send us one.
fn detach(parent: Pid) -> Result<OwnedFd> {
    sys::creds::close_from(3)?;
    let null = File::options().read(true).write(true).open("/dev/null").context(|| "open `/dev/null`")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    let server = sys::pidfd::open(parent)?;
    if nix::unistd::getppid() == parent { Ok(server) } else { Err(Error::failed("the server has ended")) }
}

/// What a keeper waits for.
struct Sources {
    server: OwnedFd,
    socket: Socket,
}

/// Repairs after every change, for as long as the server lives.
fn keep(layout: &Layout, sources: &Sources) {
    let mut said = String::new();
    loop {
        match repair(layout).and_then(|()| wait_for_change(sources)) {
            Ok(Event::Changed) => said.clear(),
            Ok(Event::ServerEnded) => return,
            Err(e) => {
                let line = e.to_string();
                if line != said {
                    eprintln!("{line}");
                    said = line;
                }
                // Whatever it is, it is not asked for again at once.
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

/// Writes again what is missing of our tables, and of what firewalls of others need.
pub fn repair(layout: &Layout) -> Result<()> {
    if !is_whole()? {
        apply(layout)?;
    }
    firewall::open(layout)
}

fn subscribe() -> Result<Socket> {
    let open = || -> std::io::Result<Socket> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, NFTABLES_GROUP))?;
        socket.set_non_blocking(true)?;
        Ok(socket)
    };
    open().context(|| "listen for changes of the firewall")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Changed,
    ServerEnded,
}

/// Waits for a change that may have taken something of ours, and for the end of its burst.
fn wait_for_change(sources: &Sources) -> Result<Event> {
    loop {
        match wait(sources, PollTimeout::NONE)? {
            Some(Event::ServerEnded) => return Ok(Event::ServerEnded),
            Some(Event::Changed) if drain(&sources.socket)? => break,
            _ => {}
        }
    }
    let quiet = PollTimeout::from(QUIET);
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && wait(sources, quiet)? == Some(Event::Changed) {
        drain(&sources.socket)?;
    }
    Ok(Event::Changed)
}

fn wait(sources: &Sources, limit: PollTimeout) -> Result<Option<Event>> {
    let mut fds = [sources.server.as_fd(), sources.socket.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut fds, limit) {
        Ok(0) | Err(nix::errno::Errno::EINTR) => Ok(None),
        Ok(_) if fds[0].any() == Some(true) => Ok(Some(Event::ServerEnded)),
        Ok(_) => Ok(Some(Event::Changed)),
        Err(e) => Err(Error::from(e).step("wait for changes of the firewall")),
    }
}

/// Takes what the kernel has said; says whether it concerns us.
fn drain(socket: &Socket) -> Result<bool> {
    let mut telling = false;
    let mut buffer = Vec::with_capacity(64 << 10);
    loop {
        buffer.clear();
        match socket.recv_from(&mut buffer, 0) {
            Ok((length, _)) => telling |= messages(&buffer[..length.min(buffer.len())]).any(is_telling),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(telling),
            // The kernel said more than the socket holds: we do not know what.
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => telling = true,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::from(e).step("receive changes of the firewall")),
        }
    }
}

/// The types of the netlink messages in a datagram (`struct nlmsghdr`: length, type, …).
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = u16> {
    std::iter::from_fn(move || {
        let header = datagram.get(..16)?;
        let length = u32::from_ne_bytes(header[..4].try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(header[4..6].try_into().ok()?);
        if length < 16 {
            return None;
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(kind)
    })
}

fn is_telling(kind: u16) -> bool {
    kind >> 8 == NFNL_SUBSYS_NFTABLES && TELLING.contains(&(kind & 0xff))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, length: u32, room: usize) -> Vec<u8> {
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat();
        bytes.resize(room, 0);
        bytes
    }

    #[test]
    fn deleted_tables_are_telling_and_new_elements_are_not() {
        let datagram = [message(0x0a0c, 18, 20), message(0x0a02, 20, 20)].concat();
        assert_eq!(messages(&datagram).map(is_telling).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn broken_datagrams_end_the_reading() {
        for datagram in [vec![], vec![1; 15], message(1, 3, 16), message(1, 4000, 16)] {
            assert!(messages(&datagram).count() <= 1);
        }
    }
}
