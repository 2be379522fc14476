//! What real clients sent is understood: the corpora of `fuzz/`, which [`crate::fuzz`] replays for panics.

use dhcproto::v4::MessageType;

use super::dns::{QueryVerdict, Zone};
use super::frame::parse_solicitation;
use super::names::Names;
use super::request::DhcpRequest;
use crate::fuzz::inputs;

#[test]
fn what_real_dhcp_clients_sent_is_understood() {
    for (name, input) in inputs("dhcp4") {
        let request = DhcpRequest::parse(&input);
        let kind = match name.split('-').nth(1).filter(|_| !name.starts_with("hostile")) {
            Some("discover") => Some(MessageType::Discover),
            Some("request") => Some(MessageType::Request),
            Some("release") => Some(MessageType::Release),
            other => other.map(|kind| panic!("{name}: {kind}")),
        };
        assert!(kind.is_none() || request.as_ref().map(|request| request.kind) == kind, "{name}: {request:?}");
        if name.ends_with("-renew") {
            assert!(!request.unwrap().ciaddr.is_unspecified(), "{name}");
        }
    }
}

#[test]
fn what_real_resolvers_asked_is_answered() {
    let zone = Zone::new("lxm", Some("10.77.3.1/24".parse().unwrap()), Some("fd77:1::1/64".parse().unwrap()));
    let names = Names::default();
    for (name, input) in inputs("dns") {
        let verdict = zone.consider(&input, &names, 0);
        assert!(name.starts_with("hostile") || !matches!(verdict, QueryVerdict::Drop), "{name}");
    }
}

#[test]
fn what_real_hosts_solicited_is_understood() {
    for (name, input) in inputs("solicitation") {
        assert_eq!(parse_solicitation(&input).is_none(), name.starts_with("hostile"), "{name}");
    }
}
