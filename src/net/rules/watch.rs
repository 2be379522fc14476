//! Watches over the tables, the links and the server: a process beside each bridge's server, with the rights
//! that the server gave up.
//!
//! Firewalls of others flush everything when they are reloaded, and docker makes its chains when it is
//! started; network managers take links that they do not know. The kernel reports all of it, and what is
//! missing is made again. A server that was killed is started again, where no service manager does that.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use caps::Capability;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use rtnetlink::sys::{Socket, SocketAddr};

use super::apply::{apply, is_whole};
use super::learnt;
use crate::error::{Context, Error, Result};
use crate::net::netlink::{Netlink, index_of};
use crate::net::repair::{self, LinkEvents, messages};
use crate::net::{bridge, firewall, neighbours};
use crate::netserver::watchdog::{Watchdog, WatchdogMessage, receive};
use crate::store::Layout;
use crate::sys;
use crate::sys::clone::{SingleThreaded, clone};
use crate::sys::poll::timeout;
use crate::types::{Generation, Mac};

/// A change is seldom alone: repair when the kernel has been silent for so long…
const QUIET: u8 = 50; // milliseconds
/// …or has talked for so long.
const BURST_TIMEOUT: Duration = Duration::from_millis(400);
/// How often to look whether the old iptables filters anything, which the kernel does not report.
const POLL_INTERVAL: u16 = 2000; // milliseconds
/// How long a killed server stays away, and how much longer each time that it cannot be started.
const RESTART_DELAY: Duration = Duration::from_millis(200);
const RESTART_DELAY_AT_MOST: Duration = Duration::from_secs(30);
/// How long after a failure the rules are repaired again.
const PAUSE: Duration = Duration::from_secs(1);

/// What a watchdog may. The rest of root's rights is not its, nor of the programs that it executes.
const CAPABILITIES: [Capability; 11] = [
    // The firewall's rules, and what the host knows of its neighbours.
    Capability::CAP_NET_ADMIN,
    // A server that was killed is started again: it opens the sockets of leases and of names,
    Capability::CAP_NET_RAW,
    Capability::CAP_NET_BIND_SERVICE,
    // gives its directory to its user,
    Capability::CAP_CHOWN,
    Capability::CAP_FOWNER,
    Capability::CAP_DAC_OVERRIDE,
    // names the program that has port 53, ends a predecessor,
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
const RELEVANT: [u16; 5] = [0, 2, 3, 5, 8];

/// Starts the watchdog of a bridge's server, which is this process. `restart` starts that server again.
///
/// `serves_ipv6` is whether the server has found IPv6 on the bridge.
pub(crate) fn spawn(
    layout: &Layout,
    bridge: &str,
    serves_ipv6: bool,
    restart: impl Fn() -> Result<()>,
) -> Result<Watchdog> {
    let witness = SingleThreaded::check()?;
    let (messages, hold) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context(|| "make a pipe")?;
    let served = ServedBy { process: sys::process::generation(Pid::this())?, ipv6: serves_ipv6 };
    let prepare = || -> Result<Sources> {
        detach(&messages)?;
        let sources = Sources {
            server: std::io::stdin(),
            restart_on_crash: false,
            holders: BTreeMap::new(),
            socket: subscribe()?,
            links: LinkEvents::subscribe(bridge)?,
        };
        sys::privileges::confine_helper(&CAPABILITIES)?;
        Ok(sources)
    };
    let watchdog = || match prepare() {
        Ok(mut sources) => {
            watch(layout, bridge, &served, &mut sources);
            if sources.restart_on_crash {
                retry(layout, bridge, restart);
            } else if !bridge::exists(bridge) {
                // Who has deleted it has left its rules.
                let _ = apply(layout);
            }
            0
        }
        Err(e) => {
            sys::log::line(&format!("watch the rules of the firewall: {e}"));
            1
        }
    };
    clone(witness, 0, None, watchdog).context(|| "start the watchdog of the firewall's rules")?;
    Ok(Watchdog::new(hold))
}

/// Closes what belongs to the server, for whoever waits for its output must not wait for us; the pipe of
/// its messages, whose end is the server's, becomes our standard input.
fn detach(messages: &OwnedFd) -> Result<()> {
    nix::unistd::dup2_stdin(messages)?;
    sys::creds::close_from(3)?;
    let null = File::options().write(true).open("/dev/null").context(|| "open `/dev/null`")?;
    nix::unistd::dup2_stdout(&null).context(|| "close standard output")
}

/// Starts the server again, for as long as there is a bridge to serve, or guests whose bridge it has to make.
fn retry(layout: &Layout, bridge: &str, restart: impl Fn() -> Result<()>) {
    let mut delay = RESTART_DELAY;
    while bridge::exists(bridge) || repair::is_made_again(layout, bridge) {
        std::thread::sleep(delay);
        match restart() {
            Ok(()) => return,
            Err(e) => sys::log::line(&e.to_string()),
        }
        delay = (delay * 2).min(RESTART_DELAY_AT_MOST);
    }
}

/// What a watchdog waits for.
struct Sources {
    server: std::io::Stdin,
    /// Whether the server is started again when it ends.
    restart_on_crash: bool,
    /// Addresses handed on, and to whom if to anybody, that the rules do not know yet.
    holders: BTreeMap<Ipv4Addr, Option<Mac>>,
    socket: Socket,
    links: LinkEvents,
}

/// The server that is watched.
struct ServedBy {
    process: Generation,
    /// Whether it was started on a bridge with IPv6.
    ipv6: bool,
}

/// Takes addresses from their earlier holders, in the host's neighbour table and in its rules.
fn reassign(layout: &Layout, bridge: &str, holders: &BTreeMap<Ipv4Addr, Option<Mac>>) -> Result<()> {
    let is_stale = |address: IpAddr, mac: Mac| {
        let IpAddr::V4(address) = address else { return false };
        holders.get(&address).is_some_and(|holder| *holder != Some(mac))
    };
    let netlink = Netlink::new()?;
    let host = netlink.open()?;
    let forgotten =
        netlink.run(async { neighbours::delete_entries(&host, index_of(&host, bridge).await?, is_stale).await });
    learnt::reassign(layout, holders).and(forgotten)
}

/// Puts right what was heard of the bridge and its ports.
fn mend_links(layout: &Layout, bridge: &str, served: &ServedBy, links: &mut LinkEvents) -> Result<()> {
    let heard = std::mem::take(&mut links.heard);
    let mended = repair::mend(layout, bridge, (!heard.everything).then_some(&heard.ports)).inspect_err(|_| {
        // Looked at again.
        links.heard.everything = true;
    });
    if (mended? || !served.ipv6) && repair::has_ipv6(layout, bridge)? && sys::process::is_same(&served.process) {
        // What it would need it cannot open any more, and where IPv6 was off the kernel has forgotten the groups
        // that it had joined: another one is started, which advertises itself at once.
        sys::log::line(&format!("bridge `{bridge}` has IPv6 now: its server is started again"));
        let _ = nix::sys::signal::kill(Pid::from_raw(served.process.pid), nix::sys::signal::Signal::SIGKILL);
    }
    Ok(())
}

/// Repairs after every change, for as long as the server lives.
fn watch(layout: &Layout, bridge: &str, served: &ServedBy, sources: &mut Sources) {
    let mut said = String::new();
    let mut repaired = repair(layout).and_then(|()| mend_links(layout, bridge, served, &mut sources.links));
    loop {
        match repaired.and_then(|()| wait_for_change(sources)) {
            Ok(RulesEvent::ServerEnded) => return,
            Ok(RulesEvent::Looked) => {
                repaired = if firewall::has_legacy() { firewall::open_legacy(layout) } else { Ok(()) };
                continue;
            }
            Ok(RulesEvent::Reassigned) => {
                repaired = reassign(layout, bridge, &std::mem::take(&mut sources.holders));
                continue;
            }
            Ok(RulesEvent::Links) => {
                repaired = mend_links(layout, bridge, served, &mut sources.links);
                continue;
            }
            Ok(RulesEvent::Changed) => said.clear(),
            Err(e) => {
                let line = e.to_string();
                if line != said {
                    sys::log::line(&line);
                    said = line;
                }
                // Whatever it is, it is not asked for again at once.
                if !pause(sources) {
                    return;
                }
                if !sources.holders.is_empty() {
                    repaired = reassign(layout, bridge, &std::mem::take(&mut sources.holders));
                    continue;
                }
            }
        }
        repaired = repair(layout);
    }
}

/// Writes again what is missing of our tables, and of what firewalls of others need.
pub(crate) fn repair(layout: &Layout) -> Result<()> {
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
enum RulesEvent {
    /// Of the firewall's rules.
    Changed,
    /// Of links and addresses.
    Links,
    /// No change was reported for a while.
    Looked,
    Reassigned,
    ServerEnded,
}

/// Waits for a change that may have taken something of ours, and for the end of its burst.
fn wait_for_change(sources: &mut Sources) -> Result<RulesEvent> {
    let first = loop {
        match wait(sources, PollTimeout::from(POLL_INTERVAL))? {
            Some(RulesEvent::Changed) if drain(&sources.socket)? => break RulesEvent::Changed,
            Some(RulesEvent::Changed) => {}
            Some(RulesEvent::Links) => {
                sources.links.drain()?;
                if sources.links.heard.is_anything() {
                    break RulesEvent::Links;
                }
            }
            Some(event) => return Ok(event),
            None => return Ok(RulesEvent::Looked),
        }
    };
    let begun = Instant::now();
    while begun.elapsed() < BURST_TIMEOUT {
        match wait(sources, PollTimeout::from(QUIET))? {
            Some(RulesEvent::Changed) if first == RulesEvent::Changed => drop(drain(&sources.socket)?),
            Some(RulesEvent::Links) if first == RulesEvent::Links => sources.links.drain()?,
            // The other kind has its turn after this one.
            Some(RulesEvent::Changed | RulesEvent::Links) | None => break,
            Some(event) => return Ok(event),
        }
    }
    Ok(first)
}

/// Waits for a moment in which only the server is listened to; false once it has ended.
fn pause(sources: &mut Sources) -> bool {
    let until = Instant::now() + PAUSE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        match wait(sources, timeout(left)) {
            Ok(Some(RulesEvent::ServerEnded)) => return false,
            Ok(Some(RulesEvent::Changed)) if drain(&sources.socket).is_ok() => {}
            Ok(Some(RulesEvent::Links)) if sources.links.drain().is_ok() => {}
            Ok(Some(RulesEvent::Reassigned | RulesEvent::Looked) | None) => {}
            // What cannot be read now cannot be waited for either.
            Ok(Some(RulesEvent::Changed | RulesEvent::Links)) | Err(_) => std::thread::sleep(left),
        }
    }
}

fn wait(sources: &mut Sources, limit: PollTimeout) -> Result<Option<RulesEvent>> {
    loop {
        let fds = [sources.server.as_fd(), sources.links.as_fd(), sources.socket.as_fd()];
        let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, limit) {
            Ok(0) => return Ok(None),
            Ok(_) if fds[0].any() == Some(true) => {
                if let Some(event) = listen(sources)? {
                    return Ok(Some(event));
                }
            }
            Ok(_) if fds[1].any() == Some(true) => return Ok(Some(RulesEvent::Links)),
            Ok(_) => return Ok(Some(RulesEvent::Changed)),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(Error::from(e).step("wait for changes of the firewall")),
        }
    }
}

/// Takes the server's messages.
fn listen(sources: &mut Sources) -> Result<Option<RulesEvent>> {
    let messages = match receive(&sources.server) {
        Ok(Some(messages)) => messages,
        Ok(None) => return Ok(Some(RulesEvent::ServerEnded)),
        Err(nix::errno::Errno::EINTR) => return Ok(None),
        Err(e) => return Err(Error::from(e).step("receive from the server")),
    };
    for message in messages {
        match message {
            WatchdogMessage::RestartOnCrash => sources.restart_on_crash = true,
            WatchdogMessage::Stop => sources.restart_on_crash = false,
            WatchdogMessage::Leased(address, mac) => _ = sources.holders.insert(address, mac),
        }
    }
    Ok((!sources.holders.is_empty()).then_some(RulesEvent::Reassigned))
}

/// Takes what the kernel has said; returns whether it concerns us.
fn drain(socket: &Socket) -> Result<bool> {
    let mut relevant = false;
    let mut buffer = Vec::with_capacity(64 << 10);
    loop {
        buffer.clear();
        match socket.recv_from(&mut buffer, 0) {
            Ok((length, _)) => {
                relevant |= messages(&buffer[..length.min(buffer.len())]).any(|(kind, _)| is_relevant(kind))
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(relevant),
            // The kernel said more than the socket holds: we do not know what.
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => relevant = true,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::from(e).step("receive changes of the firewall")),
        }
    }
}

fn is_relevant(kind: u16) -> bool {
    kind >> 8 == NFNL_SUBSYS_NFTABLES && RELEVANT.contains(&(kind & 0xff))
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
    fn deleted_tables_are_relevant_and_new_elements_are_not() {
        let datagram = [message(0x0a0c, 18, 20), message(0x0a02, 20, 20)].concat();
        assert_eq!(messages(&datagram).map(|(kind, _)| is_relevant(kind)).collect::<Vec<_>>(), [false, true]);
    }
}
