//! Answers DNS queries from the guests' names, and decides which are forwarded.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use ipnetwork::{Ipv4Network, Ipv6Network};

use super::lease::Time;
use super::names::Names;

/// Most bytes of a message over UDP that we say we take (RFC 9715 wants no fragments).
const MAX_PAYLOAD: u16 = 1232;

/// What this server alone knows about: the domain, and the reverse names of the bridge's subnets.
#[derive(Debug)]
pub(super) struct Zone {
    domain: Name,
    ipv4: Option<Ipv4Network>,
    ipv6: Option<Ipv6Network>,
}

/// What to do with a query.
#[derive(Debug)]
pub(super) enum QueryVerdict {
    /// It is not a query at all.
    Drop,
    Answer(Vec<u8>),
    /// A name of another domain.
    Forward(Question),
}

/// The question of a query, as an answer must repeat it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    name: Name,
    kind: u16,
    class: u16,
}

impl Question {
    fn of(query: &Query) -> Self {
        let name = query.name().to_lowercase();
        Question { name, kind: query.query_type().into(), class: query.query_class().into() }
    }

    /// The name that it asks for, in lower case and without the dot at its end.
    pub(super) fn name(&self) -> String {
        self.name.to_ascii().trim_end_matches('.').to_owned()
    }
}

/// The header of a message and its only question; `None` where it is another kind of message.
fn read(message: &[u8]) -> Option<(Header, Option<Query>)> {
    let mut decoder = BinDecoder::new(message);
    let header = Header::read(&mut decoder).ok()?;
    let one = (header.counts.queries == 1).then(|| Query::read(&mut decoder).ok()).flatten();
    Some((header, one))
}

/// Whether `reply` answers the question that was sent under `id`.
pub(super) fn answers(reply: &[u8], id: u16, question: &Question) -> bool {
    read(reply).is_some_and(|(header, query)| {
        header.metadata.id == id
            && header.metadata.message_type == MessageType::Response
            && query.is_some_and(|query| Question::of(&query) == *question)
    })
}

/// An unpredictable id for a query of our own.
pub(super) fn random_id() -> u16 {
    Message::query().metadata.id
}

/// The answer to a query that holds a code and no more.
pub(super) fn failure(query: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
    let (header, question) = read(query)?;
    let mut reply = response(&header, code);
    reply.add_queries(question);
    reply.to_vec().ok()
}

fn response(header: &Header, code: ResponseCode) -> Message {
    let mut reply = Message::response(header.metadata.id, header.metadata.op_code);
    reply.metadata.recursion_desired = header.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply
}

impl Zone {
    /// `domain` is one that the settings' check has passed.
    pub(super) fn new(domain: &str, ipv4: Option<Ipv4Network>, ipv6: Option<Ipv6Network>) -> Self {
        let mut domain = Name::from_ascii(domain).unwrap_or_else(|_| Name::root());
        domain.set_fqdn(true);
        Zone { domain, ipv4, ipv6 }
    }

    /// Whether `address` is one of the bridge's own network.
    pub(super) fn covers(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.ipv4.is_some_and(|net| net.contains(address)),
            IpAddr::V6(address) => self.ipv6.is_some_and(|net| net.contains(address)),
        }
    }

    /// Decides on a message that a client sent.
    pub(super) fn consider(&self, message: &[u8], names: &Names, now: Time) -> QueryVerdict {
        let Some((header, query)) = read(message) else { return QueryVerdict::Drop };
        if header.metadata.message_type != MessageType::Query {
            return QueryVerdict::Drop;
        }
        let refuse = |code| response(&header, code).to_vec().map_or(QueryVerdict::Drop, QueryVerdict::Answer);
        if header.metadata.op_code != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        let Some(query) = query else { return refuse(ResponseCode::FormErr) };
        if query.query_class() != DNSClass::IN || matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
            return refuse(ResponseCode::Refused);
        }
        let Some(mut reply) = self.own(&header, &query, names, now) else {
            return QueryVerdict::Forward(Question::of(&query));
        };
        reply.add_query(query);
        reply.metadata.authoritative = true;
        if Message::from_vec(message).is_ok_and(|message| message.edns.is_some()) {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_PAYLOAD);
            reply.set_edns(edns);
        }
        reply.to_vec().map_or(QueryVerdict::Drop, QueryVerdict::Answer)
    }

    /// The answer to a question that is ours to answer.
    fn own(&self, header: &Header, query: &Query, names: &Names, now: Time) -> Option<Message> {
        if self.domain.zone_of(query.name()) {
            return Some(self.forward_name(header, query, names, now));
        }
        let address = host_address(query.name()).filter(|address| self.covers(*address))?;
        let mut reply = response(header, ResponseCode::NoError);
        let name = names.name_of(address, now).and_then(|name| self.domain.prepend_label(name).ok());
        match name {
            Some(name) if wants(query, RecordType::PTR) => {
                reply.add_answer(record(query.name(), RData::PTR(PTR(name))));
            }
            found => {
                if found.is_none() {
                    reply.metadata.response_code = ResponseCode::NXDomain;
                }
                reply.add_authority(self.authority(&query.name().base_name()));
            }
        }
        Some(reply)
    }

    /// The answer to a question about the domain or a name in it.
    fn forward_name(&self, header: &Header, query: &Query, names: &Names, now: Time) -> Message {
        let name = query.name();
        let mut reply = response(header, ResponseCode::NoError);
        let is_apex = name.num_labels() == self.domain.num_labels();
        if is_apex && wants(query, RecordType::SOA) {
            reply.add_answer(self.authority(name));
            return reply;
        }
        let is_host = name.num_labels() == self.domain.num_labels() + 1;
        let label = name.iter().next().filter(|_| is_host).map(<[u8]>::to_ascii_lowercase);
        let known = label.as_deref().and_then(|label| names.addresses(str::from_utf8(label).ok()?, now));
        if known.is_none() && !is_apex {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        for address in known.into_iter().flatten() {
            let data = match address {
                IpAddr::V4(address) => RData::A(address.into()),
                IpAddr::V6(address) => RData::AAAA(address.into()),
            };
            if wants(query, data.record_type()) {
                reply.add_answer(record(name, data));
            }
        }
        if reply.answers.is_empty() {
            reply.add_authority(self.authority(&self.domain));
        }
        reply
    }

    /// Goes with every negative answer: it says for how long that may be cached, 0 s.
    fn authority(&self, zone: &Name) -> Record {
        let contact = self.domain.prepend_label("hostmaster").unwrap_or_else(|_| self.domain.clone());
        record(zone, RData::SOA(SOA::new(self.domain.clone(), contact, 1, 3600, 600, 86400, 0)))
    }
}

fn wants(query: &Query, kind: RecordType) -> bool {
    query.query_type() == kind || query.query_type() == RecordType::ANY
}

/// A record with a TTL of 0: containers come and go.
fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), 0, data)
}

/// The address that a whole reverse name is the name of.
fn host_address(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

#[cfg(test)]
mod tests {
    use super::super::guests::{GuestEntry, Guests};
    use super::super::names::Neighbours;
    use super::*;
    use crate::types::Mac;
    use proptest::prelude::*;

    fn zone() -> Zone {
        Zone::new("lxm", Some("10.0.3.1/24".parse().unwrap()), Some("fd00:1::1/64".parse().unwrap()))
    }

    fn names() -> Names {
        let guest = |name: &str, last, addresses: &[&str]| {
            let mac = Mac([2, 0, 0, 0, 0, last]);
            let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
            (
                mac,
                GuestEntry {
                    name: name.parse().unwrap(),
                    mac,
                    reserved: None,
                    addresses,
                    allowed: Vec::new(),
                    allowed_macs: Vec::new(),
                },
            )
        };
        let guests = Guests::from([guest("web", 1, &["10.0.3.9", "fd00:1::9"]), guest("v4", 2, &["10.0.3.8"])]);
        Names::new(&guests, None, &Neighbours::default())
    }

    fn query(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(77, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn ask(name: &str, kind: RecordType) -> Option<Message> {
        match zone().consider(&query(name, kind).to_vec().unwrap(), &names(), 0) {
            QueryVerdict::Answer(reply) => Some(Message::from_vec(&reply).unwrap()),
            QueryVerdict::Forward(_) => None,
            QueryVerdict::Drop => panic!("dropped"),
        }
    }

    #[test]
    fn names_of_guests_are_answered_forward_and_reverse() {
        let reverse6 = "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa.";
        for (name, kind, answer) in [
            ("web.lxm.", RecordType::A, "10.0.3.9"),
            ("WEB.Lxm.", RecordType::A, "10.0.3.9"),
            ("web.lxm.", RecordType::AAAA, "fd00:1::9"),
            ("9.3.0.10.in-addr.arpa.", RecordType::PTR, "web.lxm."),
            (reverse6, RecordType::PTR, "web.lxm."),
        ] {
            let reply = ask(name, kind).unwrap();
            assert_eq!((reply.metadata.id, reply.metadata.response_code), (77, ResponseCode::NoError), "{name}");
            assert!(reply.metadata.authoritative);
            let data: Vec<String> = reply.answers.iter().map(|record| record.data.to_string()).collect();
            assert_eq!(data, [answer], "{name}");
            assert_eq!(reply.answers[0].name.to_ascii(), name, "the case of the question is kept");
        }
        assert_eq!(ask("web.lxm.", RecordType::ANY).unwrap().answers.len(), 2);
    }

    #[test]
    fn what_is_not_there_is_denied_with_the_zone_that_knows() {
        for (name, kind, code) in [
            ("nobody.lxm.", RecordType::A, ResponseCode::NXDomain),
            ("www.web.lxm.", RecordType::A, ResponseCode::NXDomain),
            ("7.3.0.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain),
            ("v4.lxm.", RecordType::AAAA, ResponseCode::NoError),
            ("web.lxm.", RecordType::MX, ResponseCode::NoError),
            ("lxm.", RecordType::A, ResponseCode::NoError),
            ("9.3.0.10.in-addr.arpa.", RecordType::A, ResponseCode::NoError),
        ] {
            let reply = ask(name, kind).unwrap();
            assert_eq!((reply.metadata.response_code, reply.answers.len()), (code, 0), "{name}");
            assert_eq!(reply.authorities[0].record_type(), RecordType::SOA, "{name}");
        }
        assert_eq!(ask("lxm.", RecordType::SOA).unwrap().answers.len(), 1);
    }

    #[test]
    fn all_else_is_forwarded() {
        for name in
            ["example.com.", "web.", "xlxm.", "lxm.example.", ".", "9.4.0.10.in-addr.arpa.", "3.0.10.in-addr.arpa."]
        {
            assert!(ask(name, RecordType::A).is_none(), "{name}");
        }
    }

    #[test]
    fn a_query_with_edns_is_answered_with_edns() {
        let mut message = query("web.lxm.", RecordType::A);
        message.set_edns(Edns::new());
        let QueryVerdict::Answer(reply) = zone().consider(&message.to_vec().unwrap(), &names(), 0) else { panic!() };
        assert_eq!(Message::from_vec(&reply).unwrap().edns.unwrap().max_payload(), MAX_PAYLOAD);
        assert!(ask("web.lxm.", RecordType::A).unwrap().edns.is_none());
    }

    #[test]
    fn what_is_no_question_is_refused_or_dropped() {
        let code = |bytes: &[u8]| match zone().consider(bytes, &names(), 0) {
            QueryVerdict::Answer(reply) => Some(Message::from_vec(&reply).unwrap().metadata.response_code),
            QueryVerdict::Drop => None,
            QueryVerdict::Forward(question) => panic!("{question:?}"),
        };
        let mut two = query("a.", RecordType::A);
        two.add_query(Query::query(Name::root(), RecordType::A));
        assert_eq!(code(&two.to_vec().unwrap()), Some(ResponseCode::FormErr));
        assert_eq!(code(&query("lxm.", RecordType::AXFR).to_vec().unwrap()), Some(ResponseCode::Refused));
        let mut update = query("lxm.", RecordType::A).to_vec().unwrap();
        update[2] = 5 << 3;
        assert_eq!(code(&update), Some(ResponseCode::NotImp));
        update[2] = 0x80;
        assert_eq!(code(&update), None, "an answer");
        assert_eq!(code(&update[..11]), None, "half a header");
        assert_eq!(code(&query("web.lxm.", RecordType::A).to_vec().unwrap()[..16]), Some(ResponseCode::FormErr));
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let message = query("Example.com.", RecordType::A);
        let question = Question::of(&message.queries[0]);
        let mut reply = message.clone().into_response();
        assert!(answers(&reply.to_vec().unwrap(), 77, &question));
        assert!(!answers(&reply.to_vec().unwrap(), 78, &question));
        assert!(!answers(&message.to_vec().unwrap(), 77, &question));
        reply.queries[0].set_query_type(RecordType::AAAA);
        assert!(!answers(&reply.to_vec().unwrap(), 77, &question));
        let failed = failure(&message.to_vec().unwrap(), ResponseCode::ServFail).unwrap();
        assert!(answers(&failed, 77, &question));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..60, byte: u8) {
            let zone = zone();
            let names = names();
            let _ = zone.consider(&bytes, &names, 0);
            let _ = failure(&bytes, ResponseCode::ServFail);
            for name in ["web.lxm.", "9.3.0.10.in-addr.arpa.", "example.com."] {
                let mut message = query(name, RecordType::A).to_vec().unwrap();
                if let Some(slot) = message.get_mut(at) { *slot = byte }
                let _ = zone.consider(&message, &names, 0);
                message.truncate(at);
                message.extend(&bytes);
                let _ = zone.consider(&message, &names, 0);
            }
        }
    }
}
