//! Solicitations answered with advertisements, and what they tell of the guests' addresses.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::super::frame::{self, NEIGHBOUR_SOLICITATION, Solicitation};
use super::super::names::Neighbours;
use super::super::ra::{self, Presence};
use super::super::status::ServerStatus;
use super::{BATCH, Server, receive};
use crate::error::{Context, Result};
use crate::types::Mac;

/// How soon to look again for the link-local address that advertisements come from.
const ADDRESS_RETRY: Duration = Duration::from_secs(1);

impl Server {
    pub(super) fn take_solicitations(&mut self) -> Result<()> {
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
                // To that guest's MAC alone, though it may have no address yet (RFC 6085), so that every
                // guest is answered at once and none receives the answers to the others.
                let to = (!solicitation.from.is_unspecified()).then_some(solicitation.from);
                self.advertise(to, source, Presence::Here);
            }
        }
        if learnt { self.settle(true) } else { Ok(()) }
    }

    /// Notes the address that a guest claims or sends from; returns whether it is new.
    pub(super) fn learn(&mut self, source: Mac, solicitation: &Solicitation) -> bool {
        let claimed = if solicitation.from.is_unspecified() { solicitation.target } else { Some(solicitation.from) };
        let of_the_bridge = |address: &Ipv6Addr| self.settings.ipv6.is_some_and(|net| net.contains(*address));
        let mut state = self.state.borrow_mut();
        if let Some(address) = claimed
            && state.guests.contains_key(&source)
        {
            state.neighbours.note_sender(source, address);
        }
        match claimed.filter(of_the_bridge) {
            Some(address) if state.guests.contains_key(&source) => state.neighbours.learn(source, address),
            _ => false,
        }
    }

    /// Sends an advertisement; returns whether there was an address to send it from.
    pub(super) fn advertise(&self, to: Option<Ipv6Addr>, mac: Mac, presence: Presence) -> bool {
        let (Some(socket), Some(advertisement)) = (&self.solicitations, &self.advertisement) else { return true };
        let (Some(from), Ok(own)) = (self.link.link_local(), socket.socket.own_mac()) else { return false };
        // A lost one is made good by the next.
        let _ = socket.socket.send(&advertisement.packet(from, to, own, presence), mac);
        true
    }

    pub(super) fn advertise_to_all(&mut self, presence: Presence) {
        let wait = if self.advertise(None, ra::ALL_NODES_MAC, presence) {
            self.advertised = self.advertised.saturating_add(1);
            ra::interval(self.advertised)
        } else {
            ADDRESS_RETRY
        };
        self.advertise_at = self.advertisement.is_some().then(|| Instant::now() + wait);
    }

    /// Takes the guests' IPv6 addresses from what an earlier server wrote: they are claimed once,
    /// and not again because we were restarted.
    pub(super) fn recall_neighbours(&mut self) {
        let Ok(Some(status)) = ServerStatus::read(&self.state_dir) else { return };
        let mut neighbours = Neighbours::default();
        for guest in status.guests {
            for address in guest.addresses {
                if let IpAddr::V6(address) = address
                    && self.settings.ipv6.is_some_and(|net| net.contains(address))
                {
                    neighbours.learn(guest.mac, address);
                    neighbours.note_sender(guest.mac, address);
                }
            }
        }
        self.state.borrow_mut().neighbours = neighbours;
    }
}
