//! The running server: one loop that waits on all of its sockets.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep_until;

use super::dhcp4::{Dhcp4, Outcome};
use super::dns::Zone;
use super::frame::{self, NEIGHBOUR_SOLICITATION, Solicitation};
use super::guests;
use super::journal::Journal;
use super::link::Link;
use super::names::Neighbours;
use super::ra::{self, Advertisement, Presence};
use super::reply::{Packet, Terms};
use super::request::Request;
use super::resolver::{Resolver, Sockets};
use super::state::{self, State};
use super::status::Status;
use super::upstream::Upstreams;
use crate::error::{Context, Result};
use crate::net::settings::BridgeSettings;
use crate::sys::packet::PacketSocket;
use crate::sys::ready::Ready;
use crate::types::Mac;

/// How long a neighbour has to answer a probe: it is on the same bridge, and its kernel answers.
const PROBE_WAIT: Duration = Duration::from_millis(25);
/// Beyond so many probes at a time a client gets its address unprobed: it probes it itself.
const MAX_PROBES: usize = 512;
/// Most packets taken from one socket before the others have their turn.
const BATCH: usize = 64;
/// How often port 53 is tried again.
const NAMES_RETRY: Duration = Duration::from_secs(10);
/// How often the status is written at most.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// How often it is written where nothing but strangers' leases changed.
const STATUS_REFRESH: Duration = Duration::from_secs(5);
/// How soon to look again for the link-local address that advertisements come from.
const ADDRESS_RETRY: Duration = Duration::from_secs(1);
/// How long the same line is not said again, and how many are remembered.
const SAID_FOR: Duration = Duration::from_secs(10);
const MAX_SAID: usize = 256;

/// What a server starts with: all that is opened while it is root.
pub struct Parts {
    pub settings: BridgeSettings,
    pub link: Link,
    /// The directory of the guests' files, and the watch on it.
    pub guests_dir: OwnedFd,
    pub watch: OwnedFd,
    /// Where leases and status are kept; the only place that the server may write to.
    pub state_dir: OwnedFd,
    pub names: Result<Sockets>,
}

/// A probe under way.
#[derive(Debug)]
struct Probe {
    /// Who the address is for.
    owner: Mac,
    /// What waits for the outcome, each with the sender of its frame.
    requests: Vec<(Request, Mac)>,
}

pub struct Server {
    settings: BridgeSettings,
    link: Link,
    guests_dir: OwnedFd,
    watch: OwnedFd,
    watch_ready: Ready,
    state_dir: OwnedFd,
    journal: Journal,
    dhcp: Option<Packets>,
    arp: Option<Packets>,
    solicitations: Option<Packets>,
    state: Rc<RefCell<State>>,
    resolver: Rc<Resolver>,
    addresses: Vec<IpAddr>,
    probes: HashMap<Ipv4Addr, Probe>,
    probe_ends: VecDeque<(Instant, Ipv4Addr)>,
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
enum Event {
    Dhcp,
    Arp,
    Solicitation,
    Guests,
    ProbeEnd,
    Advertise,
    Names,
    Status,
    Stop,
}

/// The addresses that a bridge's server answers names on.
pub fn name_addresses(settings: &BridgeSettings) -> Vec<IpAddr> {
    let ipv4 = settings.ipv4.map(|net| IpAddr::V4(net.ip()));
    ipv4.into_iter().chain(settings.ipv6.map(|net| IpAddr::V6(net.ip()))).collect()
}

impl Server {
    /// Takes up the work: reads leases and guests, and begins to serve names. Within a `LocalSet`.
    pub fn new(parts: Parts) -> Result<Self> {
        let Parts { settings, mut link, guests_dir, watch, state_dir, names } = parts;
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
        let dhcp = match (settings.ipv4, settings.pool(), Terms::new(&settings, resolvers)) {
            (Some(subnet), Some(pool), Some(terms)) => Some(Dhcp4::new(&link.name, subnet, pool, terms, leases)),
            _ => None,
        };
        let state = Rc::new(RefCell::new(State { dhcp, ..State::default() }));
        let zone = Zone::new(&settings.domain, settings.ipv4, settings.ipv6);
        let resolver = Rc::new(Resolver::new(zone, addresses.clone(), state.clone(), upstreams));
        let mut server = Server {
            advertisement: Advertisement::new(&settings, names.is_ok()),
            dhcp: link.dhcp.take().map(Packets::new).transpose()?,
            arp: link.arp.take().map(Packets::new).transpose()?,
            solicitations: link.solicitations.take().map(Packets::new).transpose()?,
            watch_ready: Ready::new(&watch)?,
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
            advertised: 0,
            advertise_at: None,
            names_at: None,
            status_at: None,
            status_written: Instant::now(),
            said: HashMap::new(),
            // Before anybody is told that we are ready, and may tell us to end.
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

    /// Serves until told to stop or the bridge is gone.
    pub async fn run(mut self) -> Result<()> {
        loop {
            let event = tokio::select! {
                () = readable(&self.dhcp) => Event::Dhcp,
                () = readable(&self.arp) => Event::Arp,
                () = readable(&self.solicitations) => Event::Solicitation,
                () = self.watch_ready.readable() => Event::Guests,
                () = at(self.probe_ends.front().map(|(end, _)| *end)) => Event::ProbeEnd,
                () = at(self.advertise_at) => Event::Advertise,
                () = at(self.names_at) => Event::Names,
                () = at(self.status_at) => Event::Status,
                _ = self.terminate.recv() => Event::Stop,
                _ = self.interrupt.recv() => Event::Stop,
            };
            let worked = match event {
                Event::Dhcp => self.take_requests(),
                Event::Arp => self.take_arp(),
                Event::Solicitation => self.take_solicitations(),
                Event::Guests => self.take_guests(),
                Event::ProbeEnd => self.end_probes(),
                Event::Advertise => {
                    self.advertise_to_all(Presence::Here);
                    Ok(())
                }
                Event::Names => self.retry_names(),
                Event::Status => {
                    self.write_status();
                    Ok(())
                }
                Event::Stop => {
                    self.advertise_to_all(Presence::Leaving);
                    self.write_status();
                    return Ok(());
                }
            };
            if let Err(e) = worked {
                if !self.link.exists() {
                    self.say(format!("bridge `{}` is gone", self.link.name));
                    return Ok(());
                }
                self.say(e.to_string());
            }
        }
    }

    /// Says a line to the admin, once in a while.
    fn say(&mut self, line: String) {
        let now = Instant::now();
        self.said.retain(|_, at| now.duration_since(*at) < SAID_FOR);
        if self.said.len() < MAX_SAID && !self.said.contains_key(&line) {
            eprintln!("{line}");
            self.said.insert(line, now);
        }
    }

    /// Does what follows every change: notes said, leases written, names made.
    fn settle(&mut self, renamed: bool) -> Result<()> {
        let mut state = self.state.borrow_mut();
        let mut of_guests = renamed;
        let (mut notes, mut recorded) = (Vec::new(), Ok(()));
        if let Some(dhcp) = &mut state.dhcp {
            notes = dhcp.take_notes();
            let changed = dhcp.leases.take_changed();
            of_guests |= changed.iter().any(|mac| dhcp.guests().contains_key(mac)) || !notes.is_empty();
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
        notes.into_iter().for_each(|note| self.say(note));
        recorded
    }

    fn take_requests(&mut self) -> Result<()> {
        let mut buffer = [0; 2048];
        let mut replies = Vec::new();
        let mut taken = Ok(());
        for _ in 0..BATCH {
            let received = match receive(&self.dhcp, &mut buffer) {
                Ok(Some(received)) => received,
                Ok(None) => break,
                Err(e) => {
                    taken = Err(e).context(|| "receive a request for a lease");
                    break;
                }
            };
            let (length, Some(source)) = received else { continue };
            let datagram = frame::parse_udp(&buffer[..length]);
            let Some(request) = datagram.and_then(|datagram| Request::parse(datagram.payload)) else { continue };
            replies.extend(self.decide(request, source)?);
        }
        // A client is told of a lease only once that is on file.
        let settled = self.settle(false);
        replies.iter().for_each(|reply| self.send(reply));
        taken.and(settled)
    }

    /// The answer to a request, unless a probe has to come first.
    fn decide(&mut self, request: Request, source: Mac) -> Result<Option<Packet>> {
        loop {
            let now = state::now();
            let mut state = self.state.borrow_mut();
            let Some(dhcp) = &mut state.dhcp else { return Ok(None) };
            match dhcp.handle(&request, source, now)? {
                Outcome::Nothing => return Ok(None),
                Outcome::Reply(packet) => return Ok(Some(packet)),
                Outcome::Probe(address) if self.probes.len() >= MAX_PROBES => dhcp.found_free(address, now),
                Outcome::Probe(address) => {
                    drop(state);
                    let owner = request.mac;
                    self.probe(address, owner, Some((request, source)));
                    return Ok(None);
                }
            }
        }
    }

    /// Asks the link for `address`, or waits for the answer that was asked for already.
    fn probe(&mut self, address: Ipv4Addr, owner: Mac, request: Option<(Request, Mac)>) {
        if !self.probes.contains_key(&address) {
            self.probe_ends.push_back((Instant::now() + PROBE_WAIT, address));
            if let Some(socket) = &self.arp {
                // A lost probe is as good as one that nobody answered.
                let ask = |own| socket.socket.send(&frame::arp_probe(own, address), Mac::BROADCAST);
                let _ = socket.socket.own_mac().and_then(ask);
            }
        }
        let probe = self.probes.entry(address).or_insert_with(|| Probe { owner, requests: Vec::new() });
        if let Some((request, source)) = request {
            // A client that asks again does so because it got no answer to its first.
            probe.requests.retain(|(other, _)| other.mac != request.mac);
            probe.requests.push((request, source));
        }
    }

    fn take_arp(&mut self) -> Result<()> {
        let mut buffer = [0; 64];
        for _ in 0..BATCH {
            let Some((length, _)) = receive(&self.arp, &mut buffer).context(|| "receive ARP")? else { break };
            let Some((mac, address)) = frame::parse_arp(&buffer[..length]) else { continue };
            if self.probes.get(&address).is_some_and(|probe| probe.owner != mac) {
                if let Some(dhcp) = &mut self.state.borrow_mut().dhcp {
                    dhcp.found_used(address, mac, state::now());
                }
                self.end_probe(address)?;
            }
        }
        Ok(())
    }

    fn end_probes(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some((end, address)) = self.probe_ends.front().copied() {
            if end > now {
                break;
            }
            self.probe_ends.pop_front();
            if self.probes.contains_key(&address) {
                if let Some(dhcp) = &mut self.state.borrow_mut().dhcp {
                    dhcp.found_free(address, state::now());
                }
                self.end_probe(address)?;
            }
        }
        Ok(())
    }

    /// Goes on with what waited for a probe of `address`, whose outcome is noted.
    fn end_probe(&mut self, address: Ipv4Addr) -> Result<()> {
        let Some(probe) = self.probes.remove(&address) else { return Ok(()) };
        let mut replies = Vec::new();
        if probe.requests.is_empty() {
            self.prepare(probe.owner);
        }
        for (request, source) in probe.requests {
            replies.extend(self.decide(request, source)?);
        }
        let settled = self.settle(false);
        replies.iter().for_each(|reply| self.send(reply));
        settled
    }

    fn send(&self, reply: &Packet) {
        if let Some(socket) = &self.dhcp {
            // A client that gets no answer asks again.
            let _ = socket.socket.send(&reply.bytes, reply.to);
        }
    }

    fn prepare(&mut self, mac: Mac) {
        let address = self.state.borrow_mut().dhcp.as_mut().and_then(|dhcp| dhcp.prepare(mac, state::now()));
        if let Some(address) = address {
            self.probe(address, mac, None);
        }
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

    fn take_solicitations(&mut self) -> Result<()> {
        let mut buffer = [0; 256];
        let mut learnt = false;
        for _ in 0..BATCH {
            let received = receive(&self.solicitations, &mut buffer).context(|| "receive a solicitation")?;
            let Some((length, source)) = received else { break };
            let Some((source, solicitation)) = source.zip(frame::parse_solicitation(&buffer[..length])) else {
                continue;
            };
            if solicitation.kind == NEIGHBOUR_SOLICITATION {
                learnt |= self.learn(source, &solicitation);
            } else {
                // To that guest's MAC alone, though it may have no address yet (RFC 6085), so that
                // every guest is answered at once and none hears the answers to the others.
                let to = (!solicitation.from.is_unspecified()).then_some(solicitation.from);
                self.advertise(to, source, Presence::Here);
            }
        }
        if learnt { self.settle(true) } else { Ok(()) }
    }

    /// Notes the address that a guest claims or speaks from; says whether it is news.
    fn learn(&mut self, source: Mac, solicitation: &Solicitation) -> bool {
        let claimed = if solicitation.from.is_unspecified() { solicitation.target } else { Some(solicitation.from) };
        let of_the_bridge = |address: &Ipv6Addr| self.settings.ipv6.is_some_and(|net| net.contains(*address));
        let mut state = self.state.borrow_mut();
        match claimed.filter(of_the_bridge) {
            Some(address) if state.guests.contains_key(&source) => state.neighbours.learn(source, address),
            _ => false,
        }
    }

    /// Sends an advertisement; says whether there was an address to send it from.
    fn advertise(&self, to: Option<Ipv6Addr>, mac: Mac, presence: Presence) -> bool {
        let (Some(socket), Some(advertisement)) = (&self.solicitations, &self.advertisement) else { return true };
        let (Some(from), Ok(own)) = (self.link.link_local(), socket.socket.own_mac()) else { return false };
        // A lost one is made good by the next.
        let _ = socket.socket.send(&advertisement.packet(from, to, own, presence), mac);
        true
    }

    fn advertise_to_all(&mut self, presence: Presence) {
        let wait = if self.advertise(None, ra::ALL_NODES_MAC, presence) {
            self.advertised = self.advertised.saturating_add(1);
            ra::interval(self.advertised)
        } else {
            ADDRESS_RETRY
        };
        self.advertise_at = self.advertisement.is_some().then(|| Instant::now() + wait);
    }

    /// Serves names on `sockets`, or says why not and goes on without.
    fn take_names(&mut self, sockets: Result<Sockets>) -> Result<()> {
        match sockets {
            Ok(sockets) => {
                self.resolver.clone().serve(sockets)?;
                self.state.borrow_mut().names_fault = None;
                self.names_at = None;
            }
            Err(e) => {
                if self.state.borrow().names_fault.is_none() {
                    eprintln!("no names are served on `{}`: {e}; leases are given all the same", self.link.name);
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
            eprintln!("port 53 is free again: names are served on `{}`", self.link.name);
            self.advertisement = Advertisement::new(&self.settings, true);
            self.advertise_to_all(Presence::Here);
            if let (Some(dhcp), Some(net)) = (&mut self.state.borrow_mut().dhcp, self.settings.ipv4) {
                dhcp.terms.resolvers = vec![net.ip()];
            }
        }
        self.take_names(sockets)?;
        self.settle(true)
    }

    /// Takes the guests' IPv6 addresses from what an earlier server wrote: they are claimed once,
    /// and not again because we were restarted.
    fn recall_neighbours(&mut self) {
        let Ok(Some(status)) = Status::read(&self.state_dir) else { return };
        let mut neighbours = Neighbours::default();
        for guest in status.guests {
            for address in guest.addresses {
                if let IpAddr::V6(address) = address
                    && self.settings.ipv6.is_some_and(|net| net.contains(address))
                {
                    neighbours.learn(guest.mac, address);
                }
            }
        }
        self.state.borrow_mut().neighbours = neighbours;
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
struct Packets {
    socket: PacketSocket,
    ready: Ready,
}

impl Packets {
    fn new(socket: PacketSocket) -> Result<Self> {
        Ok(Packets { ready: Ready::new(&socket)?, socket })
    }
}

async fn readable(packets: &Option<Packets>) {
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
fn receive(packets: &Option<Packets>, buffer: &mut [u8]) -> io::Result<Option<(usize, Option<Mac>)>> {
    let Some(packets) = packets else { return Ok(None) };
    let received = packets.ready.take(|| packets.socket.receive(buffer))?;
    Ok(received.map(|received| (received.length, received.source)))
}
