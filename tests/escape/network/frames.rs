//! Frames as an attacker forms them, without the checksums that no bridge looks at.

use std::net::{Ipv4Addr, Ipv6Addr};

use lxm::testing::types::Mac;

pub const BROADCAST: Mac = Mac([0xff; 6]);
pub const ALL_NODES: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const IPV6: u16 = 0x86dd;
pub const VLAN: u16 = 0x8100;

/// A frame without its sender, which the link adds.
#[derive(Clone)]
pub struct Frame {
    pub name: &'static str,
    pub to: Mac,
    pub kind: u16,
    pub payload: Vec<u8>,
}

pub fn frame(name: &'static str, to: Mac, kind: u16, payload: Vec<u8>) -> Frame {
    Frame { name, to, kind, payload }
}

/// An IPv4 packet; `options` are in whole words, `fragment` is the field of flags and offset.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, options: &[u8], fragment: u16, data: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let length = (header + data.len()) as u16;
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(options);
    packet.extend(data);
    packet
}

pub fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let length = 8 + data.len() as u16;
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], data].concat()
}

pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((data.len() as u16).to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(data);
    packet
}

/// A message about neighbours with a target: a solicitation (135), an advertisement (136), a redirect (137).
pub fn neighbour(kind: u8, target: Ipv6Addr, sender: Mac) -> Vec<u8> {
    let flags = if kind == 136 { 0x20 } else { 0 };
    let option = if kind == 136 { 2 } else { 1 };
    [&[kind, 0, 0, 0, flags, 0, 0, 0][..], &target.octets(), &[option, 1], &sender.0].concat()
}

/// A router advertisement: I am your gateway for half an hour.
pub fn advertisement() -> Vec<u8> {
    vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// An extension header of options that mean nothing; of a fragment, with its offset and flag.
pub fn options(next: u8) -> Vec<u8> {
    vec![next, 0, 1, 4, 0, 0, 0, 0]
}

pub fn fragment(next: u8, offset: u16, more: bool) -> Vec<u8> {
    let field = (offset << 3) | u16::from(more);
    [&[next, 0][..], &field.to_be_bytes(), &[0, 0, 0, 7]].concat()
}

/// ARP: `kind` 1 asks, 2 answers.
pub fn arp(kind: u8, sender: Mac, from: Ipv4Addr, of: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, kind];
    [&head[..], &sender.0, &from.octets(), &[0; 6], &of.octets()].concat()
}
