//! Names: of guests and of others, over IPv4 and IPv6.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record};
use nix::sys::signal::Signal;

use super::{GATEWAY, Lab, SOON};
use crate::support::pace::Clock;
use crate::support::sandbox::run_checked;
use crate::support::{Need, Sandbox, Trial, eventually};

pub(super) fn trials() -> Vec<Trial> {
    let dig = |name, body: fn(&Sandbox)| Trial::new(name, body).needs(Need::Tool("dig")).needs(Need::Tool("udhcpc"));
    vec![
        dig("netserve::names_appear_with_the_lease_and_go_with_the_guest", names_come_and_go),
        dig("netserve::names_of_others_are_asked_from_the_hosts_servers", names_of_others),
        dig("netserve::a_taken_port_53_is_reported_and_leases_are_given", taken_port),
        dig("netserve::guests_get_an_ipv6_address_route_and_name", ipv6),
    ]
}

fn names_come_and_go(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "");
    lab.known_guest(1);
    lab.known_guest(2);
    let asker = lab.lease(2).unwrap();
    let denied = lab.run(2, &format!("dig @{GATEWAY} nobody.lxm")).ok().stdout;
    assert!(denied.contains("status: NXDOMAIN") && denied.contains("SOA"), "{denied}");
    assert_eq!(lab.lookup(2, "guest-1.lxm"), [""; 0], "before its lease");
    let address = lab.lease(1).unwrap();
    assert_eq!(lab.lookup(2, "guest-1.lxm"), [address.to_string()], "the moment the lease is given");
    assert_eq!(lab.lookup(2, "+tcp GUEST-1.LXM"), [address.to_string()]);
    assert_eq!(lab.lookup(2, &format!("-x {address}")), ["guest-1.lxm."]);
    // The host asks too.
    assert_eq!(run_checked("dig", &["+short", &format!("@{GATEWAY}"), "guest-2.lxm"]).trim(), asker.to_string());
    lab.retract(1);
    eventually("the name goes", SOON, || lab.lookup(2, "guest-1.lxm").is_empty());
    let denied = lab.run(2, &format!("dig @{GATEWAY} guest-1.lxm")).ok().stdout;
    assert!(denied.contains("status: NXDOMAIN"), "{denied}");
    lab.announce(1, None);
    assert_eq!(lab.lease(1), Some(address), "the same when it runs again");
}

/// Answers DNS over UDP and TCP at 127.0.0.1 as long as the process lives: every name has the
/// address 192.0.2.7, and over UDP those that start with `long` are cut.
fn fake_upstream() {
    let answer = |query: &[u8], cut: bool| -> Vec<u8> {
        let mut reply = Message::from_vec(query).unwrap().into_response();
        let name = reply.queries[0].name().clone();
        if cut && name.to_ascii().starts_with("long") {
            reply.metadata.truncation = true;
        } else {
            reply.add_answer(Record::from_rdata(name, 60, RData::A(Ipv4Addr::new(192, 0, 2, 7).into())));
        }
        reply.to_vec().unwrap()
    };
    let udp = UdpSocket::bind("127.0.0.1:53").unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            // An answer that was not asked for first: it must not be taken.
            let mut forged = answer(&buffer[..length], true);
            forged[0] ^= 0xff;
            udp.send_to(&forged, client).ok();
            udp.send_to(&answer(&buffer[..length], true), client).ok();
        }
    });
    let tcp = TcpListener::bind("127.0.0.1:53").unwrap();
    std::thread::spawn(move || {
        use std::io::Write;
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).ok();
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut query).ok();
            let reply = answer(&query, false);
            stream.write_all(&[&(reply.len() as u16).to_be_bytes()[..], &reply].concat()).ok();
        }
    });
}

fn names_of_others(sandbox: &Sandbox) {
    fake_upstream();
    // The first server is not there: the next is asked.
    let mut lab = Lab::new(sandbox, "upstream = [\"127.0.0.9\", \"127.0.0.1\"]");
    lab.known_guest(1);
    lab.lease(1).unwrap();
    for question in ["example.com", "+tcp example.com", "+bufsize=512 long.example.com", "+noedns example.org"] {
        assert_eq!(lab.lookup(1, question), ["192.0.2.7"], "{question}");
    }
    assert_eq!(lab.lookup(1, "nobody.lxm"), [""; 0], "names of ours are not asked from others");
    // A hundred at a time, none waiting for another.
    let clock = Clock::start();
    let all = "for n in $(seq 100); do echo $n.example.com; done > /tmp/names; dig +short @10.77.3.1 -f /tmp/names";
    let answered = lab.run(1, &format!("mount -t tmpfs none /tmp; {all}")).ok().stdout;
    assert_eq!(answered.lines().filter(|line| *line == "192.0.2.7").count(), 100);
    assert!(clock.elapsed() < SOON);
}

fn taken_port(sandbox: &Sandbox) {
    let squatter = UdpSocket::bind("0.0.0.0:53").unwrap();
    let mut lab = Lab::new(sandbox, "upstream = [\"192.0.2.53\"]");
    lab.known_guest(1);
    assert!(lab.lease(1).is_some());
    let fault = lab.status().names_fault.expect("names are not served");
    let own = format!("(process {})", std::process::id());
    assert!(fault.contains("port 53 of 10.77.3.1 is taken by `") && fault.contains(&own), "{fault}");
    assert!(lab.log().contains(&fault), "{}", lab.log());
    let offered = lab.lease_text(1).unwrap();
    assert!(offered.contains(" dns=192.0.2.53 "), "another resolver is handed out: {offered}");
    drop(squatter);
    eventually("names are served once it is free", Duration::from_secs(15), || lab.status().names_fault.is_none());
    assert_eq!(lab.lookup(1, "guest-1.lxm").len(), 1);
    assert!(lab.lease_text(1).unwrap().contains(" dns=10.77.3.1 "));
}

fn ipv6(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "");
    lab.known_guest(1);
    lab.known_guest(2);
    let stable = "fd77:1::1266:6aff:fe00:1";
    eventually("the guest has an address", SOON, || run_checked("ip", &["-n", "g1", "-6", "address"]).contains(stable));
    let routes = run_checked("ip", &["-n", "g1", "-6", "route"]);
    assert!(routes.contains("default via fe80:"), "{routes}");
    eventually("its name has the address", SOON, || {
        lab.guest_status(1).is_some_and(|guest| guest.addresses.iter().any(|address| address.is_ipv6()))
    });
    lab.lease(2).unwrap();
    assert_eq!(lab.lookup(2, "AAAA guest-1.lxm"), [stable]);
    assert_eq!(lab.lookup(2, &format!("-x {stable}")), ["guest-1.lxm."]);
    eventually("names are answered over IPv6", SOON, || {
        let answer = lab.run(2, "dig +short +tries=1 +time=1 @fd77:1::1 AAAA guest-1.lxm || true");
        answer.stdout.trim() == stable
    });
    // A server that was killed knows the addresses still: guests claim them only once.
    lab.end(Signal::SIGKILL);
    lab.start();
    assert_eq!(lab.lookup(2, "AAAA guest-1.lxm"), [stable]);
    // One that ends says so: the guests look for another router.
    lab.end(Signal::SIGTERM);
    eventually("the route goes", SOON, || !run_checked("ip", &["-n", "g1", "-6", "route"]).contains("default"));
}
