//! Router advertisements: how a guest comes to its IPv6 address, route and resolver (RFC 4861,
//! 4862, 8106).

use std::net::Ipv6Addr;
use std::time::Duration;

use super::dns::random_id;
use super::frame::icmpv6;
use crate::config::bridge::BridgeSettings;
use crate::types::Mac;

const ADVERTISEMENT: u8 = 134;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Ethernet's address of [`ALL_NODES`].
pub(super) const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
/// Seconds that router and resolver are believed in; three times the longest interval.
const ROUTER_LIFETIME: u16 = 1800;
const VALID_LIFETIME: u32 = 86400;
const PREFERRED_LIFETIME: u32 = 14400;
const MAX_INTERVAL: u64 = 600;
const MIN_INTERVAL: u64 = 200;
/// The first few come faster, for guests that were there before us.
const INITIAL: u32 = 3;
const INITIAL_INTERVAL: Duration = Duration::from_secs(16);

/// Whether the link has a router now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    /// This router ends: guests look for another one at once.
    Leaving,
}

/// What is advertised on a bridge.
#[derive(Debug, Clone)]
pub(super) struct Advertisement {
    /// The /64's first address.
    prefix: Ipv6Addr,
    resolver: Option<Ipv6Addr>,
    domain: String,
    mtu: Option<u16>,
}

impl Advertisement {
    /// `None` for a bridge without IPv6.
    pub(super) fn new(settings: &BridgeSettings, serves_names: bool) -> Option<Self> {
        let net = settings.ipv6?;
        Some(Advertisement {
            prefix: net.network(),
            resolver: serves_names.then(|| net.ip()),
            domain: settings.domain.clone(),
            mtu: settings.mtu,
        })
    }

    /// Builds the IPv6 packet, from the bridge's link-local address `from` to `to`, or to all.
    pub(super) fn packet(&self, from: Ipv6Addr, to: Option<Ipv6Addr>, own: Mac, presence: Presence) -> Vec<u8> {
        let lifetime = if presence == Presence::Here { ROUTER_LIFETIME } else { 0 };
        let mut message = vec![ADVERTISEMENT, 0, 0, 0, 64, 0];
        message.extend(lifetime.to_be_bytes());
        message.extend([0; 8]);
        // Source link-layer address.
        message.extend([1, 1]);
        message.extend(own.0);
        if let Some(mtu) = self.mtu {
            message.extend([5, 1, 0, 0, 0, 0]);
            message.extend(mtu.to_be_bytes());
        }
        // Prefix: on this link, and to make addresses of.
        message.extend([3, 4, 64, 0xc0]);
        message.extend(VALID_LIFETIME.to_be_bytes());
        message.extend(PREFERRED_LIFETIME.to_be_bytes());
        message.extend([0; 4]);
        message.extend(self.prefix.octets());
        if let Some(resolver) = self.resolver {
            message.extend([25, 3, 0, 0]);
            message.extend(u32::from(lifetime).to_be_bytes());
            message.extend(resolver.octets());
            let domain = search_list(&self.domain);
            message.extend([31, (1 + domain.len() / 8) as u8, 0, 0]);
            message.extend(u32::from(lifetime).to_be_bytes());
            message.extend(domain);
        }
        icmpv6(from, to.unwrap_or(ALL_NODES), &message)
    }
}

/// A domain as a DNS name, filled up to a multiple of eight bytes.
fn search_list(domain: &str) -> Vec<u8> {
    let mut name = Vec::new();
    for label in domain.split('.') {
        name.push(label.len() as u8);
        name.extend(label.as_bytes());
    }
    name.push(0);
    name.resize(name.len().next_multiple_of(8), 0);
    name
}

/// How long after the `sent`th unasked advertisement the next is due.
pub(super) fn interval(sent: u32) -> Duration {
    if sent < INITIAL {
        return INITIAL_INTERVAL;
    }
    // At random, so that routers do not fall into step (RFC 4861, 6.2.4).
    Duration::from_secs(MIN_INTERVAL + u64::from(random_id()) % (MAX_INTERVAL - MIN_INTERVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const OWN: Mac = Mac([0x10, 0x66, 0x6a, 0, 0, 0]);

    fn advertisement(serves_names: bool) -> Advertisement {
        let ipv6 = Some("fd00:1::1/64".parse().unwrap());
        let settings = BridgeSettings { ipv6, mtu: Some(1400), domain: "lab.lxm".into(), ..BridgeSettings::default() };
        Advertisement::new(&settings, serves_names).unwrap()
    }

    /// The options by type, each a whole number of eights long.
    fn options(packet: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut rest = &packet[56..];
        let mut options = Vec::new();
        while let [kind, eights, ..] = rest {
            let length = usize::from(*eights) * 8;
            options.push((*kind, rest[2..length].to_vec()));
            rest = &rest[length..];
        }
        options
    }

    #[test]
    fn it_advertises_prefix_route_resolver_and_domain() {
        let packet = advertisement(true).packet(FROM, None, OWN, Presence::Here);
        assert_eq!((packet[7], packet[40], &packet[46..48]), (255, 134, &1800u16.to_be_bytes()[..]));
        assert_eq!(packet[24..40], ALL_NODES.octets());
        let options = options(&packet);
        let kinds: Vec<u8> = options.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [1, 5, 3, 25, 31]);
        assert_eq!(options[2].1[14..], "fd00:1::".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(options[3].1[6..], "fd00:1::1".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(options[4].1[6..15], *b"\x03lab\x03lxm\0");
    }

    #[test]
    fn the_routers_end_is_advertised_and_no_absent_resolver() {
        let to = "fe80::2".parse().unwrap();
        let packet = advertisement(false).packet(FROM, Some(to), OWN, Presence::Leaving);
        assert_eq!((&packet[46..48], &packet[24..40]), (&[0, 0][..], &to.octets()[..]));
        assert!(options(&packet).iter().all(|(kind, _)| ![25, 31].contains(kind)));
    }

    #[test]
    fn the_first_come_fast_and_the_others_within_the_limits() {
        assert_eq!(interval(1), INITIAL_INTERVAL);
        for _ in 0..100 {
            let seconds = interval(9).as_secs();
            assert!((MIN_INTERVAL..MAX_INTERVAL).contains(&seconds), "{seconds}");
        }
    }
}
