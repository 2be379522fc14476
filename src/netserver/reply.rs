//! What a DHCP client is answered: the message and where it goes.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::Encodable;
use dhcproto::v4::{
    CLIENT_PORT, DhcpOption, Flags, MIN_PACKET_SIZE, Message, MessageType, Opcode, OptionCode, SERVER_PORT,
    UnknownOption,
};

use super::frame;
use super::request::DhcpRequest;
use crate::config::bridge::{BridgeSettings, Route};
use crate::error::{Error, Result};
use crate::types::Mac;

/// A packet for the link: an IPv4 packet and the neighbour that it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub to: Mac,
    pub bytes: Vec<u8>,
}

/// What every answer on a bridge has in common.
#[derive(Debug, Clone)]
pub(super) struct LeasePolicy {
    /// Our address: server, router and, where it serves names, resolver.
    pub server: Ipv4Addr,
    pub mask: Ipv4Addr,
    pub network_broadcast: Ipv4Addr,
    pub resolvers: Vec<Ipv4Addr>,
    pub domain: String,
    /// Seconds.
    pub lease_time: u32,
    pub ntp: Vec<Ipv4Addr>,
    pub routes: Vec<Route>,
    pub mtu: Option<u16>,
}

impl LeasePolicy {
    /// `None` for a bridge without IPv4.
    pub(super) fn new(settings: &BridgeSettings, resolvers: Vec<Ipv4Addr>) -> Option<Self> {
        let subnet = settings.ipv4?;
        Some(LeasePolicy {
            server: subnet.ip(),
            mask: subnet.mask(),
            network_broadcast: subnet.broadcast(),
            resolvers,
            domain: settings.domain.clone(),
            lease_time: settings.lease_time.get().as_secs().try_into().unwrap_or(u32::MAX),
            ntp: settings.ntp.clone(),
            routes: settings.route.clone(),
            mtu: settings.mtu,
        })
    }
}

/// What is said to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// An address on offer, for the time of a lease.
    Offer(Ipv4Addr, Option<&'a str>),
    /// The same, given. The name is the client's own, for option 12.
    Ack(Ipv4Addr, Option<&'a str>),
    /// The client has an address and asked for the rest.
    Inform,
    Nak(&'static str),
}

/// Builds the answer to `request`, which came in a frame from `source`.
pub(super) fn build(policy: &LeasePolicy, request: &DhcpRequest, source: Mac, answer: Answer<'_>) -> Result<Packet> {
    let (kind, address, name) = match answer {
        Answer::Offer(address, name) => (MessageType::Offer, address, name),
        Answer::Ack(address, name) => (MessageType::Ack, address, name),
        Answer::Inform => (MessageType::Ack, Ipv4Addr::UNSPECIFIED, None),
        Answer::Nak(_) => (MessageType::Nak, Ipv4Addr::UNSPECIFIED, None),
    };
    let is_nak = kind == MessageType::Nak;
    let nothing = Ipv4Addr::UNSPECIFIED;
    let ciaddr = if kind == MessageType::Ack { request.ciaddr } else { nothing };
    let mut message =
        Message::new_with_id(request.xid, ciaddr, address, nothing, request.giaddr, request.mac.0.as_slice());
    message.set_opcode(Opcode::BootReply).set_hops(request.hops);
    // A relay must broadcast a refusal: its client's address is wrong (RFC 2131, 4.3.2).
    if request.broadcast || is_nak {
        message.set_flags(Flags::default().set_broadcast());
    }

    let mut options = vec![DhcpOption::MessageType(kind), DhcpOption::ServerIdentifier(policy.server)];
    options.extend(request.client_id.clone().map(DhcpOption::ClientIdentifier));
    if let Answer::Nak(why) = answer {
        options.push(DhcpOption::Message(why.into()));
    } else {
        options.extend(configuration(policy));
    }
    if matches!(answer, Answer::Offer(..) | Answer::Ack(..)) {
        let time = policy.lease_time;
        options.push(DhcpOption::AddressLeaseTime(time));
        options.push(DhcpOption::Renewal(time / 2));
        options.push(DhcpOption::Rebinding((u64::from(time) * 7 / 8) as u32));
        options.extend(name.map(|name| DhcpOption::Hostname(name.into())));
    }
    if request.rapid_commit && request.kind == MessageType::Discover && kind == MessageType::Ack {
        options.push(DhcpOption::RapidCommit);
    }
    let raw = |code, data: &Vec<u8>| DhcpOption::Unknown(UnknownOption::new(code, data.clone()));
    options.extend(request.relay_information.as_ref().map(|data| raw(OptionCode::RelayAgentInformation, data)));
    for option in options {
        message.opts_mut().insert(option);
    }

    let mut payload = message.to_vec().map_err(|e| Error::failed(format!("encode a DHCP message: {e}")))?;
    // Some clients take nothing shorter than BOOTP's message.
    payload.resize(payload.len().max(MIN_PACKET_SIZE), 0);
    let (to, address) = destination(request, source, address, is_nak);
    let bytes = frame::udp(SocketAddrV4::new(policy.server, SERVER_PORT), address, &payload);
    Ok(Packet { to, bytes })
}

/// Where an answer goes (RFC 2131, 4.1): the relay, the address that the client has, everybody, or
/// the address that it will have.
fn destination(request: &DhcpRequest, source: Mac, address: Ipv4Addr, is_nak: bool) -> (Mac, SocketAddrV4) {
    let client = |address| SocketAddrV4::new(address, CLIENT_PORT);
    if !request.giaddr.is_unspecified() {
        (source, SocketAddrV4::new(request.giaddr, SERVER_PORT))
    } else if is_nak {
        (Mac::BROADCAST, client(Ipv4Addr::BROADCAST))
    } else if !request.ciaddr.is_unspecified() {
        (source, client(request.ciaddr))
    } else if request.broadcast || address.is_unspecified() {
        (Mac::BROADCAST, client(Ipv4Addr::BROADCAST))
    } else {
        (request.mac, client(address))
    }
}

/// The options that tell a client of the network.
fn configuration(policy: &LeasePolicy) -> Vec<DhcpOption> {
    let mut options = vec![
        DhcpOption::SubnetMask(policy.mask),
        DhcpOption::BroadcastAddr(policy.network_broadcast),
        DhcpOption::Router(vec![policy.server]),
        DhcpOption::DomainName(policy.domain.clone()),
    ];
    if !policy.resolvers.is_empty() {
        options.push(DhcpOption::DomainNameServer(policy.resolvers.clone()));
    }
    if !policy.ntp.is_empty() {
        options.push(DhcpOption::NtpServers(policy.ntp.clone()));
    }
    options.extend(policy.mtu.map(DhcpOption::InterfaceMtu));
    if !policy.routes.is_empty() {
        options.push(classless_routes(policy));
    }
    options
}

/// Option 121. A client that knows it does not look at the router option any more (RFC 3442), so
/// that the default route is among them.
fn classless_routes(policy: &LeasePolicy) -> DhcpOption {
    let mut data = vec![0];
    data.extend(policy.server.octets());
    for Route { to, via } in &policy.routes {
        let significant = usize::from(to.prefix().div_ceil(8));
        data.push(to.prefix());
        data.extend(&to.network().octets()[..significant]);
        data.extend(via.octets());
    }
    DhcpOption::Unknown(UnknownOption::new(OptionCode::ClasslessStaticRoute, data))
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::{MAC, message};
    use super::*;
    use dhcproto::Decodable;

    const SOURCE: Mac = Mac([0x10, 0x66, 0x6a, 0, 0, 9]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 9);

    fn policy() -> LeasePolicy {
        let settings = BridgeSettings {
            ipv4: Some("10.0.3.1/24".parse().unwrap()),
            route: vec!["192.168.9.0/25 via 10.0.3.7".parse().unwrap()],
            ntp: vec![Ipv4Addr::new(10, 0, 3, 2)],
            mtu: Some(1400),
            ..BridgeSettings::default()
        };
        LeasePolicy::new(&settings, vec![Ipv4Addr::new(10, 0, 3, 1)]).unwrap()
    }

    fn decode(packet: &Packet) -> (SocketAddrV4, Message, usize) {
        let datagram = frame::parse_udp(&packet.bytes).unwrap();
        (datagram.to, Message::from_bytes(datagram.payload).unwrap(), datagram.payload.len())
    }

    #[test]
    fn an_acknowledgement_describes_the_whole_network() {
        let request = DhcpRequest::parse(&message(MessageType::Request, MAC, &[61, 2, 7, 7, 82, 2, 1, 0])).unwrap();
        let packet = build(&policy(), &request, SOURCE, Answer::Ack(ADDRESS, Some("web"))).unwrap();
        let (to, reply, length) = decode(&packet);
        assert_eq!((packet.to, to), (MAC, "10.0.3.9:68".parse().unwrap()));
        assert_eq!((reply.xid(), reply.yiaddr(), reply.chaddr()), (0xdead_beef, ADDRESS, &MAC.0[..]));
        assert!(length >= 300);
        let router = Ipv4Addr::new(10, 0, 3, 1);
        for option in [
            DhcpOption::MessageType(MessageType::Ack),
            DhcpOption::ServerIdentifier(router),
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
            DhcpOption::BroadcastAddr(Ipv4Addr::new(10, 0, 3, 255)),
            DhcpOption::Router(vec![router]),
            DhcpOption::DomainNameServer(vec![router]),
            DhcpOption::DomainName("lxm".into()),
            DhcpOption::Hostname("web".into()),
            DhcpOption::InterfaceMtu(1400),
            DhcpOption::NtpServers(vec![Ipv4Addr::new(10, 0, 3, 2)]),
            DhcpOption::AddressLeaseTime(3600),
            DhcpOption::Renewal(1800),
            DhcpOption::Rebinding(3150),
            DhcpOption::ClientIdentifier(vec![7, 7]),
        ] {
            assert_eq!(reply.opts().get(OptionCode::from(&option)), Some(&option));
        }
        let Some(DhcpOption::ClasslessStaticRoute(routes)) = reply.opts().get(OptionCode::ClasslessStaticRoute) else {
            panic!("no classless routes");
        };
        let routes: Vec<String> = routes.iter().map(|(to, via)| format!("{to} via {via}")).collect();
        assert_eq!(routes, ["0.0.0.0/0 via 10.0.3.1", "192.168.9.0/25 via 10.0.3.7"]);
        assert!(reply.opts().contains(OptionCode::RelayAgentInformation));
    }

    #[test]
    fn an_answer_goes_where_the_client_can_take_it() {
        let plain = DhcpRequest::parse(&message(MessageType::Request, MAC, &[])).unwrap();
        let offer = Answer::Offer(ADDRESS, None);
        let ack = Answer::Ack(ADDRESS, None);
        let relay = Ipv4Addr::new(10, 0, 3, 77);
        let everybody = (Mac::BROADCAST, "255.255.255.255:68");
        for (change, answer, (mac, address)) in [
            (Box::new(|_: &mut DhcpRequest| {}) as Box<dyn Fn(&mut DhcpRequest)>, offer, (MAC, "10.0.3.9:68")),
            (Box::new(|r| r.broadcast = true), offer, everybody),
            (Box::new(|r| r.ciaddr = ADDRESS), ack, (SOURCE, "10.0.3.9:68")),
            (Box::new(|r| r.ciaddr = ADDRESS), Answer::Nak("no"), everybody),
            (Box::new(move |r| r.giaddr = relay), ack, (SOURCE, "10.0.3.77:67")),
            (Box::new(|_| {}), Answer::Inform, everybody),
        ] {
            let mut request = plain.clone();
            change(&mut request);
            let packet = build(&policy(), &request, SOURCE, answer).unwrap();
            assert_eq!((packet.to, decode(&packet).0), (mac, address.parse().unwrap()), "{request:?} {answer:?}");
        }
    }
}
