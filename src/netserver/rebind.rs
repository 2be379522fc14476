//! DNS rebinding: private addresses under foreign names, by which a web page makes a browser connect to
//! machines behind the firewall. Honest public names have none.

use std::net::{IpAddr, Ipv4Addr};

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_SVCB: u16 = 64;
const TYPE_HTTPS: u16 = 65;
/// Parameters of SVCB and HTTPS records that hold addresses (RFC 9460, 7.3).
const IPV4_HINT: u16 = 4;
const IPV6_HINT: u16 = 6;

/// Names that cannot be registered, and whose addresses are private by their meaning (RFC 6761, RFC 6762, RFC
/// 8375, ICANN's reservation of `internal`, and those of SAC045 that will never be delegated).
const NEVER_PUBLIC: [&str; 12] = [
    "internal",
    "home.arpa",
    "local",
    "localhost",
    "localdomain",
    "lan",
    "home",
    "corp",
    "mail",
    "intranet",
    "private",
    "test",
];

/// Which names may stand for private addresses.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    everything: bool,
    domains: Vec<String>,
}

impl Allowed {
    /// `configured` are the bridge's `private-names`, `hosts` the host's own domains.
    pub(super) fn new(configured: &[String], hosts: Vec<String>) -> Self {
        let everything = configured.iter().any(|name| name == "*");
        let own = configured.iter().map(|name| name.to_ascii_lowercase());
        let never_public = NEVER_PUBLIC.iter().map(|&name| name.to_owned());
        let domains = own.chain(hosts).chain(never_public);
        Allowed { everything, domains: domains.collect() }
    }

    /// Whether `name`, in lower case and without the dot at its end, may. One without a dot is no public
    /// name.
    pub(super) fn covers(&self, name: &str) -> bool {
        let is_in = |domain: &String| {
            name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.everything || !name.contains('.') || self.domains.iter().any(is_in)
    }
}

/// The domains of the `search` and `domain` lines of a resolv.conf(5), which the host believes its own. A
/// top-level domain is not the host's own.
pub(super) fn own_domains(resolv_conf: &str) -> Vec<String> {
    let of_line = |line: &str| -> Vec<String> {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("search" | "domain") => words.map(|word| word.trim_matches('.').to_ascii_lowercase()).collect(),
            _ => Vec::new(),
        }
    };
    resolv_conf.lines().flat_map(of_line).filter(|domain| domain.contains('.')).collect()
}

/// The first private address among the records of an answer; an error where it is not a DNS message to
/// its end. Read here record by record: one kind of record that a library cannot read must not hide
/// an address from us that the guest's resolver would find.
pub(super) fn private_address(message: &[u8]) -> Result<Option<IpAddr>, Malformed> {
    let mut reader = Reader { message, at: 12 };
    let count = |at: usize| {
        let bytes = message.get(at..at + 2).ok_or(Malformed)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    for _ in 0..count(4)? {
        reader.name()?;
        reader.take(4)?;
    }
    let records = u32::from(count(6)?) + u32::from(count(8)?) + u32::from(count(10)?);
    for _ in 0..records {
        reader.name()?;
        let kind = reader.number()?;
        reader.take(6)?;
        let length = reader.number()?.into();
        let data = reader.take(length)?;
        let found = match kind {
            TYPE_A | TYPE_AAAA => addresses(data, kind == TYPE_AAAA).find(|address| is_private(*address)),
            TYPE_SVCB | TYPE_HTTPS => hinted(data)?,
            _ => None,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// It cannot be read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let taken = self.message.get(self.at..self.at + length).ok_or(Malformed)?;
        self.at += length;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, Malformed> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Passes a name, which ends with a root label or with a pointer (RFC 1035, 4.1.4).
    fn name(&mut self) -> Result<(), Malformed> {
        loop {
            match self.take(1)?[0] {
                0 => return Ok(()),
                length @ 1..=0x3f => drop(self.take(length.into())?),
                0xc0.. => return self.take(1).map(drop),
                _ => return Err(Malformed),
            }
        }
    }
}

fn addresses(data: &[u8], six: bool) -> impl Iterator<Item = IpAddr> {
    let one = move |bytes: &[u8]| match six {
        true => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        false => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
    };
    data.chunks(if six { 16 } else { 4 }).filter_map(one)
}

/// The first private address that a service binding hints at: priority, target, parameters.
fn hinted(data: &[u8]) -> Result<Option<IpAddr>, Malformed> {
    let mut reader = Reader { message: data, at: 2 };
    reader.name()?;
    while reader.at < data.len() {
        let (key, length) = (reader.number()?, reader.number()?);
        let value = reader.take(length.into())?;
        let is_hint = matches!(key, IPV4_HINT | IPV6_HINT);
        let found = addresses(value, key == IPV6_HINT).find(|address| is_hint && is_private(*address));
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Whether an address is of a machine, a link or a site (RFC 6890), and none of the world's.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private4(address),
        IpAddr::V6(address) => {
            let [a, .., y, z] = address.segments();
            let embedded = || Ipv4Addr::from((u32::from(y) << 16) | u32::from(z));
            let translated = address.octets()[..12] == [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
            address.is_unspecified()
                || address.is_loopback()
                || a & 0xfe00 == 0xfc00
                || a & 0xff80 == 0xfe80 // fe80::/10, and fec0::/10, the site-local ones of old
                || address.to_ipv4().is_some_and(is_private4)
                || (translated && is_private4(embedded()))
        }
    }
}

fn is_private4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    let shared = a == 100 && b & 0xc0 == 64; // RFC 6598
    a == 0 || address.is_private() || address.is_loopback() || address.is_link_local() || shared
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use proptest::prelude::*;

    fn answer(data: &[&str]) -> Vec<u8> {
        let name = Name::from_ascii("www.example.com.").unwrap();
        let mut message = Message::new(7, MessageType::Response, OpCode::Query);
        message.add_query(Query::query(name.clone(), RecordType::A));
        for address in data {
            let data = match address.parse().unwrap() {
                IpAddr::V4(address) => RData::A(address.into()),
                IpAddr::V6(address) => RData::AAAA(address.into()),
            };
            message.add_answer(Record::from_rdata(name.clone(), 60, data));
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn private_addresses_are_found_in_all_their_forms() {
        for address in [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.100.0.1",
            "::",
            "::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::a00:1",
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(private_address(&answer(&["192.0.2.1", address])), Ok(Some(parsed)), "{address}");
        }
        for address in
            ["192.0.2.1", "100.128.0.1", "172.32.0.1", "2001:db8::1", "::ffff:192.0.2.1", "64:ff9b::c000:201"]
        {
            assert_eq!(private_address(&answer(&[address])), Ok(None), "{address}");
        }
    }

    #[test]
    fn a_hint_is_an_address_too() {
        // Priority 1, target ".", ipv4hint = 10.0.0.1.
        let data = [0, 1, 0, 0, 4, 0, 4, 10, 0, 0, 1];
        assert_eq!(hinted(&data), Ok(Some("10.0.0.1".parse().unwrap())));
        assert_eq!(hinted(&data[..9]), Err(Malformed));
        // Key 1 is a list of protocols.
        assert_eq!(hinted(&[0, 1, 0, 0, 1, 0, 4, 10, 0, 0, 1]), Ok(None));
    }

    #[test]
    fn names_that_may_are_whole_domains() {
        let allowed = Allowed::new(&["Corp.example".into()], own_domains("search lab.example com\n domain x.org.\n"));
        for (name, may) in [
            ("corp.example", true),
            ("a.corp.example", true),
            ("xcorp.example", false),
            ("nas.lab.example", true),
            ("www.x.org", true),
            ("example.com", false),
            ("nas", true),
            ("nas.lan", true),
            ("host.internal", true),
        ] {
            assert_eq!(allowed.covers(name), may, "{name}");
        }
        assert!(Allowed::new(&["*".into()], Vec::new()).covers("example.com"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..80) {
            let _ = private_address(&bytes);
            let message = answer(&["192.0.2.1", "2001:db8::1"]);
            let _ = private_address(&message[..cut.min(message.len())]);
            let _ = hinted(&bytes);
        }
    }
}
