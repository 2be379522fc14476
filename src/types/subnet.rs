//! The choice of a bridge's networks: private ones that nothing of the host overlaps.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use sha2::{Digest, Sha256};

/// The prefix lengths of a bridge's network, the best first: a bridge has room for a thousand guests, and the leases
/// of those that are gone are remembered as long as there is room.
const PREFIXES: [u8; 2] = [20, 24];

/// Picks the gateway address and network of a bridge, none of `taken` overlapping it.
///
/// Where to begin is a hash of `seed`, so that two hosts seldom have the same network, which would
/// keep a VPN from joining them. `None` when every private /24 is taken.
pub(crate) fn choose_ipv4(taken: &[Ipv4Network], seed: &[&str]) -> Option<Ipv4Network> {
    let start = first_bytes(seed);
    // 10.64.0.0 to 10.254.255.0: the lower part is where other programs (LXC, qemu, docker's
    // pools, clouds) and people put theirs. Then the rest of RFC 1918.
    let ranges: [(u32, u32); 3] = [(0x0a40_0000, 191 << 16), (0xac10_0000, 16 << 16), (0xc0a8_0000, 1 << 16)];
    let of_prefix = |prefix: u8| ranges.map(|(first, addresses)| (prefix, first, addresses));
    PREFIXES.into_iter().flat_map(of_prefix).find_map(|(prefix, first, addresses)| {
        let size = 1 << (32 - prefix);
        let count = addresses / size;
        let candidate = |step: u32| {
            let network = first + ((start % count + step) % count) * size;
            Ipv4Network::new(Ipv4Addr::from(network + 1), prefix).expect("they are prefix lengths")
        };
        (0..count).map(candidate).find(|candidate| taken.iter().all(|other| !overlap4(*candidate, *other)))
    })
}

/// The bridge's address in a unique local /64 (RFC 4193), always the same for the same `seed`.
pub(crate) fn choose_ipv6(taken: &[Ipv6Network], seed: &[&str]) -> Option<Ipv6Network> {
    (0..16u8).find_map(|attempt| {
        let digest = Sha256::digest([seed.join("\0").as_bytes(), &[attempt]].concat());
        let mut bytes = [0; 16];
        bytes[0] = 0xfd;
        bytes[1..8].copy_from_slice(&digest[..7]);
        bytes[15] = 1;
        let candidate = Ipv6Network::new(Ipv6Addr::from(bytes), 64).expect("64 is a prefix length");
        taken.iter().all(|other| !overlap6(candidate, *other)).then_some(candidate)
    })
}

/// Whether an address of a bridge's network `net`, which is written with the bridge's own address, can be
/// a guest's.
pub(crate) fn is_for_guests(net: Ipv4Network, address: Ipv4Addr) -> bool {
    net.contains(address) && ![net.network(), net.ip(), net.broadcast()].contains(&address)
}

/// Whether two networks share an address. A default route shares all and means nothing.
pub(crate) fn overlap4(a: Ipv4Network, b: Ipv4Network) -> bool {
    a.prefix() != 0 && b.prefix() != 0 && (a.contains(b.network()) || b.contains(a.network()))
}

/// The same for IPv6.
pub(crate) fn overlap6(a: Ipv6Network, b: Ipv6Network) -> bool {
    a.prefix() != 0 && b.prefix() != 0 && (a.contains(b.network()) || b.contains(a.network()))
}

fn first_bytes(seed: &[&str]) -> u32 {
    let digest = Sha256::digest(seed.join("\0"));
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> Vec<Ipv4Network> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn a_seed_decides_the_networks() {
        let of = |seed: &str| (choose_ipv4(&[], &[seed]).unwrap(), choose_ipv6(&[], &[seed]).unwrap());
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a").0, of("b").0);
        assert_ne!(of("a").1, of("b").1);
    }

    #[test]
    fn nothing_of_the_host_is_overlapped() {
        let first = choose_ipv4(&[], &["seed"]).unwrap();
        for taken in [
            vec![first],
            nets("10.0.0.0/8"),
            nets("10.0.0.0/8 172.16.0.0/12"),
            nets("0.0.0.0/0 10.0.0.0/9 10.128.0.0/10 10.192.0.0/11 172.16.3.7/32"),
            vec![Ipv4Network::new(Ipv4Addr::from(u32::from(first.network()) + 77), 32).unwrap()],
        ] {
            let chosen = choose_ipv4(&taken, &["seed"]).unwrap();
            assert_eq!(chosen.prefix(), 20);
            assert_eq!(chosen.ip().octets()[3], 1);
            assert!(chosen.ip().is_private());
            assert!(taken.iter().all(|other| !overlap4(chosen, *other)), "{chosen} {taken:?}");
        }
        assert_eq!(choose_ipv4(&nets("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16"), &["seed"]), None);
    }

    #[test]
    fn the_last_free_network_is_found() {
        let mut taken = nets("10.0.0.0/8 172.16.0.0/12");
        taken.extend(
            (0..=255u8).filter(|i| *i != 77).map(|i| Ipv4Network::new(Ipv4Addr::new(192, 168, i, 0), 24).unwrap()),
        );
        assert_eq!(choose_ipv4(&taken, &["x"]).unwrap().to_string(), "192.168.77.1/24");
    }

    #[test]
    fn the_ipv6_network_is_unique_local_and_overlaps_nothing() {
        let first = choose_ipv6(&[], &["seed"]).unwrap();
        assert!(first.ip().is_unique_local() && first.prefix() == 64);
        let second = choose_ipv6(&[first], &["seed"]).unwrap();
        assert!(!overlap6(first, second));
        assert_eq!(choose_ipv6(&["fc00::/7".parse().unwrap()], &["seed"]), None);
    }
}
