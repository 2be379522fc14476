//! Reaching a guest: waiting for its addresses, and connecting to it from inside its own network
//! namespace, which needs no route, no name and no bridge.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::netlink::in_netns;
use super::netlink::open_netns;
use super::observe::{GuestAddresses, addresses};
use super::record::{GuestRecord, LinkRecord};
use super::{foreign, rules};
use crate::error::{Context, Error, Result};
use crate::netserver;
use crate::store::{BootRecord, Layout};
use crate::sys;
use crate::types::ContainerName;
use crate::types::Generation;

/// Poll interval for what the kernel does not report.
const PAUSE: Duration = Duration::from_millis(5);
/// How far an IPv4 address is behind an IPv6 one at most where both are given: autoconfiguration is
/// the kernel's, while a lease takes a client in the guest, which a busy host runs late.
const IPV4_BEHIND: Duration = Duration::from_secs(3);
/// A guest's own kernel answers at once, or not at all.
const CONNECT_TIME: Duration = Duration::from_millis(500);
/// How long a server may take to send its greeting.
const GREETING_TIME: Duration = Duration::from_secs(5);

/// Waits until the guest has an address that others can reach; fails with `Kind::TimedOut`.
pub(crate) fn wait_address(layout: &Layout, name: &ContainerName, limit: Duration) -> Result<GuestAddresses> {
    let leader = BootRecord::of_running(layout, name)?.leader;
    let deadline = Instant::now() + limit;
    let mut ipv6_is_enough = None;
    loop {
        let mut found = addresses(Pid::from_raw(leader.pid));
        let foreign = take_foreign(layout, name, &mut found);
        if !found.ipv4.is_empty() {
            return Ok(found);
        }
        if found.are_reachable() {
            let behind = || if is_leased_ipv4(layout, name) { IPV4_BEHIND } else { Duration::ZERO };
            if Instant::now() >= *ipv6_is_enough.get_or_insert_with(|| Instant::now() + behind()) {
                return Ok(found);
            }
        }
        still_there(name, &leader)?;
        if Instant::now() >= deadline && !foreign.is_empty() {
            return Err(uses_foreign(layout, name, &foreign));
        }
        if Instant::now() >= deadline {
            let error =
                Error::timed_out(format!("container `{name}` has no address within {} s", limit.as_secs_f64().round()));
            return Err(error.hint(why_no_address(layout, name)));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Takes from the addresses those that the guest has set and may not use: nobody reaches it by them.
fn take_foreign(layout: &Layout, name: &ContainerName, found: &mut GuestAddresses) -> Vec<IpAddr> {
    let four = found.ipv4.iter().copied().map(IpAddr::V4);
    let all: Vec<IpAddr> = four.chain(found.ipv6.iter().copied().map(IpAddr::V6)).collect();
    if all.is_empty() {
        return all;
    }
    // Others than root cannot ask the firewall.
    let foreign = foreign::foreign(layout, &links(layout, name), &all).unwrap_or_default();
    found.ipv4.retain(|address| !foreign.contains(&IpAddr::V4(*address)));
    found.ipv6.retain(|address| !foreign.contains(&IpAddr::V6(*address)));
    foreign
}

fn uses_foreign(layout: &Layout, name: &ContainerName, foreign: &[IpAddr]) -> Error {
    let links = links(layout, name);
    // A bridge in the guest has an address that no packet leaves it with.
    let mut sent = foreign::dropped_of(&rules::drops(layout).unwrap_or_default(), &links).addresses;
    sent.retain(|address| foreign.contains(address));
    let used = if sent.is_empty() { foreign } else { &sent };
    let named: Vec<String> = used.iter().map(ToString::to_string).collect();
    let allow = layout.command(format_args!("config set {name} {}", foreign::allowing(&links, used)));
    let what = format!("container `{name}` uses {}, which is not its own: what it sends is dropped", named.join(", "));
    Error::timed_out(what).hint(format!("`{allow}` allows it; else remove the address in the container"))
}

/// Waits a moment for the address of a guest that is leased one. That none comes is no failure: what
/// was waited for before this has come.
pub(crate) fn await_lease(layout: &Layout, name: &ContainerName) {
    if is_leased_ipv4(layout, name) {
        let _ = wait_address(layout, name, IPV4_BEHIND);
    }
}

/// How the guest is wired; nothing where that cannot be read.
fn links(layout: &Layout, name: &ContainerName) -> Vec<LinkRecord> {
    GuestRecord::read(layout, name).ok().flatten().unwrap_or_default().links
}

/// Whether one of the guest's bridges has a server that leases addresses.
fn is_leased_ipv4(layout: &Layout, name: &ContainerName) -> bool {
    let leases =
        |bridge: &str| netserver::status(layout, bridge).ok().flatten().is_some_and(|status| status.pool_size > 0);
    links(layout, name).iter().filter_map(|link| link.bridge.as_deref()).any(leases)
}

/// What an administrator can do about a guest without an address.
fn why_no_address(layout: &Layout, name: &ContainerName) -> String {
    let links = links(layout, name);
    let Some(bridge) = links.iter().find_map(|link| link.bridge.as_ref()) else {
        return format!("`{}` shows its interfaces", layout.command(format_args!("config get {name} network")));
    };
    match netserver::status(layout, bridge) {
        Ok(Some(status)) if status.exhausted.is_some() => status.exhausted.unwrap_or_default(),
        _ => "`lxm check` shows what blocks it".to_owned(),
    }
}

fn still_there(name: &ContainerName, leader: &Generation) -> Result<()> {
    if sys::process::is_same(leader) { Ok(()) } else { Err(Error::failed(format!("container `{name}` has ended"))) }
}

/// Connects to a port of the guest, retrying until it is accepted, at most for `limit`.
///
/// With root's rights from inside the guest's network namespace, else by the guest's addresses.
pub(crate) fn connect(layout: &Layout, name: &ContainerName, port: u16, limit: Duration) -> Result<TcpStream> {
    let leader = BootRecord::of_running(layout, name)?.leader;
    let deadline = Instant::now() + limit;
    let inside = if nix::unistd::geteuid().is_root() { Some(open_netns(Pid::from_raw(leader.pid))?) } else { None };
    loop {
        if let Some(stream) = try_connect(layout, name, &leader, inside.as_ref(), port)? {
            return Ok(stream);
        }
        still_there(name, &leader)?;
        if Instant::now() >= deadline {
            return Err(Error::timed_out(format!("nothing listens on port {port} of `{name}`"))
                .hint(format!("`{}` shows what runs in it", layout.command(format_args!("attach {name}")))));
        }
        std::thread::sleep(PAUSE);
    }
}

fn try_connect(
    layout: &Layout,
    name: &ContainerName,
    leader: &Generation,
    inside: Option<&File>,
    port: u16,
) -> Result<Option<TcpStream>> {
    let try_all = |addresses: &[IpAddr]| {
        addresses
            .iter()
            .find_map(|&address| TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT_TIME).ok())
    };
    let seen = addresses(Pid::from_raw(leader.pid));
    let own = || seen.ipv4.iter().map(|&ip| IpAddr::V4(ip)).chain(seen.ipv6.iter().map(|&ip| IpAddr::V6(ip)));
    match inside {
        Some(netns) => {
            // A server that listens everywhere listens on loopback, which is up before all else.
            let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            let all: Vec<IpAddr> = loopback.into_iter().chain(own()).collect();
            in_netns(netns.as_fd(), || Ok(try_all(&all)))
        }
        None => {
            let mut all = leased(layout, name);
            all.extend(own());
            Ok(try_all(&all))
        }
    }
}

/// Addresses by which its bridges' servers know the guest: what others than root can see.
fn leased(layout: &Layout, name: &ContainerName) -> Vec<IpAddr> {
    let links = links(layout, name);
    let bridges = links.into_iter().filter_map(|link| link.bridge);
    let statuses = bridges.filter_map(|bridge| netserver::status(layout, &bridge).ok().flatten());
    let own = layout.name_on_bridge(name);
    let guests = statuses.flat_map(|status| status.guests).filter(|guest| guest.name == own);
    guests.flat_map(|guest| guest.addresses).collect()
}

/// Waits until the guest's ssh server greets, at most for `limit`.
pub(crate) fn wait_ssh(layout: &Layout, name: &ContainerName, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut stream = connect(layout, name, 22, left)?;
        let greeting = left.clamp(PAUSE, GREETING_TIME);
        stream.set_read_timeout(Some(greeting)).context(|| "wait for the ssh server's greeting")?;
        let mut word = [0; 4];
        if stream.read_exact(&mut word).is_ok() && &word == b"SSH-" {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::timed_out(format!("what listens on port 22 of `{name}` is not an ssh server")));
        }
        std::thread::sleep(PAUSE);
    }
}
