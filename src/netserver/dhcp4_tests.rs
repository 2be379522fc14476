use dhcproto::Decodable;
use dhcproto::v4::{DhcpOption, Message, OptionCode};
use proptest::prelude::*;

use super::*;
use crate::config::bridge::BridgeSettings;
use crate::netserver::frame;
use crate::netserver::guests::GuestEntry;
use crate::netserver::request::tests::message;

const NOW: Time = 1_000_000;

fn mac(last: u8) -> Mac {
    Mac([0x10, 0x66, 0x6a, 0, 0, last])
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 3, last)
}

/// A server at 10.0.3.1 that gives 10.0.3.`first` to 10.0.3.`last`.
fn server(first: u8, last: u8) -> Dhcp4 {
    let subnet = "10.0.3.1/24".parse().unwrap();
    let settings = BridgeSettings { ipv4: Some(subnet), ..BridgeSettings::default() };
    let policy = LeasePolicy::new(&settings, vec![ip(1)]).unwrap();
    Dhcp4::new("lxmbr0", subnet, (ip(first), ip(last)), policy, Leases::default())
}

fn guest(last: u8, reserved: Option<Ipv4Addr>) -> (Mac, GuestEntry) {
    let name = format!("guest-{last}").parse().unwrap();
    let (allowed, allowed_macs) = (Vec::new(), Vec::new());
    (mac(last), GuestEntry { name, mac: mac(last), reserved, addresses: Vec::new(), allowed, allowed_macs })
}

#[test]
fn a_guest_with_a_set_address_is_given_that_one() {
    let mut server = server(10, 20);
    let (mac, mut fixed) = guest(1, None);
    fixed.addresses = vec!["fd00::7".parse().unwrap(), ip(7).into()];
    server.set_guests(Guests::from([(mac, fixed)]), NOW);
    assert_eq!(discover(&mut server, mac, NOW), Some(ip(7)));
}

fn parse(kind: MessageType, client: Mac, options: &[u8]) -> DhcpRequest {
    DhcpRequest::parse(&message(kind, client, options)).unwrap()
}

fn option(code: u8, address: Ipv4Addr) -> Vec<u8> {
    [&[code, 4][..], &address.octets()].concat()
}

/// Handles a request with every probe finding the address free.
fn handle(server: &mut Dhcp4, request: &DhcpRequest, now: Time) -> Option<Message> {
    loop {
        match server.handle(request, request.mac, now).unwrap() {
            DhcpAction::Nothing => return None,
            DhcpAction::Probe(address) => server.found_free(address, now),
            DhcpAction::Reply(packet) => {
                return Some(Message::from_bytes(frame::parse_udp(&packet.bytes).unwrap().payload).unwrap());
            }
        }
    }
}

fn discover(server: &mut Dhcp4, client: Mac, now: Time) -> Option<Ipv4Addr> {
    let offer = handle(server, &parse(MessageType::Discover, client, &[]), now)?;
    assert_eq!(offer.opts().msg_type(), Some(MessageType::Offer));
    Some(offer.yiaddr())
}

fn select(server: &mut Dhcp4, client: Mac, address: Ipv4Addr, now: Time) -> Option<MessageType> {
    let options = [option(50, address), option(54, ip(1))].concat();
    handle(server, &parse(MessageType::Request, client, &options), now)?.opts().msg_type()
}

fn init_reboot(server: &mut Dhcp4, client: Mac, address: Ipv4Addr) -> Option<MessageType> {
    handle(server, &parse(MessageType::Request, client, &option(50, address)), NOW)?.opts().msg_type()
}

fn renew(server: &mut Dhcp4, client: Mac, address: Ipv4Addr, now: Time) -> Option<MessageType> {
    let mut request = parse(MessageType::Request, client, &[]);
    request.ciaddr = address;
    handle(server, &request, now)?.opts().msg_type()
}

fn lease(server: &mut Dhcp4, client: Mac, now: Time) -> Option<Ipv4Addr> {
    let address = discover(server, client, now)?;
    assert_eq!(select(server, client, address, now), Some(MessageType::Ack));
    Some(address)
}

#[test]
fn a_client_gets_renews_and_years_later_has_the_same_lease() {
    let mut server = server(2, 254);
    let address = lease(&mut server, mac(1), NOW).unwrap();
    assert_eq!(renew(&mut server, mac(1), address, NOW + 1800), Some(MessageType::Ack));
    assert_eq!(server.leases.get(mac(1)).unwrap().expires, NOW + 5400);
    for other in 2..100 {
        assert_ne!(lease(&mut server, mac(other), NOW), Some(address));
    }
    assert_eq!(lease(&mut server, mac(1), NOW + 100_000_000), Some(address));
    assert_eq!(renew(&mut server, mac(1), address, NOW + 200_000_000), Some(MessageType::Ack), "rebinding, expired");
}

#[test]
fn a_server_that_lost_its_leases_gives_the_same_address() {
    let first = lease(&mut server(2, 254), mac(7), NOW);
    assert_eq!(lease(&mut server(2, 254), mac(7), NOW), first);
    let mut server = server(2, 254);
    assert_eq!(init_reboot(&mut server, mac(7), ip(77)), Some(MessageType::Ack), "a client that remembers keeps it");
    assert_eq!(lease(&mut server, mac(7), NOW), Some(ip(77)));
}

#[test]
fn a_request_for_what_is_not_the_clients_is_refused() {
    let mut server = server(2, 200);
    let own = lease(&mut server, mac(1), NOW).unwrap();
    let others = lease(&mut server, mac(2), NOW).unwrap();
    let free = (2..200).map(ip).find(|a| server.leases.holder(*a).is_none()).unwrap();
    for address in [others, free, ip(1), ip(0), ip(255), ip(201), Ipv4Addr::new(192, 168, 1, 5)] {
        assert_eq!(init_reboot(&mut server, mac(1), address), Some(MessageType::Nak), "reboot {address}");
        assert_eq!(select(&mut server, mac(1), address, NOW), Some(MessageType::Nak), "select {address}");
        assert_eq!(renew(&mut server, mac(1), address, NOW), Some(MessageType::Nak), "renew {address}");
    }
    assert_eq!(server.leases.get(mac(1)).unwrap().address, own);
    assert_eq!(server.leases.get(mac(2)).unwrap().address, others);
}

#[test]
fn a_reserved_address_goes_to_its_guest_alone() {
    let mut server = server(2, 3);
    // Outside the pool is allowed: no other client can have it there.
    server.set_guests(Guests::from([guest(1, Some(ip(3))), guest(2, Some(ip(99)))]), NOW);
    assert_eq!(lease(&mut server, mac(50), NOW), Some(ip(2)), "the other one of the pool is reserved");
    assert_eq!(lease(&mut server, mac(51), NOW), None);
    assert_eq!(lease(&mut server, mac(1), NOW), Some(ip(3)));
    assert_eq!(lease(&mut server, mac(2), NOW), Some(ip(99)));
    assert_eq!(init_reboot(&mut server, mac(50), ip(99)), Some(MessageType::Nak));
}

#[test]
fn a_new_reservation_wins_over_the_lease_that_the_guest_has() {
    let mut server = server(2, 254);
    server.set_guests(Guests::from([guest(1, None)]), NOW);
    let old = lease(&mut server, mac(1), NOW).unwrap();
    let reserved = ip(200);
    assert_ne!(old, reserved);
    server.set_guests(Guests::from([guest(1, Some(reserved))]), NOW);
    assert_eq!(renew(&mut server, mac(1), old, NOW), Some(MessageType::Nak));
    assert_eq!(lease(&mut server, mac(1), NOW), Some(reserved));
}

#[test]
fn a_full_pool_is_reported_and_relieved_by_a_stop() {
    let mut server = server(2, 4);
    server.set_guests((1..=3).map(|n| guest(n, None)).collect(), NOW);
    for n in 1..=3 {
        assert!(lease(&mut server, mac(n), NOW).is_some());
    }
    server.take_notes();
    assert_eq!(discover(&mut server, mac(4), NOW), None);
    let text = server.take_notes().pop().unwrap();
    assert_eq!(server.exhausted(), Some(text.as_str()));
    assert!(text.contains("no free address on `lxmbr0`") && text.contains("10.0.3.2 to 10.0.3.4"), "{text}");
    // Its lease is far from over, but it runs no more.
    let freed = server.leases.get(mac(2)).unwrap().address;
    server.set_guests([guest(1, None), guest(3, None), guest(4, None)].into(), NOW + 1);
    assert_eq!(lease(&mut server, mac(4), NOW + 1), Some(freed));
    assert_eq!(server.exhausted(), None);
}

#[test]
fn ended_leases_are_reused_oldest_first_running_guests_never() {
    let mut server = server(2, 4);
    server.set_guests(Guests::from([guest(1, None)]), NOW);
    lease(&mut server, mac(1), NOW).unwrap();
    let second = lease(&mut server, mac(2), NOW + 10).unwrap();
    let third = lease(&mut server, mac(3), NOW + 20).unwrap();
    let later = NOW + 10_000;
    assert_eq!(lease(&mut server, mac(4), later), Some(second));
    assert_eq!(lease(&mut server, mac(5), later), Some(third));
    assert_eq!(lease(&mut server, mac(6), later), None);
}

#[test]
fn offers_that_are_not_taken_keep_no_guest_from_its_lease() {
    let mut server = server(2, 10);
    for n in 100..120 {
        discover(&mut server, mac(n), NOW);
    }
    assert_eq!(discover(&mut server, mac(130), NOW), None);
    server.set_guests(Guests::from([guest(1, None)]), NOW);
    assert!(lease(&mut server, mac(1), NOW).is_some());
}

#[test]
fn a_guest_cannot_ask_in_the_name_of_another() {
    let mut server = server(2, 254);
    server.set_guests(Guests::from([guest(1, None)]), NOW);
    let forged = parse(MessageType::Discover, mac(66), &[]);
    assert_eq!(server.handle(&forged, mac(1), NOW).unwrap(), DhcpAction::Nothing);
    assert!(server.take_notes()[0].contains("`guest-1` asks for a lease in the name of"));
}

#[test]
fn an_address_in_use_is_found_by_the_probe_and_not_leased() {
    let mut server = server(2, 254);
    let request = parse(MessageType::Discover, mac(1), &[]);
    let DhcpAction::Probe(first) = server.handle(&request, mac(1), NOW).unwrap() else { panic!("no probe") };
    server.found_used(first, mac(99), NOW);
    let second = handle(&mut server, &request, NOW).unwrap().yiaddr();
    assert_ne!(first, second);
    assert_eq!(init_reboot(&mut server, mac(2), first), Some(MessageType::Nak));
    assert_eq!(init_reboot(&mut server, mac(2), second), Some(MessageType::Nak));
}

#[test]
fn two_clients_at_once_are_probed_for_different_addresses() {
    let mut server = server(2, 254);
    let mut probed = Vec::new();
    for n in 1..=200 {
        let DhcpAction::Probe(address) =
            server.handle(&parse(MessageType::Discover, mac(n), &[]), mac(n), NOW).unwrap()
        else {
            panic!("no probe")
        };
        assert!(!probed.contains(&address));
        probed.push(address);
    }
}

#[test]
fn a_prepared_guest_is_answered_without_a_probe() {
    let mut server = server(2, 254);
    let new = server.set_guests(Guests::from([guest(1, None)]), NOW);
    assert_eq!(new, [mac(1)]);
    let address = server.prepare(mac(1), NOW).unwrap();
    server.found_free(address, NOW);
    assert!(matches!(
        server.handle(&parse(MessageType::Discover, mac(1), &[]), mac(1), NOW).unwrap(),
        DhcpAction::Reply(_)
    ));
    assert_eq!(lease(&mut server, mac(1), NOW), Some(address));
    assert_eq!(server.set_guests(Guests::from([guest(1, None)]), NOW), []);
}

#[test]
fn a_declined_address_is_blocked_but_never_the_whole_pool() {
    let mut server = server(2, 40);
    for _ in 0..100 {
        let address = lease(&mut server, mac(1), NOW).unwrap();
        assert_eq!(handle(&mut server, &parse(MessageType::Decline, mac(1), &option(50, address)), NOW), None);
        assert_ne!(discover(&mut server, mac(1), NOW), Some(address));
    }
    let got = (2..100).filter(|n| lease(&mut server, mac(*n), NOW).is_some()).count();
    assert!(got >= 39 - MAX_DECLINED - 1, "{got}");
    // Another's address cannot be declined.
    let address = server.leases.get(mac(2)).unwrap().address;
    handle(&mut server, &parse(MessageType::Decline, mac(1), &option(50, address)), NOW);
    assert!(server.leases.get(mac(2)).is_some());
}

#[test]
fn a_released_lease_ends_and_only_its_owner_can_release_it() {
    let mut server = server(2, 254);
    let address = lease(&mut server, mac(1), NOW).unwrap();
    for (client, bound) in [(mac(2), true), (mac(1), false)] {
        let mut release = parse(MessageType::Release, client, &[]);
        release.ciaddr = address;
        handle(&mut server, &release, NOW + 1);
        assert_eq!(server.leases.get(mac(1)).unwrap().is_bound(NOW + 1), bound);
    }
    assert_eq!(lease(&mut server, mac(1), NOW + 2), Some(address));
}

#[test]
fn a_client_with_an_address_of_its_own_gets_the_rest() {
    let mut server = server(2, 254);
    let mut inform = parse(MessageType::Inform, mac(1), &[]);
    inform.ciaddr = ip(200);
    let ack = handle(&mut server, &inform, NOW).unwrap();
    assert_eq!((ack.opts().msg_type(), ack.yiaddr()), (Some(MessageType::Ack), Ipv4Addr::UNSPECIFIED));
    assert_eq!(ack.opts().get(OptionCode::AddressLeaseTime), None);
    assert_eq!(ack.opts().get(OptionCode::Router), Some(&DhcpOption::Router(vec![ip(1)])));
    assert_eq!(server.leases.len(), 0);
}

#[test]
fn rapid_commit_saves_the_offer() {
    let mut server = server(2, 254);
    let ack = handle(&mut server, &parse(MessageType::Discover, mac(1), &[80, 0]), NOW).unwrap();
    assert_eq!(ack.opts().msg_type(), Some(MessageType::Ack));
    assert!(ack.opts().contains(OptionCode::RapidCommit));
    assert!(server.leases.get(mac(1)).unwrap().is_bound(NOW));
}

#[test]
fn an_offer_that_another_server_won_is_dropped() {
    let mut server = server(2, 254);
    let address = discover(&mut server, mac(1), NOW).unwrap();
    let options = [option(50, address), option(54, ip(9))].concat();
    assert_eq!(handle(&mut server, &parse(MessageType::Request, mac(1), &options), NOW), None);
    assert_eq!(server.leases.len(), 0);
}

#[test]
fn a_relay_of_another_network_is_not_served() {
    let mut server = server(2, 254);
    let mut request = parse(MessageType::Discover, mac(1), &[]);
    request.giaddr = Ipv4Addr::new(192, 168, 0, 1);
    assert_eq!(handle(&mut server, &request, NOW), None);
    request.giaddr = ip(9);
    assert!(handle(&mut server, &request, NOW).is_some());
}

proptest! {
    /// Whatever clients send in whatever order, no address is two clients' at a time.
    #[test]
    fn no_sequence_of_requests_gives_an_address_twice(
        steps in proptest::collection::vec((0u8..6, 1u8..12, 0u8..12, any::<bool>(), 0u64..2000), 1..200)
    ) {
        let mut server = server(2, 9);
        server.set_guests((1..=4).map(|n| guest(n, (n == 2).then(|| ip(5)))).collect(), NOW);
        let mut now = NOW;
        let mut held: HashMap<Mac, (Ipv4Addr, Time)> = HashMap::new();
        for (kind, client, address, with_server, passed) in steps {
            now += passed;
            let kind = [1u8, 3, 4, 7, 8, 3][usize::from(kind)];
            let mut options = option(50, ip(address));
            if with_server { options.extend(option(54, ip(1))) }
            let mut request = parse(kind.into(), mac(client), &options);
            if kind != 1 && !with_server { request.ciaddr = ip(address) }
            if let Some(reply) = handle(&mut server, &request, now) && reply.opts().msg_type() == Some(MessageType::Ack)
                && request.kind != MessageType::Inform {
                let given = reply.yiaddr();
                prop_assert!(given != ip(1) && (2..=9).contains(&given.octets()[3]));
                for (other, (theirs, until)) in &held {
                    prop_assert!(*other == request.mac || *theirs != given || *until <= now, "{given} is {other}'s");
                }
                held.insert(request.mac, (given, now + 3600));
            }
            if matches!(request.kind, MessageType::Release | MessageType::Decline) {
                held.remove(&request.mac);
            }
        }
    }
}
