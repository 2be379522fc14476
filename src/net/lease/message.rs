//! Messages of a DHCP client (RFC 2131, 2; options of RFC 2132): what it sends, and what of an answer it uses.

use std::net::Ipv4Addr;

use dhcproto::Encodable;
use dhcproto::v4::borrowed::{self, DhcpOptionIterator};
use dhcproto::v4::{DhcpOption, Flags, HType, MIN_PACKET_SIZE, Message, MessageType, Opcode, OptionCode};
use ipnetwork::Ipv4Network;

use crate::error::{Error, Result};
use crate::types::Mac;

/// What a server is asked.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub kind: MessageType,
    pub xid: u32,
    pub mac: Mac,
    /// Option 61.
    pub client_id: &'a [u8],
    /// Option 12, for the server's list.
    pub hostname: &'a str,
    /// The address that the client has; unspecified where it has none.
    pub ciaddr: Ipv4Addr,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// The answer is to be broadcast: what arrives for others at a shared hardware address is sorted by address.
    pub broadcast: bool,
}

impl Question<'_> {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(self.xid, self.ciaddr, none, none, none, &self.mac.0);
        if self.broadcast {
            message.set_flags(Flags::default().set_broadcast());
        }
        let mut options =
            vec![DhcpOption::MessageType(self.kind), DhcpOption::ClientIdentifier(self.client_id.to_vec())];
        options.extend(self.requested.map(DhcpOption::RequestedIpAddress));
        options.extend(self.server.map(DhcpOption::ServerIdentifier));
        if self.kind != MessageType::Release {
            options.push(DhcpOption::Hostname(self.hostname.to_owned()));
            options.push(DhcpOption::ParameterRequestList(WANTED.to_vec()));
        }
        if self.kind == MessageType::Discover {
            // RFC 4039: a server that is the only one answers with the lease at once.
            options.push(DhcpOption::RapidCommit);
        }
        for option in options {
            message.opts_mut().insert(option);
        }
        let mut bytes = message.to_vec().map_err(|e| Error::failed(e.to_string()).step("write a DHCP message"))?;
        // Some relays take no shorter ones (RFC 1542, 2.1).
        bytes.resize(bytes.len().max(MIN_PACKET_SIZE), 0);
        Ok(bytes)
    }
}

const WANTED: [OptionCode; 7] = [
    OptionCode::SubnetMask,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::DomainName,
    OptionCode::ClasslessStaticRoute,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];

/// A route of the lease: where to, and by which neighbour; an unspecified one means that they are neighbours.
pub(super) type LeasedRoute = (Ipv4Network, Ipv4Addr);

/// A server's message, parsed and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub kind: MessageType,
    pub xid: u32,
    pub mac: Mac,
    /// The address that it is about.
    pub address: Ipv4Addr,
    pub server: Option<Ipv4Addr>,
    pub mask: Option<Ipv4Addr>,
    pub routers: Vec<Ipv4Addr>,
    /// Option 121, which takes the place of the routers (RFC 3442).
    pub routes: Vec<LeasedRoute>,
    pub resolvers: Vec<Ipv4Addr>,
    pub domain: Option<String>,
    /// Seconds, as the next two.
    pub lease_time: Option<u32>,
    pub renewal: Option<u32>,
    pub rebinding: Option<u32>,
    pub rapid_commit: bool,
}

/// As many resolvers as resolv.conf(5) has use for, and routes that a guest has: who answers may be anybody.
const MOST_RESOLVERS: usize = 3;
const MOST_ROUTES: usize = 64;

impl Answer {
    /// Parses what came in a datagram; `None` for what is not a server's answer.
    ///
    /// By single raw options, as the server's own parser does: one that is written oddly hides no other.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let message = borrowed::Message::new(bytes).ok()?;
        if message.hlen() != 6 || message.htype() != HType::Eth || message.opcode() != Opcode::BootReply {
            return None;
        }
        let mut answer = Answer {
            kind: MessageType::Unknown(0),
            xid: message.xid(),
            mac: Mac(message.chaddr().try_into().ok()?),
            address: message.yiaddr(),
            server: None,
            mask: None,
            routers: Vec::new(),
            routes: Vec::new(),
            resolvers: Vec::new(),
            domain: None,
            lease_time: None,
            renewal: None,
            rebinding: None,
            rapid_commit: false,
        };
        let overload = answer.take_options(message.opts());
        // Options may continue in the fields of the file and server names (RFC 2132, 9.3).
        if overload & 1 != 0 {
            answer.take_options(DhcpOptionIterator::new(&bytes[108..236]));
        }
        if overload & 2 != 0 {
            answer.take_options(DhcpOptionIterator::new(&bytes[44..108]));
        }
        (!matches!(answer.kind, MessageType::Unknown(_))).then_some(answer)
    }

    /// Keeps the options that matter; returns the value of option 52.
    fn take_options(&mut self, options: DhcpOptionIterator<'_>) -> u8 {
        let mut overload = 0;
        for option in options {
            let data = option.data();
            let first = addresses(data).next();
            let number = || <[u8; 4]>::try_from(data).ok().map(u32::from_be_bytes);
            match option.code() {
                OptionCode::MessageType => self.kind = data.first().map_or(self.kind, |&kind| kind.into()),
                OptionCode::ServerIdentifier => self.server = first,
                OptionCode::SubnetMask => self.mask = first,
                OptionCode::Router => self.routers = addresses(data).take(1).collect(),
                OptionCode::DomainNameServer => self.resolvers = addresses(data).take(MOST_RESOLVERS).collect(),
                OptionCode::DomainName => self.domain = domain(data),
                OptionCode::ClasslessStaticRoute => self.routes = classless_routes(data),
                OptionCode::AddressLeaseTime => self.lease_time = number(),
                OptionCode::Renewal => self.renewal = number(),
                OptionCode::Rebinding => self.rebinding = number(),
                OptionCode::RapidCommit => self.rapid_commit = true,
                OptionCode::OptionOverload => overload = data.first().copied().unwrap_or(0),
                _ => {}
            }
        }
        overload
    }
}

fn addresses(data: &[u8]) -> impl Iterator<Item = Ipv4Addr> {
    data.as_chunks::<4>().0.iter().copied().map(Ipv4Addr::from)
}

/// A domain name for a file that is read line by line: letters, digits and hyphens between dots.
fn domain(data: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?.trim_end_matches(['\0', '.']);
    let is_label = |label: &str| {
        !label.is_empty() && label.len() < 64 && label.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c))
    };
    (text.len() < 254 && text.split('.').all(is_label)).then(|| text.to_owned())
}

/// Option 121 (RFC 3442): a prefix's length, as many bytes of it as are significant, a router.
fn classless_routes(mut data: &[u8]) -> Vec<LeasedRoute> {
    let mut routes = Vec::new();
    while let Some((&length, rest)) = data.split_first().filter(|_| routes.len() < MOST_ROUTES) {
        let significant = usize::from(length.div_ceil(8));
        if length > 32 || rest.len() < significant + 4 {
            break;
        }
        let mut prefix = [0; 4];
        prefix[..significant].copy_from_slice(&rest[..significant]);
        let (router, rest) = rest[significant..].split_at(4);
        data = rest;
        let router = Ipv4Addr::new(router[0], router[1], router[2], router[3]);
        if let Ok(to) = Ipv4Network::new(prefix.into(), length) {
            // The host bits of a careless server's prefix would make the kernel refuse it.
            routes.extend(Ipv4Network::new(to.network(), length).map(|to| (to, router)));
        }
    }
    routes
}

#[cfg(test)]
pub(super) mod tests {
    use dhcproto::Decodable;
    use proptest::prelude::*;

    use super::*;

    pub(crate) const MAC: Mac = Mac([0x10, 0x66, 0x6a, 0, 0, 1]);

    /// A server's message of `kind` about `address`, with `options` in wire form.
    pub(crate) fn answer(kind: MessageType, xid: u32, address: Ipv4Addr, options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![2, 1, 6, 0];
        bytes.extend(xid.to_be_bytes());
        bytes.resize(16, 0);
        bytes.extend(address.octets());
        bytes.resize(28, 0);
        bytes.extend(MAC.0);
        bytes.resize(236, 0);
        bytes.extend([99, 130, 83, 99, 53, 1, u8::from(kind)]);
        bytes.extend(options);
        bytes.push(255);
        bytes
    }

    #[test]
    fn what_a_lease_says_is_kept() {
        let options = [
            &[54, 4, 10, 0, 3, 1, 1, 4, 255, 255, 255, 0, 3, 8, 10, 0, 3, 1, 10, 0, 3, 2][..],
            &[6, 8, 10, 0, 3, 1, 9, 9, 9, 9, 15, 4, b'l', b'x', b'm', 0, 51, 4, 0, 0, 0x0e, 0x10],
            &[58, 4, 0, 0, 7, 8, 59, 4, 0, 0, 0x0c, 0x4e, 80, 0, 12, 2, 0xff, 0xfe],
            &[121, 14, 0, 10, 0, 3, 1, 25, 192, 168, 9, 129, 10, 0, 3, 7],
        ];
        let address = Ipv4Addr::new(10, 0, 3, 9);
        let answer = Answer::parse(&answer(MessageType::Ack, 7, address, &options.concat())).unwrap();
        assert_eq!((answer.kind, answer.xid, answer.mac, answer.address), (MessageType::Ack, 7, MAC, address));
        let router = Ipv4Addr::new(10, 0, 3, 1);
        assert_eq!((answer.server, answer.routers), (Some(router), vec![router]));
        assert_eq!(answer.mask, Some(Ipv4Addr::new(255, 255, 255, 0)));
        assert_eq!(answer.resolvers, [router, Ipv4Addr::new(9, 9, 9, 9)]);
        assert_eq!(answer.domain.as_deref(), Some("lxm"));
        assert_eq!((answer.lease_time, answer.renewal, answer.rebinding), (Some(3600), Some(1800), Some(3150)));
        assert!(answer.rapid_commit);
        let routes: Vec<String> = answer.routes.iter().map(|(to, by)| format!("{to} {by}")).collect();
        assert_eq!(routes, ["0.0.0.0/0 10.0.3.1", "192.168.9.128/25 10.0.3.7"]);
    }

    #[test]
    fn no_name_of_a_domain_has_a_second_line() {
        for text in ["a b", "a\nnameserver 6.6.6.6", "", "..", "a..b", "\u{e4}.de", &"a".repeat(64)] {
            assert_eq!(domain(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(domain(b"corp.example.\0").as_deref(), Some("corp.example"));
    }

    #[test]
    fn a_question_is_one_that_the_server_understands() {
        let requested = Some(Ipv4Addr::new(10, 0, 3, 9));
        let question = Question {
            kind: MessageType::Request,
            xid: 0xdead_beef,
            mac: MAC,
            client_id: &[1, 0x10, 0x66, 0x6a, 0, 0, 1],
            hostname: "web",
            ciaddr: Ipv4Addr::UNSPECIFIED,
            requested,
            server: Some(Ipv4Addr::new(10, 0, 3, 1)),
            broadcast: true,
        };
        let bytes = question.encode().unwrap();
        assert!(bytes.len() >= 300);
        let seen = Message::from_bytes(&bytes).unwrap();
        assert_eq!((seen.opcode(), seen.xid(), seen.chaddr()), (Opcode::BootRequest, 0xdead_beef, &MAC.0[..]));
        assert!(seen.flags().broadcast());
        for option in [
            DhcpOption::MessageType(MessageType::Request),
            DhcpOption::RequestedIpAddress(Ipv4Addr::new(10, 0, 3, 9)),
            DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 3, 1)),
            DhcpOption::ClientIdentifier(vec![1, 0x10, 0x66, 0x6a, 0, 0, 1]),
            DhcpOption::Hostname("web".into()),
        ] {
            assert_eq!(seen.opts().get(OptionCode::from(&option)), Some(&option));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            cut in 0usize..600,
            options in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = Answer::parse(&bytes);
            let whole = answer(MessageType::Ack, 1, Ipv4Addr::UNSPECIFIED, &options);
            let _ = Answer::parse(&whole[..cut.min(whole.len())]);
            let mut overloaded = answer(MessageType::Ack, 1, Ipv4Addr::UNSPECIFIED, &[52, 1, 3]);
            let end = 236.min(44 + bytes.len());
            overloaded[44..end].copy_from_slice(&bytes[..end - 44]);
            let _ = Answer::parse(&overloaded);
        }
    }
}
