//! The running server: one loop that waits on all of its sockets.

mod leases;
mod neighbour_probe;
mod pending;
mod solicitations;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep_until;

use super::dhcp4::Dhcp4;
use super::dns::Zone;
use super::guests;
use super::lease_log::Journal;
use super::link::BridgeLink;
use super::ra::{Advertisement, Presence};
use super::reply::LeasePolicy;
use super::resolver::{Resolver, Sockets};
use super::state::{self, ServerState};
use super::upstream::Upstreams;
use super::watchdog::{Watchdog, WatchdogMessage};
use crate::config::bridge::BridgeSettings;
use crate::error::{Context, Error, Result};
use crate::sys::packet::PacketSocket;
use crate::sys::ready::ReadableFd;
use crate::types::Mac;
use pending::{PendingProbe, Probe};

/// Most packets taken from one socket before the others have their turn.
const BATCH: usize = 64;
/// How often port 53 is tried again.
const NAMES_RETRY: Duration = Duration::from_secs(10);
/// How often the status is written at most.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// How often it is written where nothing but pending_probes' leases changed.
const STATUS_REFRESH: Duration = Duration::from_secs(5);
/// How long the same line is not said again, and how many are remembered.
const REPEAT_AFTER: Duration = Duration::from_secs(10);
const MAX_REMEMBERED: usize = 256;

/// What a server starts with: all that is opened while it is root.
pub(super) struct ServerParts {
    pub settings: BridgeSettings,
    pub link: BridgeLink,
    /// The directory of the guests' files, and the watch on it.
    pub guests_dir: OwnedFd,
    pub watch: OwnedFd,
    /// Where leases and status are kept; the only place that the server may write to.
    pub state_dir: OwnedFd,
    pub names: Result<Sockets>,
    pub watchdog: Watchdog,
}

pub(super) struct Server {
    pub watchdog: Watchdog,
    settings: BridgeSettings,
    link: BridgeLink,
    guests_dir: OwnedFd,
    watch: OwnedFd,
    watch_ready: ReadableFd,
    state_dir: OwnedFd,
    journal: Journal,
    dhcp: Option<PollablePackets>,
    arp: Option<PollablePackets>,
    solicitations: Option<PollablePackets>,
    state: Rc<RefCell<ServerState>>,
    resolver: Rc<Resolver>,
    addresses: Vec<IpAddr>,
    probes: HashMap<Ipv4Addr, Probe>,
    probe_ends: VecDeque<(Instant, Ipv4Addr)>,
    pending_probes: Vec<PendingProbe>,
    advertisement: Option<Advertisement>,
    advertised: u32,
    advertise_at: Option<Instant>,
    names_at: Option<Instant>,
    status_at: Option<Instant>,
    status_written: Instant,
    said: HashMap<String, Instant>,
    terminate: Signal,
    interrupt: Signal,
}

/// What the loop woke up for.
enum ServerEvent {
    Dhcp,
    Arp,
    Solicitation,
    Guests,
    ProbeEnd,
    PendingProbes,
    Advertise,
    Names,
    Status,
    Stop,
}

/// The addresses that a bridge's server answers names on.
pub(super) fn name_addresses(settings: &BridgeSettings) -> Vec<IpAddr> {
    let ipv4 = settings.ipv4.map(|net| IpAddr::V4(net.ip()));
    ipv4.into_iter().chain(settings.ipv6.map(|net| IpAddr::V6(net.ip()))).collect()
}

impl Server {
    /// Takes up the work: reads leases and guests, and begins to serve names. Within a `LocalSet`.
    pub(super) fn new(parts: ServerParts) -> Result<Self> {
        let ServerParts { settings, mut link, guests_dir, watch, state_dir, names, watchdog } = parts;
        let (journal, leases) = Journal::open(state_dir.try_clone()?)?;
        let addresses = name_addresses(&settings);
        let mut upstreams = Upstreams::new(&settings.upstream, addresses.clone());
        let resolvers = match (&names, settings.ipv4) {
            (Ok(_), Some(net)) => vec![net.ip()],
            (Ok(_), None) => Vec::new(),
            // Where there is none, whoever has our port may be one.
            (Err(_), net) => Some(upstreams.for_guests())
                .filter(|found| !found.is_empty())
                .unwrap_or_else(|| net.map(|net| net.ip()).into_iter().collect()),
        };
        let dhcp = match (settings.ipv4, settings.pool(), LeasePolicy::new(&settings, resolvers)) {
            (Some(subnet), Some(pool), Some(policy)) => Some(Dhcp4::new(&link.name, subnet, pool, policy, leases)),
            _ => None,
        };
        let state = Rc::new(RefCell::new(ServerState { dhcp, ..ServerState::default() }));
        let zone = Zone::new(&settings.domain, settings.ipv4, settings.ipv6);
        let resolver =
            Rc::new(Resolver::new(zone, addresses.clone(), state.clone(), upstreams, settings.private_names.clone()));
        let mut server = Server {
            watchdog,
            advertisement: Advertisement::new(&settings, names.is_ok()),
            dhcp: link.dhcp.take().map(PollablePackets::new).transpose()?,
            arp: link.arp.take().map(PollablePackets::new).transpose()?,
            solicitations: link.solicitations.take().map(PollablePackets::new).transpose()?,
            watch_ready: ReadableFd::new(&watch)?,
            watch,
            settings,
            link,
            guests_dir,
            state_dir,
            journal,
            state,
            resolver,
            addresses,
            probes: HashMap::new(),
            probe_ends: VecDeque::new(),
            pending_probes: Vec::new(),
            advertised: 0,
            advertise_at: None,
            names_at: None,
            status_at: None,
            status_written: Instant::now(),
            said: HashMap::new(),
            // Before readiness is reported: from then on we may be told to end.
            terminate: signal(SignalKind::terminate()).context(|| "wait for signals")?,
            interrupt: signal(SignalKind::interrupt()).context(|| "wait for signals")?,
        };
        server.advertise_at = server.advertisement.is_some().then(Instant::now);
        server.recall_neighbours();
        server.take_names(names)?;
        server.read_guests()?;
        server.write_status();
        Ok(server)
    }

    /// Serves until a signal stops it or the bridge is gone.
    pub(super) async fn run(&mut self) -> Result<()> {
        loop {
            let event = tokio::select! {
                () = readable(&self.dhcp) => ServerEvent::Dhcp,
                () = readable(&self.arp) => ServerEvent::Arp,
                () = readable(&self.solicitations) => ServerEvent::Solicitation,
                () = self.watch_ready.readable() => ServerEvent::Guests,
                () = at(self.probe_ends.front().map(|(end, _)| *end)) => ServerEvent::ProbeEnd,
                () = at(self.pending_probes.iter().map(PendingProbe::due).min()) => ServerEvent::PendingProbes,
                () = at(self.advertise_at) => ServerEvent::Advertise,
                () = at(self.names_at) => ServerEvent::Names,
                () = at(self.status_at) => ServerEvent::Status,
                _ = self.terminate.recv() => ServerEvent::Stop,
                _ = self.interrupt.recv() => ServerEvent::Stop,
            };
            let worked = match event {
                ServerEvent::Dhcp => self.take_requests(),
                ServerEvent::Arp => self.take_arp(),
                ServerEvent::Solicitation => self.take_solicitations(),
                ServerEvent::Guests => self.take_guests(),
                ServerEvent::ProbeEnd => self.end_probes(),
                ServerEvent::PendingProbes => {
                    self.send_neighbour_probes();
                    Ok(())
                }
                ServerEvent::Advertise => {
                    self.advertise_to_all(Presence::Here);
                    Ok(())
                }
                ServerEvent::Names => self.retry_names(),
                ServerEvent::Status => {
                    self.write_status();
                    Ok(())
                }
                ServerEvent::Stop => {
                    self.advertise_to_all(Presence::Leaving);
                    self.write_status();
                    return Ok(());
                }
            };
            if let Err(e) = worked {
                if !self.link.exists() {
                    if !self.state.borrow().guests.is_empty() {
                        // A crash, after which the next server makes the bridge again.
                        return Err(Error::failed(format!("bridge `{}` is gone under its guests", self.link.name)));
                    }
                    self.say(format!("bridge `{}` is gone", self.link.name));
                    return Ok(());
                }
                self.say(e.to_string());
            }
        }
    }

    /// Logs a line for the admin, once in a while.
    fn say(&mut self, line: String) {
        let now = Instant::now();
        self.said.retain(|_, at| now.duration_since(*at) < REPEAT_AFTER);
        if self.said.len() < MAX_REMEMBERED && !self.said.contains_key(&line) {
            crate::sys::log::line(&line);
            self.said.insert(line, now);
        }
    }

    /// Does what follows every change: notes logged, leases written, names made.
    fn settle(&mut self, renamed: bool) -> Result<()> {
        let mut state = self.state.borrow_mut();
        let mut of_guests = renamed;
        let (mut notes, mut bound, mut recorded, mut told) = (Vec::new(), Vec::new(), Ok(()), Ok(()));
        if let Some(dhcp) = &mut state.dhcp {
            // Before the new holder is answered, so that no other guest can use it as well.
            told = dhcp
                .holders
                .take_changed()
                .into_iter()
                .try_for_each(|(mac, address)| self.watchdog.send(WatchdogMessage::Leased(address, mac)));
            notes = dhcp.take_notes();
            let changed = dhcp.leases.take_changed();
            let ours: Vec<Mac> = changed.iter().copied().filter(|mac| dhcp.guests().contains_key(mac)).collect();
            of_guests |= !ours.is_empty() || !notes.is_empty();
            let leases = ours.into_iter().filter_map(|mac| dhcp.leases.get(mac));
            bound.extend(leases.filter(|lease| lease.is_bound(state::now())).map(|lease| (lease.mac, lease.address)));
            recorded = self.journal.record(&dhcp.leases, &changed);
            if !changed.is_empty() && self.status_at.is_none() {
                self.status_at = Some(self.status_written + STATUS_REFRESH);
            }
        }
        if of_guests {
            state.rename();
            self.status_at = Some(self.status_written + STATUS_INTERVAL);
        }
        drop(state);
        bound.into_iter().for_each(|(mac, address)| self.expect(mac, address));
        notes.into_iter().for_each(|note| self.say(note));
        recorded.and(told)
    }

    fn take_guests(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        // What changed does not matter: all are read again, once for all changes so far.
        while self.watch_ready.take(|| Ok(rustix::io::read(&self.watch, &mut buffer)?))?.is_some() {}
        self.read_guests()
    }

    fn read_guests(&mut self) -> Result<()> {
        let guests = guests::read_dir(&self.guests_dir)?;
        let mut state = self.state.borrow_mut();
        state.neighbours.retain(&guests);
        state.guests = guests.clone();
        let new = state.dhcp.as_mut().map(|dhcp| dhcp.set_guests(guests, state::now())).unwrap_or_default();
        drop(state);
        new.into_iter().for_each(|mac| self.prepare(mac));
        self.settle(true)
    }

    /// Serves names on `sockets`, or logs why not and continues without.
    fn take_names(&mut self, sockets: Result<Sockets>) -> Result<()> {
        match sockets {
            Ok(sockets) => {
                self.resolver.clone().serve(sockets)?;
                self.state.borrow_mut().names_fault = None;
                self.names_at = None;
            }
            Err(e) => {
                if self.state.borrow().names_fault.is_none() {
                    crate::sys::log::line(&format!(
                        "no names are served on `{}`: {e}; leases are given all the same",
                        self.link.name
                    ));
                    self.state.borrow_mut().names_fault = Some(e.to_string());
                }
                self.names_at = Some(Instant::now() + NAMES_RETRY);
            }
        }
        Ok(())
    }

    fn retry_names(&mut self) -> Result<()> {
        let sockets = Sockets::bind(&self.addresses);
        if sockets.is_ok() {
            crate::sys::log::line(&format!("port 53 is free again: names are served on `{}`", self.link.name));
            self.advertisement = Advertisement::new(&self.settings, true);
            self.advertise_to_all(Presence::Here);
            if let (Some(dhcp), Some(net)) = (&mut self.state.borrow_mut().dhcp, self.settings.ipv4) {
                dhcp.policy.resolvers = vec![net.ip()];
            }
        }
        self.take_names(sockets)?;
        self.settle(true)
    }

    fn write_status(&mut self) {
        self.status_at = None;
        self.status_written = Instant::now();
        let status = self.state.borrow().status(state::now());
        if let Err(e) = status.write(&self.state_dir) {
            self.say(e.to_string());
        }
    }
}

/// A packet socket that can be waited for.
struct PollablePackets {
    socket: PacketSocket,
    ready: ReadableFd,
}

impl PollablePackets {
    fn new(socket: PacketSocket) -> Result<Self> {
        Ok(PollablePackets { ready: ReadableFd::new(&socket)?, socket })
    }
}

async fn readable(packets: &Option<PollablePackets>) {
    match packets {
        Some(packets) => packets.ready.readable().await,
        None => std::future::pending().await,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

/// The length and the sender of the next packet, if one waits.
fn receive(packets: &Option<PollablePackets>, buffer: &mut [u8]) -> io::Result<Option<(usize, Option<Mac>)>> {
    let Some(packets) = packets else { return Ok(None) };
    let received = packets.ready.take(|| packets.socket.receive(buffer))?;
    Ok(received.map(|received| (received.length, received.source)))
}
