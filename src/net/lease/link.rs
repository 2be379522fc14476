//! One interface of a guest whose lease is kept from outside.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use dhcproto::v4::CLIENT_PORT;
use rtnetlink::Handle;

use super::apply;
use super::client::{Action, Asker, Client, Lease};
use super::message::Answer;
use crate::error::{Context, Result};
use crate::net::netlink::in_netns;
use crate::net::record::LinkRecord;
use crate::netserver::frame;
use crate::sys::packet::PacketSocket;
use crate::sys::ready::ReadableFd;
use crate::types::ContainerName;

const ETH_IPV4: u16 = 0x0800;
/// As many packets are read at once; then others have their turn, since the guest can send itself what it likes.
const BATCH: usize = 32;
const REST: Duration = Duration::from_millis(20);

pub(super) struct LeasedLink {
    /// Its name in the guest when it was made.
    pub(super) name: String,
    index: u32,
    socket: PacketSocket,
    client: RefCell<Client>,
}

impl LeasedLink {
    /// Opens its socket in the guest's network namespace; needs CAP_NET_RAW.
    pub(super) fn open(netns: &File, link: &LinkRecord, guest: &ContainerName) -> Result<Self> {
        let open = || -> Result<Self> {
            let index = nix::net::if_::if_nametoindex(link.guest.as_str())?;
            let socket = PacketSocket::open(index, ETH_IPV4, &frame::udp_filter(CLIENT_PORT))?;
            let asker = Asker {
                mac: socket.own_mac()?,
                client_id: [&[1], &link.mac.0[..]].concat(),
                hostname: guest.to_string(),
                // An ipvlan has its parent's hardware address: the host would take what is sent there.
                broadcast: link.host.is_none(),
            };
            let client = RefCell::new(Client::new(asker, Instant::now()));
            Ok(LeasedLink { name: link.guest.clone(), index, socket, client })
        };
        in_netns(netns.as_fd(), open).context(|| format!("`{}`", link.guest))
    }

    /// Keeps the lease; with `until_bound` until there is one. `told` hears of every change. Can be dropped
    /// and called again at any time.
    pub(super) async fn keep(&self, guest: &Handle, until_bound: bool, told: &impl Fn()) {
        let Ok(readable) = ReadableFd::new(&self.socket) else { return };
        loop {
            self.client.borrow_mut().tick(Instant::now());
            self.act(guest, told).await;
            let (due, listens, is_bound) = {
                let client = self.client.borrow();
                (client.due(), client.listens(), client.lease().is_some())
            };
            if until_bound && is_bound {
                return;
            }
            let wait = tokio::time::sleep_until(due.into());
            if !listens {
                wait.await;
                continue;
            }
            tokio::select! {
                () = wait => {}
                () = readable.readable() => {
                    if self.receive(&readable) {
                        self.act(guest, told).await;
                        tokio::time::sleep(REST).await;
                    }
                }
            }
        }
    }

    pub(super) fn lease(&self) -> Option<Lease> {
        self.client.borrow().lease().cloned()
    }

    /// Gives the lease back.
    pub(super) fn release(&self) {
        if let Some(Action::Send { to, packet }) = self.client.borrow_mut().release() {
            let _ = self.socket.send(&packet, to);
        }
    }

    /// Carries out what is to be done. What fails is done again with the next renewal: it is the guest that
    /// can take its link down or away.
    async fn act(&self, guest: &Handle, told: &impl Fn()) {
        loop {
            let Some(action) = self.client.borrow().next_action() else { return };
            let done = match &action {
                Action::Send { to, packet } => self.socket.send(packet, *to).map_err(Into::into),
                Action::Configure(lease) => apply::configure(guest, self.index, lease).await,
                Action::Remove(lease) => apply::remove(guest, self.index, lease).await,
            };
            if let Err(e) = done {
                crate::sys::log::line(&format!("warning: lease of `{}`: {e}", self.name));
            }
            self.client.borrow_mut().done();
            if !matches!(action, Action::Send { .. }) {
                told();
            }
        }
    }

    /// Takes what has arrived; returns whether there may be more.
    fn receive(&self, readable: &ReadableFd) -> bool {
        let mut buffer = [0; 2048];
        for _ in 0..BATCH {
            match readable.take(|| self.socket.receive(&mut buffer)) {
                Ok(Some(received)) => {
                    let datagram = frame::parse_udp(&buffer[..received.length.min(buffer.len())]);
                    let answer = datagram.and_then(|datagram| Answer::parse(datagram.payload));
                    if let (Some(answer), Some(source)) = (answer, received.source) {
                        self.client.borrow_mut().take(&answer, source, Instant::now());
                    }
                }
                Ok(None) => return false,
                // ENETDOWN: the guest has taken its link down; the kernel says it once.
                Err(_) => return true,
            }
        }
        true
    }
}
