//! Keeps the tables, and the server: a process beside each bridge's server, with the rights that the
//! server gave up.
//!
//! Firewalls of others flush everything when they are reloaded, and docker makes its chains when it
//! is started: the kernel tells of both, and what is missing is written again. A server that was
//! killed is started again, where no service manager does that.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use caps::Capability;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::sys::{Socket, SocketAddr};

use super::super::wire::{Wire, index_of};
use super::super::{bridge, firewall, neighbours, serve};
use super::{apply, is_whole};
use crate::error::{Context, Error, Result};
use crate::store::Layout;
use crate::sys;
use crate::sys::clone::{SingleThreaded, clone};
use crate::types::Mac;

/// A change is seldom alone: repair when the kernel has been silent for so long…
const QUIET: u8 = 50; // milliseconds
/// …or has talked for so long.
const PATIENCE: Duration = Duration::from_millis(400);
/// How often to look whether the old iptables filters anything, of which the kernel does not tell.
const LOOK: u16 = 2000; // milliseconds
/// How long a killed server stays away, and how much longer each time that it cannot be started.
const AWAY: Duration = Duration::from_millis(200);
const AWAY_AT_MOST: Duration = Duration::from_secs(30);

/// What a keeper keeps. The rest of root's rights is not its, nor of the programs that it executes.
const KEPT: [Capability; 11] = [
    // The firewall's rules, and what the host knows of its neighbours.
    Capability::CAP_NET_ADMIN,
    // A server that was killed is started again: it opens the sockets of leases and of names,
    Capability::CAP_NET_RAW,
    Capability::CAP_NET_BIND_SERVICE,
    // gives its directory to its user,
    Capability::CAP_CHOWN,
    Capability::CAP_FOWNER,
    Capability::CAP_DAC_OVERRIDE,
    // names who has port 53, ends a predecessor,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_KILL,
    // becomes that user, and drops the rest itself.
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
];

const NETLINK_NETFILTER: isize = 12;
/// NFNLGRP_NFTABLES, as a bit.
const NFTABLES_GROUP: u32 = 1 << (7 - 1);
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// Tables and chains made and deleted, rules deleted (NFT_MSG_*): elements of sets come and go all
/// day and take nothing of ours away.
const TELLING: [u16; 5] = [0, 2, 3, 5, 8];

/// What the server says, in messages of one length: a kind, a station and an address. So short that
/// a pipe takes and gives each whole (pipe(7)).
const MESSAGE: usize = 11;
const WILL_BE_MISSED: u8 = b'!';
const WANTS_TO_END: u8 = b'.';
const HANDED_ON: u8 = b'>';
const TAKEN_BACK: u8 = b'<';

/// The server's hold of its keeper, which ends with it.
#[derive(Debug)]
pub struct Keeper(OwnedFd);

impl Keeper {
    /// From now on the server is started again when it ends without a word.
    pub fn revive_me(&self) -> Result<()> {
        self.say(WILL_BE_MISSED, Mac([0; 6]), Ipv4Addr::UNSPECIFIED)
    }

    /// The server ends because it was told to.
    pub fn let_me_go(&self) -> Result<()> {
        self.say(WANTS_TO_END, Mac([0; 6]), Ipv4Addr::UNSPECIFIED)
    }

    /// A leased address is another station's from now on.
    pub fn hand_on(&self, mac: Mac, address: Ipv4Addr) -> Result<()> {
        self.say(HANDED_ON, mac, address)
    }

    /// A leased address is nobody's from now on.
    pub fn take_back(&self, address: Ipv4Addr) -> Result<()> {
        self.say(TAKEN_BACK, Mac([0; 6]), address)
    }

    fn say(&self, kind: u8, mac: Mac, address: Ipv4Addr) -> Result<()> {
        let mut message = [kind; MESSAGE];
        message[1..7].copy_from_slice(&mac.0);
        message[7..].copy_from_slice(&address.octets());
        nix::unistd::write(&self.0, &message).map(drop).context(|| "speak to the keeper of the firewall's rules")
    }
}

/// Starts the keeper of a bridge's server, which is this process.
pub fn spawn(layout: &Layout, bridge: &str) -> Result<Keeper> {
    let witness = SingleThreaded::check()?;
    let (words, hold) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context(|| "make a pipe")?;
    let prepare = || -> Result<Socket> {
        detach(&words)?;
        let socket = subscribe()?;
        sys::privileges::confine_helper(&KEPT)?;
        Ok(socket)
    };
    let keeper = || match prepare() {
        Ok(socket) => {
            let mut sources = Sources { server: std::io::stdin(), is_missed: false, holders: BTreeMap::new(), socket };
            keep(layout, bridge, &mut sources);
            if sources.is_missed {
                revive(layout, bridge);
            }
            0
        }
        Err(e) => {
            crate::sys::log::line(&format!("keep the rules of the firewall: {e}"));
            1
        }
    };
    clone(witness, 0, None, keeper).context(|| "start the keeper of the firewall's rules")?;
    Ok(Keeper(hold))
}

/// Lets go of what belongs to the server, for whoever waits for its output must not wait for us; its
/// words, whose end is the server's, become our standard input.
fn detach(words: &OwnedFd) -> Result<()> {
    nix::unistd::dup2_stdin(words)?;
    sys::creds::close_from(3)?;
    let null = File::options().write(true).open("/dev/null").context(|| "open `/dev/null`")?;
    nix::unistd::dup2_stdout(&null).context(|| "let go of standard output")
}

/// Starts the server again, for as long as there is a bridge to serve.
fn revive(layout: &Layout, bridge: &str) {
    let mut away = AWAY;
    while bridge::exists(bridge) {
        std::thread::sleep(away);
        match serve::revive(layout, bridge) {
            Ok(()) => return,
            Err(e) => crate::sys::log::line(&e.to_string()),
        }
        away = (away * 2).min(AWAY_AT_MOST);
    }
}

/// What a keeper waits for.
struct Sources {
    server: std::io::Stdin,
    /// Whether the server wants to be started again.
    is_missed: bool,
    /// Addresses handed on, and to whom if to anybody, that the rules do not know yet.
    holders: BTreeMap<Ipv4Addr, Option<Mac>>,
    socket: Socket,
}

/// Takes addresses from who had them, in what the host knows and in what its rules believe.
fn hand_on(layout: &Layout, bridge: &str, holders: &BTreeMap<Ipv4Addr, Option<Mac>>) -> Result<()> {
    let is_stale = |address: IpAddr, station: Mac| {
        let IpAddr::V4(address) = address else { return false };
        holders.get(&address).is_some_and(|holder| *holder != Some(station))
    };
    let wire = Wire::new()?;
    let host = wire.open()?;
    let forgotten = wire.run(async { neighbours::forget(&host, index_of(&host, bridge).await?, is_stale).await });
    super::hand_on(layout, holders).and(forgotten)
}

/// Repairs after every change, for as long as the server lives.
fn keep(layout: &Layout, bridge: &str, sources: &mut Sources) {
    let mut said = String::new();
    let mut repaired = repair(layout);
    loop {
        match repaired.and_then(|()| wait_for_change(sources)) {
            Ok(Event::ServerEnded) => return,
            Ok(Event::Looked) => {
                repaired = if firewall::has_legacy() { firewall::open_legacy(layout) } else { Ok(()) };
                continue;
            }
            Ok(Event::HandedOn) => {
                repaired = hand_on(layout, bridge, &std::mem::take(&mut sources.holders));
                continue;
            }
            Ok(Event::Changed) => said.clear(),
            Err(e) => {
                let line = e.to_string();
                if line != said {
                    crate::sys::log::line(&line);
                    said = line;
                }
                // Whatever it is, it is not asked for again at once.
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        repaired = repair(layout);
    }
}

/// Writes again what is missing of our tables, and of what firewalls of others need.
pub fn repair(layout: &Layout) -> Result<()> {
    if !is_whole(layout)? {
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
    /// Nothing was told of for a while.
    Looked,
    HandedOn,
    ServerEnded,
}

/// Waits for a change that may have taken something of ours, and for the end of its burst.
fn wait_for_change(sources: &mut Sources) -> Result<Event> {
    loop {
        match wait(sources, PollTimeout::from(LOOK))? {
            Some(Event::Changed) if drain(&sources.socket)? => break,
            Some(Event::Changed) => {}
            Some(event) => return Ok(event),
            None => return Ok(Event::Looked),
        }
    }
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match wait(sources, PollTimeout::from(QUIET))? {
            Some(Event::Changed) => drop(drain(&sources.socket)?),
            Some(event) => return Ok(event),
            None => break,
        }
    }
    Ok(Event::Changed)
}

fn wait(sources: &mut Sources, limit: PollTimeout) -> Result<Option<Event>> {
    loop {
        let mut fds = [sources.server.as_fd(), sources.socket.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, limit) {
            Ok(0) => return Ok(None),
            Ok(_) if fds[0].any() == Some(true) => {
                if let Some(event) = listen(sources)? {
                    return Ok(Some(event));
                }
            }
            Ok(_) => return Ok(Some(Event::Changed)),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(Error::from(e).step("wait for changes of the firewall")),
        }
    }
}

/// Takes what the server has said.
fn listen(sources: &mut Sources) -> Result<Option<Event>> {
    let mut words = [0; 512 * MESSAGE];
    let length = match nix::unistd::read(&sources.server, &mut words) {
        Ok(0) => return Ok(Some(Event::ServerEnded)),
        Ok(length) => length,
        Err(nix::errno::Errno::EINTR) => return Ok(None),
        Err(e) => return Err(Error::from(e).step("listen to the server")),
    };
    for message in words[..length].chunks_exact(MESSAGE) {
        let [kind, a, b, c, d, e, f, ref address @ ..] = *message else { continue };
        match kind {
            WILL_BE_MISSED => sources.is_missed = true,
            WANTS_TO_END => sources.is_missed = false,
            HANDED_ON | TAKEN_BACK => {
                let address = <[u8; 4]>::try_from(address).map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from);
                sources.holders.insert(address, (kind == HANDED_ON).then_some(Mac([a, b, c, d, e, f])));
            }
            _ => {}
        }
    }
    Ok((!sources.holders.is_empty()).then_some(Event::HandedOn))
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
