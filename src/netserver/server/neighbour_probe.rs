//! Has the host's kernel learn the MAC address of a guest that has just got its address.
//!
//! A program of the host that sends to a guest before it has its address has to wait: the kernel asks for the
//! guest's MAC address once a second (`retrans_time_ms` of arp(7)), and queues what is to be sent. The server
//! knows when the guest takes its address, and asks in the host's name in that moment; the guest's answer
//! goes to the kernel, which takes it whichever process has asked, and sends at once.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::super::frame;
use super::Server;
use super::pending::PendingProbe;
use crate::types::Mac;

/// How long after its lease a guest is asked first; each time again after twice as long.
const FIRST: Duration = Duration::from_millis(2);
/// By then the kernel has asked by itself.
const LAST: Duration = Duration::from_secs(1);

impl PendingProbe {
    pub(super) fn due(&self) -> Instant {
        self.asked_at + self.wait
    }
}

impl Server {
    /// A guest has been leased an address.
    pub(super) fn expect(&mut self, mac: Mac, address: Ipv4Addr) {
        self.pending_probes.retain(|pending| pending.mac != mac);
        self.pending_probes.push(PendingProbe { mac, address, asked_at: Instant::now(), wait: FIRST });
    }

    /// Sends the probes that are due.
    pub(super) fn send_neighbour_probes(&mut self) {
        let (Some(socket), Some(net)) = (&self.arp, self.settings.ipv4) else { return };
        let Ok(own) = socket.socket.own_mac() else { return };
        let now = Instant::now();
        for pending in self.pending_probes.iter_mut().filter(|pending| pending.due() <= now) {
            // A lost question is asked again.
            let _ = socket.socket.send(&frame::arp_request(own, net.ip(), pending.address), pending.mac);
            *pending = PendingProbe { asked_at: now, wait: pending.wait * 2, ..*pending };
        }
        self.pending_probes.retain(|pending| pending.wait < LAST);
    }

    /// A guest was heard at its address.
    pub(super) fn probe_answered(&mut self, mac: Mac, address: Ipv4Addr) {
        self.pending_probes.retain(|pending| (pending.mac, pending.address) != (mac, address));
    }
}
