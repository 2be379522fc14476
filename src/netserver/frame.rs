//! Packets as they are on the link: UDP over IPv4, ARP, and ICMPv6 over IPv6.
//!
//! Every parser takes what any guest can send and returns `None` for what it does not understand.
//!
//! Not with the crate `etherparse`: of its 85,000 lines (with tests) these five headers would use little, and
//! the filters for the kernel stay ours in any case.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use socket2::SockFilter;

use crate::types::Mac;

/// Protocol number of ICMPv6 in an IPv6 header.
const ICMPV6: u8 = 58;
pub(super) const ROUTER_SOLICITATION: u8 = 133;
pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;

// Classic BPF, linux/bpf_common.h.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_HALF_INDEXED: u16 = 0x48;
const LOAD_HEADER_LENGTH: u16 = 0xb1;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const WHOLE: u32 = 0x4_0000;

/// Passes unfragmented UDP over IPv4 to `port`.
pub(crate) fn udp_filter(port: u16) -> [SockFilter; 9] {
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 9),
        SockFilter::new(JUMP_EQUAL, 0, 5, 17),
        SockFilter::new(LOAD_HALF, 0, 0, 6),
        SockFilter::new(JUMP_ANY_BIT, 3, 0, 0x3fff),
        SockFilter::new(LOAD_HEADER_LENGTH, 0, 0, 0),
        SockFilter::new(LOAD_HALF_INDEXED, 0, 0, 2),
        SockFilter::new(JUMP_EQUAL, 1, 0, u32::from(port)),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, WHOLE),
    ]
}

/// Passes router and neighbour solicitations.
pub(super) fn solicitation_filter() -> [SockFilter; 7] {
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 6),
        SockFilter::new(JUMP_EQUAL, 0, 4, u32::from(ICMPV6)),
        SockFilter::new(LOAD_BYTE, 0, 0, 40),
        SockFilter::new(JUMP_EQUAL, 1, 0, u32::from(ROUTER_SOLICITATION)),
        SockFilter::new(JUMP_EQUAL, 0, 1, u32::from(NEIGHBOUR_SOLICITATION)),
        SockFilter::new(RETURN, 0, 0, WHOLE),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// The Internet checksum (RFC 1071) of the parts in sequence; all but the last of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low));
    let mut sum: u32 = parts.iter().flat_map(|part| part.chunks(2)).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A UDP datagram over IPv4.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub payload: &'a [u8],
}

/// Parses an IPv4 packet that holds a whole UDP datagram.
///
/// The UDP checksum is not checked: a sender on a veth leaves it to hardware that does not exist.
pub(crate) fn parse_udp(packet: &[u8]) -> Option<Datagram<'_>> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    if packet[0] >> 4 != 4 || header < 20 || packet.len() < header + 8 || packet[9] != 17 {
        return None;
    }
    let half = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    if half(6) & 0x3fff != 0 {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let length = usize::from(half(header + 4));
    // What is beyond the datagram is Ethernet's padding.
    let payload = packet.get(header + 8..header + length)?;
    Some(Datagram {
        from: SocketAddrV4::new(address(12), half(header)),
        to: SocketAddrV4::new(address(16), half(header + 2)),
        payload,
    })
}

/// Builds the IPv4 packet of a UDP datagram, both checksums filled in.
pub(crate) fn udp(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len();
    let mut packet = Vec::with_capacity(20 + length);
    packet.extend([0x45, 0x10]);
    packet.extend(((20 + length) as u16).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    let header_sum = checksum(&[&packet[..20]]);
    packet[10..12].copy_from_slice(&header_sum.to_be_bytes());
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend((length as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    let pseudo = [&[0, 17][..], &(length as u16).to_be_bytes()].concat();
    let sum = match checksum(&[&packet[12..20], &pseudo, &packet[20..]]) {
        // Zero means "no checksum" in UDP over IPv4 (RFC 768).
        0 => 0xffff,
        sum => sum,
    };
    packet[26..28].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Builds an ARP probe for `address` (RFC 5227): it names no sender's address, so that it changes no
/// neighbour's table.
pub(super) fn arp_probe(own: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp_request(own, Ipv4Addr::UNSPECIFIED, address)
}

/// Builds an ARP request for `address`, sent by `from` at `own`.
pub(super) fn arp_request(own: Mac, from: Ipv4Addr, address: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(own.0);
    packet.extend(from.octets());
    packet.extend([0; 6]);
    packet.extend(address.octets());
    packet
}

/// The sender of an ARP packet of any kind: MAC and IP address.
pub(super) fn parse_arp(packet: &[u8]) -> Option<(Mac, Ipv4Addr)> {
    let packet: &[u8; 28] = packet.get(..28)?.try_into().ok()?;
    if packet[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let address = Ipv4Addr::new(packet[14], packet[15], packet[16], packet[17]);
    let mac = Mac([packet[8], packet[9], packet[10], packet[11], packet[12], packet[13]]);
    (!address.is_unspecified() && mac.is_unicast()).then_some((mac, address))
}

/// A router or neighbour solicitation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Solicitation {
    pub from: Ipv6Addr,
    pub kind: u8,
    /// The address that a neighbour solicitation asks for.
    pub target: Option<Ipv6Addr>,
}

/// Parses an IPv6 packet that is a solicitation of this link.
pub(super) fn parse_solicitation(packet: &[u8]) -> Option<Solicitation> {
    // A hop limit of 255 proves that no router has passed it on (RFC 4861, 6.1.1 and 7.1.1).
    if packet.len() < 48 || packet[0] >> 4 != 6 || packet[6] != ICMPV6 || packet[7] != 255 || packet[41] != 0 {
        return None;
    }
    let address =
        |at: usize| -> Option<Ipv6Addr> { Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?)) };
    let kind = packet[40];
    let target = match kind {
        ROUTER_SOLICITATION => None,
        NEIGHBOUR_SOLICITATION => Some(address(48)?),
        _ => return None,
    };
    Some(Solicitation { from: address(8)?, kind, target })
}

/// Builds the IPv6 packet of an ICMPv6 message whose checksum field is zero so far.
pub(super) fn icmpv6(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((message.len() as u16).to_be_bytes());
    packet.extend([ICMPV6, 255]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(message);
    let pseudo = [&(message.len() as u32).to_be_bytes()[..], &[0, 0, 0, ICMPV6]].concat();
    let sum = checksum(&[&packet[8..40], &pseudo, message]);
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FROM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 3, 1), 67);
    const TO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 3, 9), 68);

    #[test]
    fn a_datagram_reads_back_and_its_checksums_are_right() {
        for payload in [&b""[..], b"odd", b"even"] {
            let packet = udp(FROM, TO, payload);
            assert_eq!(parse_udp(&packet), Some(Datagram { from: FROM, to: TO, payload }));
            assert_eq!(checksum(&[&packet[..20]]), 0, "the header's");
            let pseudo = [0, 17, packet[24], packet[25]];
            assert_eq!(checksum(&[&packet[12..20], &pseudo, &packet[20..]]), 0, "the datagram's");
        }
    }

    #[test]
    fn a_fragment_and_another_protocol_are_not_datagrams() {
        for (at, byte) in [(6, 0x20), (7, 1), (9, 6), (0, 0x46), (0, 0x41), (25, 200)] {
            let mut packet = udp(FROM, TO, b"payload");
            packet[at] = byte;
            assert_eq!(parse_udp(&packet), None, "byte {at} = {byte:#x}");
        }
    }

    #[test]
    fn an_arp_answer_names_its_sender_and_a_probe_none() {
        let mac = Mac([0x10, 0x66, 0x6a, 0, 0, 1]);
        let mut packet = arp_probe(mac, *TO.ip());
        assert_eq!(parse_arp(&packet), None);
        packet[14..18].copy_from_slice(&TO.ip().octets());
        assert_eq!(parse_arp(&packet), Some((mac, *TO.ip())));
    }

    #[test]
    fn a_solicitation_must_come_from_this_link() {
        let from = "fe80::1".parse().unwrap();
        let mut packet = icmpv6(from, "ff02::2".parse().unwrap(), &[ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
        let solicitation = Solicitation { from, kind: ROUTER_SOLICITATION, target: None };
        assert_eq!(parse_solicitation(&packet), Some(solicitation));
        packet[7] = 64;
        assert_eq!(parse_solicitation(&packet), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = (parse_udp(&bytes), parse_arp(&bytes), parse_solicitation(&bytes));
            // With a header that leads the parsers further in.
            let mut bytes = bytes;
            for (at, byte) in [(0, 0x45), (6, 0), (7, 0), (9, 17)] {
                if let Some(slot) = bytes.get_mut(at) { *slot = byte }
            }
            let _ = parse_udp(&bytes);
            for (at, byte) in [(0, 0x60), (6, ICMPV6), (7, 255), (40, NEIGHBOUR_SOLICITATION), (41, 0)] {
                if let Some(slot) = bytes.get_mut(at) { *slot = byte }
            }
            let _ = parse_solicitation(&bytes);
        }
    }
}
