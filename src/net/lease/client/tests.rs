//! The client against a server that is played by hand.

use dhcproto::v4::{DhcpOption, Message, OptionCode};
use dhcproto::{Decodable, v4};

use super::super::message::tests::{MAC, answer};
use super::*;

const SERVER: Mac = Mac([2, 0, 0, 0, 0, 9]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 9);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 1);

fn client(now: Instant) -> Client {
    let client_id = [&[1], &MAC.0[..]].concat();
    Client::new(Asker { mac: MAC, client_id, hostname: "web".into(), broadcast: false }, now)
}

/// What it does now, each thing once.
fn actions(client: &mut Client) -> Vec<Action> {
    std::iter::from_fn(|| client.next_action().inspect(|_| client.done())).collect()
}

/// The one message that it sends now: to whom, from which address, and what.
fn sent(client: &mut Client) -> (Mac, SocketAddrV4, SocketAddrV4, Message) {
    let all = actions(client);
    let [Action::Send { to, packet }] = &all[..] else { panic!("{all:?}") };
    let datagram = frame::parse_udp(packet).unwrap();
    (*to, datagram.from, datagram.to, Message::from_bytes(datagram.payload).unwrap())
}

fn kind(message: &Message) -> v4::MessageType {
    message.opts().msg_type().unwrap()
}

/// Options of a server whose leases last for `seconds`.
fn options(seconds: u32) -> Vec<u8> {
    let time = seconds.to_be_bytes();
    let fixed = [54, 4, 10, 0, 3, 1, 1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 3, 1, 6, 4, 10, 0, 3, 1, 51, 4];
    [&fixed[..], &time].concat()
}

fn answers(client: &mut Client, kind: MessageType, options: &[u8], now: Instant) {
    let bytes = answer(kind, client.xid, ADDRESS, options);
    client.take(&Answer::parse(&bytes).unwrap(), SERVER, now);
}

/// A client with a lease of an hour.
fn bound(now: Instant) -> Client {
    let mut client = client(now);
    client.tick(now);
    answers(&mut client, MessageType::Ack, &[options(3600), vec![80, 0]].concat(), now);
    let done = actions(&mut client);
    assert!(matches!(&done[..], [Action::Send { .. }, Action::Configure(_)]), "{done:?}");
    client
}

#[test]
fn an_offer_is_requested_and_then_had() {
    let now = Instant::now();
    let mut client = client(now);
    client.tick(now);
    let (neighbour, from, to, discover) = sent(&mut client);
    assert_eq!(
        (neighbour, from, to),
        (Mac::BROADCAST, "0.0.0.0:68".parse().unwrap(), "255.255.255.255:67".parse().unwrap())
    );
    assert_eq!((kind(&discover), discover.chaddr()), (MessageType::Discover, &MAC.0[..]));
    answers(&mut client, MessageType::Offer, &options(3600), now);
    let (neighbour, from, _, request) = sent(&mut client);
    assert_eq!((neighbour, *from.ip(), kind(&request)), (Mac::BROADCAST, Ipv4Addr::UNSPECIFIED, MessageType::Request));
    assert_eq!(request.opts().get(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(ROUTER)));
    assert_eq!(request.opts().get(OptionCode::RequestedIpAddress), Some(&DhcpOption::RequestedIpAddress(ADDRESS)));
    // The first of two servers; and what is about another question is none of ours.
    answers(&mut client, MessageType::Offer, &options(60), now);
    client.take(&Answer::parse(&answer(MessageType::Ack, !client.xid, ADDRESS, &options(60))).unwrap(), SERVER, now);
    assert_eq!(actions(&mut client), []);
    answers(&mut client, MessageType::Ack, &options(3600), now);
    let done = actions(&mut client);
    let [Action::Configure(lease)] = &done[..] else { panic!("{done:?}") };
    assert_eq!((lease.address.to_string().as_str(), lease.seconds), ("10.0.3.9/24", 3600));
    assert_eq!(lease.routes, [("0.0.0.0/0".parse().unwrap(), ROUTER)]);
    assert_eq!(lease.resolvers, [ROUTER]);
    assert!(!client.listens());
    assert_eq!(client.due(), now + Duration::from_secs(1800));
}

#[test]
fn a_question_without_an_answer_is_asked_again_ever_later() {
    let mut now = Instant::now();
    let mut client = client(now);
    let mut last = Duration::ZERO;
    for nth in 0..12 {
        client.tick(now);
        assert_eq!(kind(&sent(&mut client).3), MessageType::Discover);
        let pause = client.due() - now;
        assert!(pause >= last.mul_f64(0.7) && pause <= Duration::from_secs(80), "{nth}: {pause:?}");
        last = pause;
        now = client.due();
    }
    assert!(last >= LAST_PAUSE);
}

#[test]
fn an_offer_that_is_never_confirmed_is_forgotten() {
    let mut now = Instant::now();
    let mut client = client(now);
    client.tick(now);
    answers(&mut client, MessageType::Offer, &options(3600), now);
    let mut kinds = Vec::new();
    for _ in 0..5 {
        kinds.extend(actions(&mut client).iter().filter_map(|action| {
            let Action::Send { packet, .. } = action else { return None };
            Some(kind(&Message::from_bytes(frame::parse_udp(packet).unwrap().payload).unwrap()))
        }));
        now = client.due();
        client.tick(now);
    }
    let requests = kinds.iter().filter(|kind| **kind == MessageType::Request).count();
    assert_eq!((requests, kinds.last()), (4, Some(&MessageType::Discover)));
}

#[test]
fn a_lease_is_renewed_by_its_server_then_by_any_and_then_ends() {
    let now = Instant::now();
    let mut client = bound(now);
    let renew = client.due();
    client.tick(renew - Duration::from_secs(1));
    assert_eq!(actions(&mut client), []);
    client.tick(renew);
    let (neighbour, from, to, request) = sent(&mut client);
    assert_eq!((neighbour, *from.ip(), *to.ip()), (SERVER, ADDRESS, ROUTER));
    assert_eq!((kind(&request), request.ciaddr()), (MessageType::Request, ADDRESS));
    assert_eq!(request.opts().get(OptionCode::ServerIdentifier), None);
    // Half of the time that is left until any server is asked, then half of what is left of that.
    let rebind = now + Duration::from_secs(3150);
    assert_eq!(client.due(), renew + (rebind - renew) / 2);
    while client.due() < rebind {
        let due = client.due();
        client.tick(due);
        assert_eq!(sent(&mut client).0, SERVER);
    }
    client.tick(rebind);
    let (neighbour, from, to, _) = sent(&mut client);
    assert_eq!((neighbour, *from.ip(), *to.ip()), (Mac::BROADCAST, ADDRESS, Ipv4Addr::BROADCAST));
    let mut renewed = client.lease().cloned();
    let end = now + Duration::from_secs(3600);
    while client.due() < end {
        let due = client.due();
        client.tick(due);
        assert_eq!(sent(&mut client).0, Mac::BROADCAST);
    }
    client.tick(end);
    let done = actions(&mut client);
    assert!(
        matches!(&done[..], [Action::Remove(lease), Action::Send { .. }] if Some(lease) == renewed.take().as_ref())
    );
    assert_eq!(client.lease(), None);
}

#[test]
fn a_renewed_lease_is_set_again_another_takes_its_place() {
    let now = Instant::now();
    let mut client = bound(now);
    let renew = client.due();
    client.tick(renew);
    actions(&mut client);
    answers(&mut client, MessageType::Ack, &options(3600), renew);
    let done = actions(&mut client);
    assert!(matches!(&done[..], [Action::Configure(_)]), "{done:?}");
    assert_eq!(client.due(), renew + Duration::from_secs(1800));
    client.tick(client.due());
    actions(&mut client);
    let other = Ipv4Addr::new(10, 0, 3, 77);
    let bytes = answer(MessageType::Ack, client.xid, other, &options(3600));
    client.take(&Answer::parse(&bytes).unwrap(), SERVER, renew);
    let done = actions(&mut client);
    let [Action::Remove(old), Action::Configure(new)] = &done[..] else { panic!("{done:?}") };
    assert_eq!((old.address.ip(), new.address.ip()), (ADDRESS, other));
}

#[test]
fn a_refused_lease_is_given_up_and_asked_for_anew_after_a_rest() {
    let now = Instant::now();
    let mut client = bound(now);
    let renew = client.due();
    client.tick(renew);
    actions(&mut client);
    answers(&mut client, MessageType::Nak, &options(0), renew);
    let done = actions(&mut client);
    assert!(matches!(&done[..], [Action::Remove(_)]), "{done:?}");
    assert_eq!(client.due(), renew + REFUSED_PAUSE);
    client.tick(client.due());
    assert_eq!(kind(&sent(&mut client).3), MessageType::Discover);
}

#[test]
fn a_slept_through_lease_is_not_used_for_a_moment_longer() {
    let now = Instant::now();
    let mut client = bound(now);
    client.tick(now + Duration::from_secs(4000));
    let done = actions(&mut client);
    assert!(matches!(&done[..], [Action::Remove(_), Action::Send { .. }]), "{done:?}");
}

#[test]
fn a_lease_is_given_back_to_the_server_that_gave_it() {
    let now = Instant::now();
    assert_eq!(client(now).release(), None);
    let Some(Action::Send { to, packet }) = bound(now).release() else { panic!("nothing is sent") };
    let datagram = frame::parse_udp(&packet).unwrap();
    let message = Message::from_bytes(datagram.payload).unwrap();
    assert_eq!(
        (to, *datagram.to.ip(), kind(&message), message.ciaddr()),
        (SERVER, ROUTER, MessageType::Release, ADDRESS)
    );
    assert_eq!(message.opts().get(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(ROUTER)));
}

#[test]
fn a_hostile_server_gets_no_loop_and_no_odd_address() {
    let now = Instant::now();
    for odd in ["0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1", "169.254.169.254"] {
        let mut client = client(now);
        client.tick(now);
        actions(&mut client);
        for kind in [MessageType::Offer, MessageType::Ack] {
            let bytes = answer(kind, client.xid, odd.parse().unwrap(), &[options(60), vec![80, 0]].concat());
            client.take(&Answer::parse(&bytes).unwrap(), SERVER, now);
        }
        assert_eq!(actions(&mut client), [], "{odd}");
    }
    // A lease of no time at all, that is to be renewed at once.
    let mut client = client(now);
    client.tick(now);
    let hasty = [options(0), vec![58, 4, 0, 0, 0, 0, 59, 4, 0, 0, 0, 0, 80, 0]].concat();
    answers(&mut client, MessageType::Ack, &hasty, now);
    assert!(client.lease().is_some() && client.due() >= now + REFUSED_PAUSE);
}
