//! What guests send to the server, as [`crate::fuzz`] gives it to the parsers.

use super::frame;
use super::names::Names;
use super::request::DhcpRequest;
use super::{dns, lease_log};

/// A message to the lease server.
pub(crate) fn dhcp4(input: &[u8]) {
    let _ = DhcpRequest::parse(input);
}

/// A message to the name server, and the same as a server's answer to it.
pub(crate) fn dns(input: &[u8]) {
    let zone = dns::Zone::new("lxm", "10.77.3.1/24".parse().ok(), "fd77:1::1/64".parse().ok());
    if let dns::QueryVerdict::Forward(question) = zone.consider(input, &Names::default(), 0) {
        let id = u16::from_be_bytes([input[0], input[1]]);
        let _ = dns::answers(input, id, &question);
    }
    let _ = dns::failure(input, hickory_proto::op::ResponseCode::ServFail);
}

/// A packet of any kind, and the message in it.
pub(crate) fn frame(input: &[u8]) {
    let _ = frame::parse_arp(input);
    let _ = frame::parse_solicitation(input);
    if let Some(datagram) = frame::parse_udp(input) {
        assert!(datagram.payload.len() + 28 <= input.len());
        dhcp4(datagram.payload);
    }
}

/// A solicitation of IPv6.
pub(crate) fn solicitation(input: &[u8]) {
    let _ = frame::parse_solicitation(input);
}

/// The file of leases, which the server writes without the rights of root.
pub(crate) fn leases(input: &[u8]) {
    let _ = lease_log::parse(input);
}
