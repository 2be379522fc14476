//! The lease and name server under guests that want all of it, or more than their own.

use std::net::{Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use lxm::testing::netserver;
use lxm::testing::types::Mac;

use super::SOON;
use crate::support::{Sandbox, Trial, eventually};
use crate::wiring::{DISCOVER, REQUEST, WiredGuest, ask_for_lease, managed_bridge, wants};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("escape::network::no_guest_takes_all_of_the_name_server", flood),
        Trial::new("escape::network::private_addresses_of_foreign_names_are_kept_from_guests", rebinding),
        Trial::new("escape::network::a_guest_has_the_name_and_the_lease_that_lxm_gave", leases),
    ]
}

const UPSTREAM: &str = "127.0.0.7";

/// A server of the host's that knows `fast.example` and `evil.example` and leaves all else unanswered.
struct Upstream {
    asked: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
}

impl Upstream {
    fn new() -> Self {
        let upstream = Upstream { asked: Arc::default(), ends: Arc::default() };
        let (asked, ends) = (upstream.asked.clone(), upstream.ends.clone());
        let socket = UdpSocket::bind((UPSTREAM, 53)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let name = query.queries[0].name().clone();
                let address = match name.to_ascii().as_str() {
                    "fast.example." => "192.0.2.77",
                    "evil.example." => "10.0.0.1",
                    _ => {
                        asked.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                };
                let mut reply = query.clone().into_response();
                reply.add_answer(Record::from_rdata(
                    name,
                    60,
                    RData::A(address.parse::<std::net::Ipv4Addr>().unwrap().into()),
                ));
                socket.send_to(&reply.to_vec().unwrap(), from).unwrap();
            }
        });
        upstream
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

/// What the server answers a guest.
fn answer(guest: &WiredGuest, server: &str, name: &str) -> Option<(ResponseCode, Vec<String>)> {
    guest.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.send_to(&query(name), (server, 53)).unwrap();
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).ok()?;
        let reply = Message::from_vec(&buffer[..length]).unwrap();
        let data = reply.answers.iter().map(|record| record.data.to_string()).collect();
        Some((reply.metadata.response_code, data))
    })
}

fn flood(sandbox: &Sandbox) {
    let upstream = Upstream::new();
    let (settings, net) = managed_bridge(sandbox);
    sandbox.lxm(&["network", "set", "lxmbr0", "upstream", UPSTREAM]).ok();
    let server = format!("{net}.1");
    let gateway6 = settings.ipv6.unwrap().ip();
    let prefix = gateway6.to_string();
    let prefix = prefix.strip_suffix('1').unwrap();
    let (greedy, honest) = (WiredGuest::new(sandbox, "greedy"), WiredGuest::new(sandbox, "honest"));
    greedy.connect(&format!("[network.eth0]\nipv4 = \"{net}.5/24\""));
    honest.connect(&format!("[network.eth0]\nipv4 = \"{net}.6/24\""));
    eventually("it is answered", SOON, || {
        answer(&honest, &server, "fast.example.").is_some_and(|(_, data)| data == ["192.0.2.77"])
    });
    let mut sockets = Vec::new();
    for number in 0..12 {
        greedy.ip(&format!("address add {prefix}5:{number:x}/64 dev eth0 nodad")).ok();
        let own: Ipv6Addr = format!("{prefix}5:{number:x}").parse().unwrap();
        let socket = greedy.inside(|| UdpSocket::bind((own, 0)).unwrap());
        eventually("the host knows its MAC address", SOON, || {
            greedy.run(&format!("ping -c 1 -W 1 -I {own} {gateway6}")).status == 0
        });
        sockets.push(socket);
    }
    // Each query waits for seconds; within those, all that the server gives is taken.
    for round in 0..100 {
        for (number, socket) in sockets.iter().enumerate() {
            socket.send_to(&query(&format!("slow-{round}-{number}.example.")), (gateway6, 53)).unwrap();
        }
    }
    let served = answer(&honest, &server, "fast.example.").expect("an answer");
    assert_eq!(served.1, ["192.0.2.77"], "another guest is served: {served:?}");
    let asked = upstream.asked.load(Ordering::Relaxed);
    assert!((32..=256).contains(&asked), "the means are there, and twelve addresses have no more than one: {asked}");
}

fn rebinding(sandbox: &Sandbox) {
    let _upstream = Upstream::new();
    let (_, net) = managed_bridge(sandbox);
    sandbox.lxm(&["network", "set", "lxmbr0", "upstream", UPSTREAM]).ok();
    let server = format!("{net}.1");
    let guest = WiredGuest::new(sandbox, "web");
    guest.connect(&format!("[network.eth0]\nipv4 = \"{net}.5/24\""));
    let mut told = None;
    let mut ask = |name: &str| {
        eventually("it is answered", SOON, || {
            told = answer(&guest, &server, name);
            told.is_some()
        });
        told.take().unwrap()
    };
    assert_eq!(ask("fast.example."), (ResponseCode::NoError, vec!["192.0.2.77".to_owned()]));
    assert_eq!(ask("evil.example."), (ResponseCode::NoError, vec![]));
    for allowed in ["evil.example", "other.example,*"] {
        sandbox.lxm(&["network", "set", "lxmbr0", "private-names", allowed]).ok();
        assert_eq!(ask("evil.example."), (ResponseCode::NoError, vec!["10.0.0.1".to_owned()]), "{allowed}");
    }
    sandbox.lxm(&["network", "set", "lxmbr0", "private-names", "not a name"]).fails(6).complains("private-names");
    sandbox.lxm(&["network", "set", "lxmbr0", "private-names", ""]).ok();
    assert_eq!(ask("evil.example."), (ResponseCode::NoError, vec![]));
}

fn leases(sandbox: &Sandbox) {
    let (_, net) = managed_bridge(sandbox);
    let server = format!("{net}.1");
    let (guest, other) = (WiredGuest::new(sandbox, "web"), WiredGuest::new(sandbox, "db"));
    let mac = guest.connect("[network.eth0]")[0].mac;
    other.connect(&format!("[network.eth0]\nipv4 = \"{net}.200/24\""));
    let mut own = None;
    eventually("it is offered an address", SOON, || {
        own = ask_for_lease(&guest, mac, DISCOVER, &[]);
        own.is_some()
    });
    let own = own.unwrap();
    for name in ["db", "wpad", "localhost", "*", "isatap", "a.b\n", &"x".repeat(255)] {
        let option = [&[12, name.len() as u8][..], name.as_bytes(), &wants(own)].concat();
        assert_eq!(ask_for_lease(&guest, mac, REQUEST, &option), Some(own), "the lease is taken: {name}");
    }
    guest.ip(&format!("address add {own}/24 dev eth0")).ok();
    let ask = |name: &str| {
        let mut told = None;
        eventually("it is answered", SOON, || {
            told = answer(&guest, &server, name);
            told.is_some()
        });
        told.unwrap()
    };
    assert_eq!(ask("web.lxm."), (ResponseCode::NoError, vec![own.to_string()]));
    assert_eq!(ask("db.lxm."), (ResponseCode::NoError, vec![format!("{net}.200")]));
    for name in ["wpad.lxm.", "localhost.lxm.", "isatap.lxm.", "anything.lxm."] {
        assert_eq!(ask(name).0, ResponseCode::NXDomain, "{name}");
    }
    // In the names of others it is offered nothing, and the pool stays as it is.
    for last in 0..40 {
        // Of an answer to another's MAC address nothing would come here; what counts is the server's book.
        guest.inside(|| shout(Mac([2, 0x66, 0, 0, 0, last])));
    }
    assert_eq!(ask_for_lease(&guest, mac, REQUEST, &wants(own)), Some(own), "all that came before is done");
    let leased = || netserver::status(&sandbox.layout(), "lxmbr0").unwrap().unwrap().leased;
    eventually("its own lease is in the book", SOON, || leased() > 0);
    assert_eq!(leased(), 1, "and no other is");
}

/// Asks for a lease in another's name, and waits for nothing.
fn shout(mac: Mac) {
    let mut message = vec![1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0];
    message.resize(28, 0);
    message.extend(mac.0);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99, 53, 1, DISCOVER, 80, 0, 255]);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.bind_device(Some(b"eth0")).unwrap();
    socket.bind(&std::net::SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 68).into()).unwrap();
    UdpSocket::from(socket).send_to(&message, "255.255.255.255:67").unwrap();
}
