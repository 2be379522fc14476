//! What a DHCP client asks: the parts of its message that decide the answer.

use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::{DhcpOptionIterator, Message};
use dhcproto::v4::{HType, MessageType, Opcode, OptionCode};

use crate::types::Mac;

/// A client's message, parsed and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DhcpRequest {
    pub kind: MessageType,
    pub mac: Mac,
    pub xid: u32,
    pub hops: u8,
    /// The client cannot take unicast before it has an address.
    pub broadcast: bool,
    /// The address that the client has and can answer for; unspecified where it has none.
    pub ciaddr: Ipv4Addr,
    /// The relay that passed the message on; unspecified where there was none.
    pub giaddr: Ipv4Addr,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54: the server that the message is meant for.
    pub server: Option<Ipv4Addr>,
    /// Option 61, given back as it came.
    pub client_id: Option<Vec<u8>>,
    /// Option 82, given back as it came.
    pub relay_information: Option<Vec<u8>>,
    /// Option 80: the client takes an acknowledgement without an offer before it.
    pub rapid_commit: bool,
}

impl DhcpRequest {
    /// Parses a message as it came in a datagram; `None` for what is not a client's request.
    ///
    /// Reads single options out of the raw ones rather than decoding the message whole: one option
    /// that a client writes oddly must not hide those after it, nor trip over the library's
    /// assertions on lengths.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let message = Message::new(bytes).ok()?;
        // The address length before the address: `chaddr` trusts it.
        if message.hlen() != 6 || message.htype() != HType::Eth || message.opcode() != Opcode::BootRequest {
            return None;
        }
        let mac = Mac(message.chaddr().try_into().ok()?);
        let mut request = DhcpRequest {
            kind: MessageType::Unknown(0),
            mac,
            xid: message.xid(),
            hops: message.hops(),
            broadcast: message.flags().broadcast(),
            ciaddr: message.ciaddr(),
            giaddr: message.giaddr(),
            requested: None,
            server: None,
            client_id: None,
            relay_information: None,
            rapid_commit: false,
        };
        let overload = request.take_options(message.opts());
        // Options may continue in the fields of the file and server names (RFC 2132, 9.3).
        if overload & 1 != 0 {
            request.take_options(DhcpOptionIterator::new(&bytes[108..236]));
        }
        if overload & 2 != 0 {
            request.take_options(DhcpOptionIterator::new(&bytes[44..108]));
        }
        let known = !matches!(request.kind, MessageType::Unknown(_));
        (known && mac.is_unicast()).then_some(request)
    }

    /// Keeps the options that matter; returns the value of option 52.
    fn take_options(&mut self, options: DhcpOptionIterator<'_>) -> u8 {
        let mut overload = 0;
        for option in options {
            let data = option.data();
            let address = || <[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from);
            match option.code() {
                OptionCode::MessageType => self.kind = data.first().map_or(self.kind, |&kind| kind.into()),
                OptionCode::RequestedIpAddress => self.requested = address(),
                OptionCode::ServerIdentifier => self.server = address(),
                // Longer than any real one would make the reply too long.
                OptionCode::ClientIdentifier if data.len() <= 255 => self.client_id = Some(data.to_vec()),
                OptionCode::RelayAgentInformation if data.len() <= 255 => self.relay_information = Some(data.to_vec()),
                OptionCode::RapidCommit => self.rapid_commit = true,
                OptionCode::OptionOverload => overload = data.first().copied().unwrap_or(0),
                _ => {}
            }
        }
        overload
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A message of `kind` from `mac` with `options` in wire form.
    pub(crate) fn message(kind: MessageType, mac: Mac, options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0];
        bytes.resize(28, 0);
        bytes.extend(mac.0);
        bytes.resize(236, 0);
        bytes.extend([99, 130, 83, 99, 53, 1, u8::from(kind)]);
        bytes.extend(options);
        bytes.push(255);
        bytes
    }

    pub(crate) const MAC: Mac = Mac([0x10, 0x66, 0x6a, 0, 0, 1]);

    #[test]
    fn the_options_that_matter_are_kept() {
        let options = [50, 4, 10, 0, 3, 9, 54, 4, 10, 0, 3, 1, 61, 3, 1, 2, 3, 80, 0, 12, 2, 0xff, 0xfe];
        let request = DhcpRequest::parse(&message(MessageType::Request, MAC, &options)).unwrap();
        assert_eq!((request.kind, request.mac, request.xid), (MessageType::Request, MAC, 0xdead_beef));
        assert_eq!(request.requested, Some(Ipv4Addr::new(10, 0, 3, 9)));
        assert_eq!(request.server, Some(Ipv4Addr::new(10, 0, 3, 1)));
        assert_eq!(request.client_id, Some(vec![1, 2, 3]));
        assert!(request.rapid_commit && !request.broadcast);
    }

    #[test]
    fn one_odd_option_does_not_hide_the_others() {
        // A name of three bytes, a rapid commit with data, a host name that is not text.
        let options = [81, 3, 0, 0, 0, 80, 1, 9, 12, 2, 0xff, 0xfe, 94, 1, 0, 50, 4, 10, 0, 3, 9];
        let request = DhcpRequest::parse(&message(MessageType::Discover, MAC, &options)).unwrap();
        assert_eq!(request.requested, Some(Ipv4Addr::new(10, 0, 3, 9)));
    }

    #[test]
    fn options_go_on_in_the_fields_of_the_names() {
        let mut bytes = message(MessageType::Discover, MAC, &[52, 1, 3]);
        bytes[108..115].copy_from_slice(&[50, 4, 10, 0, 3, 9, 255]);
        bytes[44..49].copy_from_slice(&[61, 2, 7, 7, 255]);
        let request = DhcpRequest::parse(&bytes).unwrap();
        assert_eq!((request.requested, request.client_id), (Some(Ipv4Addr::new(10, 0, 3, 9)), Some(vec![7, 7])));
    }

    #[test]
    fn what_is_no_request_of_an_ethernet_client_is_refused() {
        let good = message(MessageType::Discover, MAC, &[]);
        assert!(DhcpRequest::parse(&good).is_some());
        // Reply, other hardware, address lengths of a lie, a group address, no magic, no type.
        for (at, byte) in [(0, 2), (1, 6), (2, 16), (2, 255), (2, 0), (28, 0x11), (236, 0), (242, 0), (242, 99)] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            assert_eq!(DhcpRequest::parse(&bytes), None, "byte {at} = {byte}");
        }
        for length in 0..243 {
            assert_eq!(DhcpRequest::parse(&good[..length]), None, "cut to {length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            cut in 0usize..600,
            options in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = DhcpRequest::parse(&bytes);
            let whole = message(MessageType::Discover, MAC, &options);
            let _ = DhcpRequest::parse(&whole[..cut.min(whole.len())]);
            let mut overloaded = message(MessageType::Discover, MAC, &[52, 1, 3]);
            let end = 236.min(44 + bytes.len());
            overloaded[44..end].copy_from_slice(&bytes[..end - 44]);
            let _ = DhcpRequest::parse(&overloaded);
        }
    }
}
