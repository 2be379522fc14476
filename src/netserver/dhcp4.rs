//! The lease server's decisions: pure over requests, leases and the time.
//!
//! A lease belongs to a MAC, which lxm assigns, and not to the client identifier: clones of one
//! system send the same identifier and would fight for one lease.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use dhcproto::v4::MessageType;
use ipnetwork::{IpNetwork, Ipv4Network};

use super::guests::Guests;
use super::holders::Holders;
use super::lease::{Lease, Leases, Time};
use super::reply::{self, Answer, LeasePolicy, Packet};
use super::request::DhcpRequest;
use crate::error::Result;
use crate::types::Mac;
use crate::types::subnet;

/// How long an offered address is kept for its client.
const OFFER_TIME: Time = 60;
/// How long an address that another machine uses is not leased.
const BLOCK_TIME: Time = 600;
/// How long a probe's silence counts.
const PROBE_VALID: Time = 300;
/// Most addresses that one client's refusals keep from the others.
const MAX_DECLINED: usize = 8;

/// What to do about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DhcpAction {
    Nothing,
    Reply(Packet),
    /// First probe whether this address is in use, then handle the request again.
    Probe(Ipv4Addr),
}

/// An address in use by a machine that has no lease of it.
#[derive(Debug)]
struct Block {
    until: Time,
    /// The client that refused it, where one did.
    by: Option<Mac>,
}

#[derive(Debug)]
pub(super) struct Dhcp4 {
    bridge: String,
    subnet: Ipv4Network,
    first: u32,
    last: u32,
    pub policy: LeasePolicy,
    pub leases: Leases,
    guests: Guests,
    /// Addresses that belong to one guest by configuration.
    reserved: HashMap<Ipv4Addr, Mac>,
    /// Networks that guests use by themselves.
    allowed: Vec<IpNetwork>,
    blocked: HashMap<Ipv4Addr, Block>,
    /// Addresses that a probe found free, and until when that counts.
    probed: HashMap<Ipv4Addr, Time>,
    pub holders: Holders,
    exhausted: Option<String>,
    notes: Vec<String>,
}

impl Dhcp4 {
    pub(super) fn new(
        bridge: &str,
        subnet: Ipv4Network,
        pool: (Ipv4Addr, Ipv4Addr),
        policy: LeasePolicy,
        leases: Leases,
    ) -> Self {
        Dhcp4 {
            bridge: bridge.to_owned(),
            subnet,
            first: pool.0.into(),
            last: pool.1.into(),
            policy,
            guests: Guests::new(),
            reserved: HashMap::new(),
            allowed: Vec::new(),
            blocked: HashMap::new(),
            probed: HashMap::new(),
            holders: Holders::new(&leases),
            leases,
            exhausted: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn guests(&self) -> &Guests {
        &self.guests
    }

    /// Why the last client that got no address got none, in words.
    pub(super) fn exhausted(&self) -> Option<&str> {
        self.exhausted.as_deref()
    }

    /// How many addresses leases are given from.
    pub(super) fn pool_size(&self) -> u32 {
        self.last - self.first + 1
    }

    /// Messages for the admin since the last call.
    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Takes the guests that run now. Ends the leases of guests that have stopped; returns the new ones that
    /// will ask for a lease.
    pub(super) fn set_guests(&mut self, guests: Guests, now: Time) -> Vec<Mac> {
        let gone: Vec<Mac> = self.guests.keys().filter(|mac| !guests.contains_key(mac)).copied().collect();
        gone.into_iter().for_each(|mac| self.leases.end(mac, now));
        let asks = |mac: &&Mac| !self.guests.contains_key(mac) && !guests[mac].addresses.iter().any(|a| a.is_ipv4());
        let new = guests.keys().filter(asks).copied().collect();
        self.reserved.clear();
        for guest in guests.values() {
            let fixed = guest.addresses.iter().filter_map(|address| match address {
                IpAddr::V4(address) => Some(*address),
                IpAddr::V6(_) => None,
            });
            self.reserved.extend(fixed.chain(guest.reserved).map(|address| (address, guest.mac)));
        }
        self.allowed = guests.values().flat_map(|guest| &guest.allowed).copied().collect();
        // A client that had a lease of it must not use it any more, even if this guest gets no lease of it.
        self.reserved.iter().for_each(|(address, mac)| self.holders.pass_on(*address, *mac));
        self.guests = guests;
        new
    }

    /// Picks a guest's address before it asks; returns the address where it should be probed, so that the
    /// guest's first request is answered at once.
    pub(super) fn prepare(&mut self, mac: Mac, now: Time) -> Option<Ipv4Addr> {
        let address = self.choose(mac, None, now)?;
        self.hold(mac, address, now);
        self.needs_probe(mac, address, now).then_some(address)
    }

    /// Notes that a probe of `address` got no answer.
    pub(super) fn found_free(&mut self, address: Ipv4Addr, now: Time) {
        if self.probed.len() > 4096 {
            self.probed.retain(|_, until| *until > now);
        }
        self.probed.insert(address, now + PROBE_VALID);
    }

    /// Notes that `by` uses `address` without a lease of it.
    pub(super) fn found_used(&mut self, address: Ipv4Addr, by: Mac, now: Time) {
        self.notes.push(format!("{address} is used by {by} without a lease; it is not leased for 10 minutes"));
        self.block(address, None, now);
    }

    fn block(&mut self, address: Ipv4Addr, by: Option<Mac>, now: Time) {
        if let Some(lease) = self.leases.holder(address).copied() {
            self.leases.remove(lease.mac);
        }
        self.probed.remove(&address);
        self.blocked.retain(|_, block| block.until > now);
        let mut own: Vec<(Time, Ipv4Addr)> =
            self.blocked.iter().filter(|(_, b)| by.is_some() && b.by == by).map(|(a, b)| (b.until, *a)).collect();
        if own.len() >= MAX_DECLINED {
            own.sort_unstable();
            self.blocked.remove(&own[0].1);
        }
        self.blocked.insert(address, Block { until: now + BLOCK_TIME, by });
    }

    /// Decides on a request that came in a frame from `source`.
    pub(super) fn handle(&mut self, request: &DhcpRequest, source: Mac, now: Time) -> Result<DhcpAction> {
        let relayed = !request.giaddr.is_unspecified();
        if relayed && !self.subnet.contains(request.giaddr) {
            return Ok(DhcpAction::Nothing);
        }
        // A guest may ask for itself alone: with invented MACs it could take the whole pool.
        if source != request.mac && self.guests.contains_key(&source) {
            self.notes.push(format!("{} asks for a lease in the name of {}; ignored", self.who(source), request.mac));
            return Ok(DhcpAction::Nothing);
        }
        match request.kind {
            MessageType::Discover => self.discover(request, source, now),
            MessageType::Request => self.request(request, source, now),
            MessageType::Decline => {
                self.decline(request, now);
                Ok(DhcpAction::Nothing)
            }
            MessageType::Release => {
                if self.leases.holder(request.ciaddr).is_some_and(|lease| lease.mac == request.mac) {
                    self.leases.end(request.mac, now);
                }
                Ok(DhcpAction::Nothing)
            }
            MessageType::Inform => self.reply(request, source, Answer::Inform),
            _ => Ok(DhcpAction::Nothing),
        }
    }

    fn discover(&mut self, request: &DhcpRequest, source: Mac, now: Time) -> Result<DhcpAction> {
        let Some(address) = self.choose(request.mac, request.requested, now) else {
            return Ok(DhcpAction::Nothing);
        };
        self.hold(request.mac, address, now);
        if self.needs_probe(request.mac, address, now) {
            return Ok(DhcpAction::Probe(address));
        }
        if request.rapid_commit {
            return self.bind(request, source, address, now);
        }
        let name = self.name(request.mac);
        self.reply(request, source, Answer::Offer(address, name.as_deref()))
    }

    /// RFC 2131, 4.3.2: the three states that a client asks in.
    fn request(&mut self, request: &DhcpRequest, source: Mac, now: Time) -> Result<DhcpAction> {
        let renewing = !request.ciaddr.is_unspecified();
        let wanted = match request.server {
            Some(server) if server != self.policy.server => {
                // It took another server's offer.
                if self.leases.get(request.mac).is_some_and(|lease| lease.offered) {
                    self.leases.remove(request.mac);
                }
                return Ok(DhcpAction::Nothing);
            }
            _ if renewing => request.ciaddr,
            _ => match request.requested {
                Some(address) => address,
                None => return Ok(DhcpAction::Nothing),
            },
        };
        if let Err(why) = self.may_have(request.mac, wanted, now) {
            self.notes.push(format!("{} may not have {wanted}: {why}", self.who(request.mac)));
            return self.reply(request, source, Answer::Nak(why));
        }
        if !renewing && self.needs_probe(request.mac, wanted, now) {
            self.hold(request.mac, wanted, now);
            return Ok(DhcpAction::Probe(wanted));
        }
        self.bind(request, source, wanted, now)
    }

    fn bind(&mut self, request: &DhcpRequest, source: Mac, address: Ipv4Addr, now: Time) -> Result<DhcpAction> {
        let before = self.leases.get(request.mac).is_some_and(|lease| lease.is_bound(now) && lease.address == address);
        let expires = now + Time::from(self.policy.lease_time);
        self.leases.set(Lease { mac: request.mac, address, expires, offered: false });
        let name = self.name(request.mac);
        if let Some(name) = name.as_ref().filter(|_| !before) {
            self.notes.push(format!("`{name}` has {address}"));
        }
        self.reply(request, source, Answer::Ack(address, name.as_deref()))
    }

    fn decline(&mut self, request: &DhcpRequest, now: Time) {
        let Some(address) = request.requested else { return };
        let own = self.leases.holder(address).is_some_and(|lease| lease.mac == request.mac);
        if own && request.server.is_none_or(|server| server == self.policy.server) {
            self.notes.push(format!("{} found {address} in use by another machine", self.who(request.mac)));
            self.block(address, Some(request.mac), now);
        }
    }

    fn reply(&mut self, request: &DhcpRequest, source: Mac, answer: Answer<'_>) -> Result<DhcpAction> {
        if let Answer::Offer(address, _) | Answer::Ack(address, _) = answer {
            self.holders.answer(request.mac, address);
        }
        reply::build(&self.policy, request, source, answer).map(DhcpAction::Reply)
    }

    fn name(&self, mac: Mac) -> Option<String> {
        self.guests.get(&mac).map(|guest| guest.name.to_string())
    }

    fn who(&self, mac: Mac) -> String {
        self.name(mac).map_or_else(|| mac.to_string(), |name| format!("`{name}`"))
    }

    /// Keeps `address` for a client that does not have it yet.
    fn hold(&mut self, mac: Mac, address: Ipv4Addr, now: Time) {
        let has_it = self.leases.get(mac).is_some_and(|lease| lease.address == address && !lease.offered);
        if !has_it {
            self.leases.set(Lease { mac, address, expires: now + OFFER_TIME, offered: true });
        }
    }

    fn needs_probe(&self, mac: Mac, address: Ipv4Addr, now: Time) -> bool {
        let has_it = self.leases.get(mac).is_some_and(|lease| lease.address == address && lease.is_bound(now));
        !has_it && self.probed.get(&address).is_none_or(|until| *until <= now)
    }

    /// Whether `address` is one that the client could ever be given.
    fn is_possible(&self, mac: Mac, address: Ipv4Addr, now: Time) -> bool {
        let own = self.reserved.get(&address);
        let in_pool = (self.first..=self.last).contains(&address.into());
        subnet::is_for_guests(self.subnet, address)
            && own.map_or(in_pool && !self.is_allowed(address), |owner| *owner == mac)
            && self.blocked.get(&address).is_none_or(|block| block.until <= now)
    }

    /// Whether a guest may use `address` without a lease.
    fn is_allowed(&self, address: Ipv4Addr) -> bool {
        self.allowed.iter().any(|net| net.contains(address.into()))
    }

    /// Whether no other client has `address` or may still ask for it.
    fn is_takeable(&self, mac: Mac, address: Ipv4Addr, now: Time) -> bool {
        self.leases
            .holder(address)
            .is_none_or(|lease| lease.mac == mac || (lease.expires <= now && !self.guests.contains_key(&lease.mac)))
    }

    fn is_usable(&self, mac: Mac, address: Ipv4Addr, now: Time) -> bool {
        self.is_possible(mac, address, now) && self.is_takeable(mac, address, now)
    }

    /// Whether the client may have exactly this address; where not, why.
    fn may_have(&self, mac: Mac, address: Ipv4Addr, now: Time) -> Result<(), &'static str> {
        if !self.subnet.contains(address) {
            return Err("the address is not of this network");
        }
        if !self.is_possible(mac, address, now) {
            return Err("the address is not available");
        }
        if !self.is_takeable(mac, address, now) {
            return Err("the address belongs to another client");
        }
        let usable = |address: &Ipv4Addr| self.is_usable(mac, *address, now);
        let reserved = self.reserved_for(mac).filter(usable);
        let leased = self.leases.get(mac).map(|lease| lease.address).filter(usable);
        match reserved.or(leased) {
            Some(own) if own != address => Err("the client's address is another one"),
            _ => Ok(()),
        }
    }

    /// The address that a guest has by configuration. One that lxm has set before init ran is given to
    /// a client that asks all the same: not every guest's knows that it need not.
    fn reserved_for(&self, mac: Mac) -> Option<Ipv4Addr> {
        let guest = self.guests.get(&mac)?;
        let of_subnet = |address: &IpAddr| match address {
            IpAddr::V4(address) if self.subnet.contains(*address) => Some(*address),
            _ => None,
        };
        guest.reserved.or_else(|| guest.addresses.iter().find_map(of_subnet))
    }
}

#[path = "dhcp4_choose.rs"]
mod choose;

#[cfg(test)]
#[path = "dhcp4_tests.rs"]
mod tests;
