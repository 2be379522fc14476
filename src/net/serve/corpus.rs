//! Replays `fuzz/corpus`: what real clients sent, and what a hostile one could.

use std::path::PathBuf;

use dhcproto::v4::MessageType;

use super::dns::{Verdict, Zone};
use super::frame::parse_solicitation;
use super::names::Names;
use super::request::Request;

/// The files of one parser: names and contents, sorted.
fn inputs(parser: &str) -> Vec<(String, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(parser);
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let read =
        |entry: std::fs::DirEntry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
    let mut inputs: Vec<_> = entries.map(read).collect();
    inputs.sort();
    assert!(!inputs.is_empty());
    inputs
}

/// Gives `parse` the input cut at every length and with every byte changed: it must not panic.
fn mutilate(input: &[u8], mut parse: impl FnMut(&[u8])) {
    (0..input.len()).for_each(|length| parse(&input[..length]));
    let mut changed = input.to_vec();
    for at in 0..input.len() {
        for byte in [0, 1, 0x3f, 0x7f, 0x80, 0xc0, 0xff] {
            changed[at] = byte;
            parse(&changed);
        }
        changed[at] = input[at];
    }
}

#[test]
fn what_real_dhcp_clients_sent_is_understood_and_nothing_panics() {
    for (name, input) in inputs("dhcp4") {
        let request = Request::parse(&input);
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
        mutilate(&input, |bytes| drop(Request::parse(bytes)));
    }
}

#[test]
fn what_real_resolvers_asked_is_answered_and_nothing_panics() {
    let zone = Zone::new("lxm", Some("10.77.3.1/24".parse().unwrap()), Some("fd77:1::1/64".parse().unwrap()));
    let names = Names::default();
    for (name, input) in inputs("dns") {
        let verdict = zone.consider(&input, &names, 0);
        assert!(name.starts_with("hostile") || !matches!(verdict, Verdict::Drop), "{name}");
        mutilate(&input, |bytes| drop(zone.consider(bytes, &names, 0)));
    }
}

#[test]
fn what_real_hosts_solicited_is_understood_and_nothing_panics() {
    for (name, input) in inputs("solicitation") {
        assert_eq!(parse_solicitation(&input).is_none(), name.starts_with("hostile"), "{name}");
        mutilate(&input, |bytes| {
            parse_solicitation(bytes);
        });
    }
}
