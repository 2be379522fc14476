//! The guest's addresses, as they come and go.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use rtnetlink::{Handle, MulticastGroup};

use super::record::PublishTarget;
use crate::error::{Context, Result};
use crate::net::netlink::in_netns;

/// Usable addresses of the guest's interfaces, by interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct InterfaceAddresses(BTreeMap<String, Vec<IpAddr>>);

impl InterfaceAddresses {
    /// Where to reach an interface, first in the family of `like`.
    pub(super) fn of(&self, interface: &str, like: IpAddr) -> Vec<IpAddr> {
        let mut addresses = self.0.get(interface).cloned().unwrap_or_default();
        addresses.sort_by_key(|address| address.is_ipv6() != like.is_ipv6());
        addresses
    }

    /// Those of an interface.
    pub(super) fn all_of(&self, interface: &str) -> &[IpAddr] {
        self.0.get(interface).map_or(&[], Vec::as_slice)
    }

    /// Keeps the addresses that are fit; returns whether all are.
    pub(super) fn keep(&mut self, is_fit: impl Fn(&str, IpAddr) -> Result<bool>) -> Result<bool> {
        let mut all = true;
        for (interface, addresses) in &mut self.0 {
            let mut fit = Vec::new();
            for address in std::mem::take(addresses) {
                if is_fit(interface, address)? {
                    fit.push(address);
                } else {
                    all = false;
                }
            }
            *addresses = fit;
        }
        self.0.retain(|_, addresses| !addresses.is_empty());
        Ok(all)
    }

    pub(super) fn into_targets(self) -> Vec<PublishTarget> {
        self.0.into_iter().map(|(guest, addresses)| PublishTarget { guest, addresses }).collect()
    }
}

/// How many addresses of an interface are looked at: each is asked for, and a guest sets what it likes.
const MOST: usize = 16;

/// How soon the next change of a guest's addresses is looked at: it may change them as fast as it likes,
/// and each change has the rules of the whole host written anew.
#[derive(Debug, Default)]
pub(super) struct ChangePace {
    last: Option<Instant>,
    in_a_row: u32,
}

impl ChangePace {
    /// A boot has a handful of changes, and then there are none for long.
    const FREE: u32 = 10;
    const CALM: Duration = Duration::from_secs(10);
    const REST: Duration = Duration::from_secs(5);

    pub(super) fn changed(&mut self, now: Instant) {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) >= Self::CALM) {
            self.in_a_row = 0;
        }
        (self.last, self.in_a_row) = (Some(now), self.in_a_row.saturating_add(1));
    }

    pub(super) fn rest(&self) -> Duration {
        if self.in_a_row > Self::FREE { Self::REST } else { Duration::ZERO }
    }
}

/// The guest's network, seen through a socket in its namespace.
pub(super) struct GuestNetwork {
    handle: Handle,
    changes: futures_util::stream::BoxStream<'static, ()>,
}

impl GuestNetwork {
    /// Opens the socket, within a runtime.
    pub(super) fn open(netns: &File) -> Result<Self> {
        let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let open = || rtnetlink::new_multicast_connection(&groups).context(|| "listen for the guest's addresses");
        let (connection, handle, changes) = in_netns(netns.as_fd(), open)?;
        tokio::spawn(connection);
        Ok(GuestNetwork { handle, changes: changes.map(|_| ()).boxed() })
    }

    /// Waits for a change of addresses.
    pub(super) async fn changed(&mut self) {
        match self.changes.next().await {
            Some(()) => {
                // The rest of the burst is seen in one look.
                while let Some(Some(())) = futures_util::FutureExt::now_or_never(self.changes.next()) {}
            }
            // The connection ends with the runtime alone.
            None => std::future::pending().await,
        }
    }

    /// The addresses that can be connected to now.
    pub(super) async fn addresses(&self, interfaces: &[String]) -> Result<InterfaceAddresses> {
        let step = || "list the guest's addresses";
        let all: Vec<AddressMessage> = self.handle.address().get().execute().try_collect().await.context(step)?;
        let mut addresses = BTreeMap::new();
        for interface in interfaces {
            let link = crate::net::netlink::link_by_name(&self.handle, interface).await?;
            let Some(index) = link.map(|link| link.header.index) else { continue };
            let of_link = all.iter().filter(|message| message.header.index == index);
            let usable = of_link.filter(|message| is_usable(message)).filter_map(address);
            let usable: Vec<IpAddr> = usable.take(MOST).collect();
            if !usable.is_empty() {
                addresses.insert(interface.clone(), usable);
            }
        }
        Ok(InterfaceAddresses(addresses))
    }
}

fn address(message: &AddressMessage) -> Option<IpAddr> {
    // On a point-to-point link `Address` is the other end and `Local` ours.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

/// Whether it is of global scope, known to be unique, and neither outgoing alone nor on its way out.
fn is_usable(message: &AddressMessage) -> bool {
    let flags = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    // IFA_F_TEMPORARY is IFA_F_SECONDARY's bit: a further address of IPv4, a passing one of IPv6.
    let unfit = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated | AddressFlags::Secondary;
    message.header.scope == AddressScope::Universe && !flags.unwrap_or(AddressFlags::empty()).intersects(unfit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_flip_are_followed_slowly_but_a_boot_at_once() {
        let (mut pace, start) = (ChangePace::default(), Instant::now());
        let mut flip = |second: u64| {
            pace.changed(start + Duration::from_secs(second));
            pace.rest()
        };
        assert!((0..10).all(|second| flip(second).is_zero()));
        assert!((10..30).all(|second| flip(second) == ChangePace::REST));
        assert!(flip(60).is_zero());
    }
}
