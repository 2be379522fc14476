//! A DHCP client as RFC 2131, 4.4 has it: a state, the next moment at which something is due, and what to do.
//! Without input or output.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use dhcproto::v4::{CLIENT_PORT, MessageType, SERVER_PORT};
use ipnetwork::Ipv4Network;

use super::message::{Answer, LeasedRoute, Question};
use crate::netserver::frame;
use crate::types::Mac;

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    /// The interface's own address.
    pub mac: Mac,
    /// Option 61: of links that share a hardware address each guest has its own.
    pub client_id: Vec<u8>,
    pub hostname: String,
    pub broadcast: bool,
}

/// What a server has given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub address: Ipv4Network,
    pub routes: Vec<LeasedRoute>,
    pub resolvers: Vec<Ipv4Addr>,
    pub domain: Option<String>,
    pub seconds: u32,
    server: Ipv4Addr,
    /// Whom the frame was from that gave it: the server, or the relay before it.
    server_mac: Mac,
    renews: Instant,
    rebinds: Instant,
    ends: Instant,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Send an IPv4 packet to a neighbour.
    Send {
        to: Mac,
        packet: Vec<u8>,
    },
    Configure(Lease),
    /// The lease has ended, or another one takes its place.
    Remove(Lease),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Init,
    Selecting,
    Requesting { address: Ipv4Addr, server: Ipv4Addr },
    Bound(Lease),
    Renewing(Lease),
    Rebinding(Lease),
}

#[derive(Debug)]
pub(super) struct Client {
    asker: Asker,
    state: State,
    xid: u32,
    /// How often the present question has been sent.
    tries: u32,
    due: Instant,
    actions: VecDeque<Action>,
}

/// The first pause before a question is sent again; it doubles up to the last (RFC 2131, 4.1, but that
/// begins with four seconds, for which a start would wait if one packet is lost).
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(64);
/// An offer that is not confirmed after as many questions is forgotten.
const MOST_REQUESTS: u32 = 4;
/// The least pause before a lease is asked for again (RFC 2131, 4.4.5).
const RENEW_PAUSE: Duration = Duration::from_secs(60);
/// After a refusal, and the least time of a lease: who answers may be anybody, the guest too.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Of a lease that says none, as of busybox's client.
const DEFAULT_TIME: u32 = 3600;
const DEFAULT_PREFIX: u8 = 24;

impl Client {
    pub(super) fn new(asker: Asker, now: Instant) -> Self {
        Client { asker, state: State::Init, xid: 0, tries: 0, due: now, actions: VecDeque::new() }
    }

    /// The next thing to do; it stays until it [is done](Self::done).
    pub(super) fn next_action(&self) -> Option<Action> {
        self.actions.front().cloned()
    }

    pub(super) fn done(&mut self) {
        self.actions.pop_front();
    }

    /// When [`tick`](Self::tick) is to be called at the latest.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether it waits for an answer.
    pub(super) fn listens(&self) -> bool {
        !matches!(self.state, State::Init | State::Bound(_))
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound(lease) | State::Renewing(lease) | State::Rebinding(lease) => Some(lease),
            State::Init | State::Selecting | State::Requesting { .. } => None,
        }
    }

    /// Does what is due at `now`.
    pub(super) fn tick(&mut self, now: Instant) {
        if now < self.due {
            return;
        }
        if let Some(lease) = self.lease().filter(|lease| now >= lease.ends).cloned() {
            self.actions.push_back(Action::Remove(lease));
            self.state = State::Init;
        }
        match self.state.clone() {
            State::Init => self.discover(now),
            State::Requesting { .. } if self.tries >= MOST_REQUESTS => self.discover(now),
            State::Selecting | State::Requesting { .. } => {
                self.ask();
                self.due = now + self.pause();
            }
            State::Bound(lease) => {
                self.begin(State::Renewing(lease));
                self.ask_again(now);
            }
            State::Renewing(lease) if now >= lease.rebinds => {
                self.begin(State::Rebinding(lease));
                self.ask_again(now);
            }
            State::Renewing(_) | State::Rebinding(_) => self.ask_again(now),
        }
    }

    /// Takes an answer that came in a frame from `source`.
    pub(super) fn take(&mut self, answer: &Answer, source: Mac, now: Instant) {
        if answer.xid != self.xid || answer.mac != self.asker.mac || !self.listens() {
            return;
        }
        match (&self.state, answer.kind) {
            (State::Selecting, MessageType::Offer) => {
                let Some(server) = answer.server.filter(|_| is_usable(answer.address)) else { return };
                self.state = State::Requesting { address: answer.address, server };
                self.tries = 0;
                self.ask();
                self.due = now + self.pause();
            }
            (State::Selecting, MessageType::Ack) if !answer.rapid_commit => {}
            (_, MessageType::Ack) => self.bind(answer, source, now),
            (State::Selecting, _) => {}
            (_, MessageType::Nak) => {
                self.actions.extend(self.lease().cloned().map(Action::Remove));
                self.state = State::Init;
                self.due = now + REFUSED_PAUSE;
            }
            _ => {}
        }
    }

    /// The message that gives the lease back, which no server answers.
    pub(super) fn release(&mut self) -> Option<Action> {
        let lease = self.lease().cloned()?;
        let question =
            Question { server: Some(lease.server), ..self.question(MessageType::Release, lease.address.ip()) };
        self.send(question, lease.address.ip(), lease.server, lease.server_mac)
    }

    fn discover(&mut self, now: Instant) {
        self.begin(State::Selecting);
        self.ask();
        self.due = now + self.pause();
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.xid = random();
        self.tries = 0;
    }

    /// Asks for the lease that there is, and again after half of the time that is left (RFC 2131, 4.4.5).
    fn ask_again(&mut self, now: Instant) {
        self.ask();
        let (State::Renewing(lease) | State::Rebinding(lease)) = &self.state else { return };
        let end = if matches!(self.state, State::Renewing(_)) { lease.rebinds } else { lease.ends };
        let left = end.saturating_duration_since(now);
        self.due = end.min(now + (left / 2).max(RENEW_PAUSE));
    }

    /// One second, doubled with every try, and up to a quarter more: of many that began at once.
    fn pause(&self) -> Duration {
        let pause = (FIRST_PAUSE * 2_u32.saturating_pow(self.tries.saturating_sub(1).min(6))).min(LAST_PAUSE);
        pause + pause / 1024 * (self.xid.rotate_left(self.tries) % 256)
    }

    /// Sends the question of the present state.
    fn ask(&mut self) {
        let nothing = Ipv4Addr::UNSPECIFIED;
        let (question, from, to, neighbour) = match &self.state {
            State::Init | State::Bound(_) => return,
            State::Selecting => {
                (self.question(MessageType::Discover, nothing), nothing, Ipv4Addr::BROADCAST, Mac::BROADCAST)
            }
            State::Requesting { address, server } => {
                let question = Question {
                    requested: Some(*address),
                    server: Some(*server),
                    ..self.question(MessageType::Request, nothing)
                };
                (question, nothing, Ipv4Addr::BROADCAST, Mac::BROADCAST)
            }
            State::Renewing(lease) => {
                let own = lease.address.ip();
                (self.question(MessageType::Request, own), own, lease.server, lease.server_mac)
            }
            State::Rebinding(lease) => {
                let own = lease.address.ip();
                (self.question(MessageType::Request, own), own, Ipv4Addr::BROADCAST, Mac::BROADCAST)
            }
        };
        let send = self.send(question, from, to, neighbour);
        self.actions.extend(send);
        self.tries += 1;
    }

    fn question(&self, kind: MessageType, ciaddr: Ipv4Addr) -> Question<'_> {
        let Asker { mac, client_id, hostname, broadcast } = &self.asker;
        Question {
            kind,
            xid: self.xid,
            mac: *mac,
            client_id,
            hostname,
            ciaddr,
            requested: None,
            server: None,
            broadcast: *broadcast && ciaddr.is_unspecified(),
        }
    }

    fn send(&self, question: Question<'_>, from: Ipv4Addr, to: Ipv4Addr, neighbour: Mac) -> Option<Action> {
        let payload = question.encode().ok()?;
        let (from, to) = (SocketAddrV4::new(from, CLIENT_PORT), SocketAddrV4::new(to, SERVER_PORT));
        Some(Action::Send { to: neighbour, packet: frame::udp(from, to, &payload) })
    }

    fn bind(&mut self, answer: &Answer, source: Mac, now: Instant) {
        let Some(lease) = lease_of(answer, source, now) else { return };
        let old = self.lease().filter(|old| old.address != lease.address).cloned();
        self.actions.extend(old.map(Action::Remove));
        self.due = lease.renews;
        self.actions.push_back(Action::Configure(lease.clone()));
        self.state = State::Bound(lease);
    }
}

/// The lease that an acknowledgement gives, if it can be had.
fn lease_of(answer: &Answer, source: Mac, now: Instant) -> Option<Lease> {
    let server = answer.server?;
    if !is_usable(answer.address) {
        return None;
    }
    let with_mask = answer.mask.and_then(|mask| Ipv4Network::with_netmask(answer.address, mask).ok());
    let address = with_mask.filter(|net| net.prefix() > 0).or(Ipv4Network::new(answer.address, DEFAULT_PREFIX).ok())?;
    let default = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).ok()?;
    let by_routers = answer.routers.iter().map(|router| (default, *router));
    let routes = if answer.routes.is_empty() { by_routers.collect() } else { answer.routes.clone() };
    let least = REFUSED_PAUSE.as_secs() as u32 * 2;
    let seconds = answer.lease_time.unwrap_or(DEFAULT_TIME).max(least);
    // Half and seven eighths of it, unless the server says otherwise and that makes sense.
    let rebind = answer.rebinding.filter(|rebind| *rebind < seconds).unwrap_or(seconds - seconds / 8);
    let renew = answer.renewal.filter(|renew| *renew < rebind).unwrap_or(seconds / 2).max(least / 2);
    let after = |seconds: u32| now + Duration::from_secs(seconds.into());
    Some(Lease {
        address,
        routes,
        resolvers: answer.resolvers.clone(),
        domain: answer.domain.clone(),
        seconds,
        server,
        server_mac: source,
        renews: after(renew),
        rebinds: after(rebind.max(renew)),
        ends: after(seconds),
    })
}

/// Whether it can be the address of a machine among others.
fn is_usable(address: Ipv4Addr) -> bool {
    let is_special = address.is_unspecified() || address.is_loopback() || address.is_broadcast();
    !is_special && !address.is_multicast() && !address.is_link_local()
}

fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

#[cfg(test)]
mod tests;
