//! Requests for leases, and the probes that some wait for.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::super::dhcp4::DhcpAction;
use super::super::frame;
use super::super::reply::Packet;
use super::super::request::DhcpRequest;
use super::super::state;
use super::pending::Probe;
use super::{BATCH, Server, receive};
use crate::error::{Context, Result};
use crate::types::Mac;

/// How long a neighbour has to answer a probe: it is on the same bridge, and its kernel answers.
const PROBE_WAIT: Duration = Duration::from_millis(25);
/// Beyond so many probes at a time a client gets its address unprobed: it probes it itself.
const MAX_PROBES: usize = 512;

impl Server {
    pub(super) fn take_requests(&mut self) -> Result<()> {
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
            let Some(request) = datagram.and_then(|datagram| DhcpRequest::parse(datagram.payload)) else { continue };
            replies.extend(self.decide(request, source)?);
        }
        // A lease is written to the file before its client is answered.
        let settled = self.settle(false);
        replies.iter().for_each(|reply| self.send(reply));
        taken.and(settled)
    }

    /// The answer to a request, unless a probe has to come first.
    pub(super) fn decide(&mut self, request: DhcpRequest, source: Mac) -> Result<Option<Packet>> {
        loop {
            let now = state::now();
            let mut state = self.state.borrow_mut();
            let Some(dhcp) = &mut state.dhcp else { return Ok(None) };
            match dhcp.handle(&request, source, now)? {
                DhcpAction::Nothing => return Ok(None),
                DhcpAction::Reply(packet) => return Ok(Some(packet)),
                DhcpAction::Probe(address) if self.probes.len() >= MAX_PROBES => dhcp.found_free(address, now),
                DhcpAction::Probe(address) => {
                    drop(state);
                    let owner = request.mac;
                    self.probe(address, owner, Some((request, source)));
                    return Ok(None);
                }
            }
        }
    }

    /// Asks the link for `address`, or waits for the answer that was asked for already.
    pub(super) fn probe(&mut self, address: Ipv4Addr, owner: Mac, request: Option<(DhcpRequest, Mac)>) {
        if !self.probes.contains_key(&address) {
            self.probe_ends.push_back((Instant::now() + PROBE_WAIT, address));
            if let Some(socket) = &self.arp {
                // A lost probe counts as one without an answer.
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

    pub(super) fn take_arp(&mut self) -> Result<()> {
        let mut buffer = [0; 64];
        for _ in 0..BATCH {
            let Some((length, _)) = receive(&self.arp, &mut buffer).context(|| "receive ARP")? else { break };
            let Some((mac, address)) = frame::parse_arp(&buffer[..length]) else { continue };
            self.probe_answered(mac, address);
            if self.probes.get(&address).is_some_and(|probe| probe.owner != mac) {
                if let Some(dhcp) = &mut self.state.borrow_mut().dhcp {
                    dhcp.found_used(address, mac, state::now());
                }
                self.end_probe(address)?;
            }
        }
        Ok(())
    }

    pub(super) fn end_probes(&mut self) -> Result<()> {
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

    /// Handles the requests that waited for a probe of `address`, whose outcome is noted.
    pub(super) fn end_probe(&mut self, address: Ipv4Addr) -> Result<()> {
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

    pub(super) fn send(&self, reply: &Packet) {
        if let Some(socket) = &self.dhcp {
            // A client that gets no answer asks again.
            let _ = socket.socket.send(&reply.bytes, reply.to);
        }
    }

    pub(super) fn prepare(&mut self, mac: Mac) {
        let address = self.state.borrow_mut().dhcp.as_mut().and_then(|dhcp| dhcp.prepare(mac, state::now()));
        if let Some(address) = address {
            self.probe(address, mac, None);
        }
    }
}
