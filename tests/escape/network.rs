//! A guest as router, lease giver, resolver or another guest.
//!
//! Attacks by frames are made between plain processes that are wired as guests are. Their means are
//! shown on a bridge that lxm does not guard: there every frame arrives.

#[path = "network/frames.rs"]
mod frames;
#[path = "network/names.rs"]
mod names;
#[path = "network/routed.rs"]
mod routed;

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use lxm::testing::sys::packet::PacketSocket;
use lxm::testing::types::Mac;

use crate::support::sandbox::run_checked;
use crate::support::{Sandbox, Trial, eventually};
use crate::wiring::{WiredGuest, ip, managed_bridge, own_bridge};
use frames::{ALL_NODES, ARP, BROADCAST, Frame, IPV4, IPV6, VLAN, frame};

const SOON: Duration = Duration::from_secs(10);

pub fn trials() -> Vec<Trial> {
    let own = vec![
        Trial::new("escape::network::no_guest_gives_leases_whatever_port_it_speaks_from", leases),
        Trial::new("escape::network::no_guest_is_a_router_however_it_wraps_what_it_says", routers),
        Trial::new("escape::network::no_guest_takes_an_address_that_lxm_gave", addresses),
        Trial::new("escape::network::no_guest_is_a_bridge_or_speaks_other_protocols", protocols),
        Trial::new("escape::network::an_address_is_its_guest_s_from_its_start", from_its_start),
        Trial::new("escape::network::an_address_ends_with_its_guest", until_its_end),
    ];
    own.into_iter().chain(routed::trials()).chain(names::trials()).collect()
}

/// An attacker and its victim, and what they are called.
struct Pair<'a> {
    attacker: WiredGuest<'a>,
    victim: WiredGuest<'a>,
    mac: Mac,
    victim_mac: Mac,
    own4: Ipv4Addr,
    victim4: Ipv4Addr,
    own6: Ipv6Addr,
    victim6: Ipv6Addr,
    gateway4: Ipv4Addr,
}

impl<'a> Pair<'a> {
    fn new(sandbox: &'a Sandbox, bridge: &str, net: &str) -> Self {
        let (attacker, victim) = (WiredGuest::new(sandbox, "attacker"), WiredGuest::new(sandbox, "victim"));
        let wire = |guest: &WiredGuest, last: u8| {
            let config = format!("[network.eth0]\nbridge = \"{bridge}\"\nipv4 = \"{net}.{last}/24\"");
            guest.connect(&config)[0].mac
        };
        let (mac, victim_mac) = (wire(&attacker, 5), wire(&victim, 6));
        let four = |last: u8| format!("{net}.{last}").parse().unwrap();
        eventually("they reach each other", SOON, || attacker.reaches(&format!("{net}.6")));
        Pair {
            mac,
            victim_mac,
            own4: four(5),
            victim4: four(6),
            own6: mac.link_local(),
            victim6: victim_mac.link_local(),
            gateway4: four(1),
            attacker,
            victim,
        }
    }

    /// Which of the frames arrive. What comes after each, and is the attacker's to send, shows that all
    /// that was sent before it has arrived or never will.
    fn heard(&self, frames: &[Frame]) -> Vec<&'static str> {
        let ear = self.victim.inside(|| PacketSocket::open(eth0(), 3, &[]).unwrap());
        let mut heard = Vec::new();
        for (number, one) in frames.iter().enumerate() {
            let [mark, end] = [b"attack", b"no-sin"].map(|word| [&word[..], &(number as u16).to_be_bytes()].concat());
            let marked = Frame { payload: [&one.payload[..], &mark].concat(), ..one.clone() };
            self.attacker.inside(|| {
                send(&marked);
                UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&end, (self.victim4, 6800)).unwrap();
            });
            let deadline = Instant::now() + SOON;
            loop {
                assert!(Instant::now() < deadline, "`{}`: what is honest arrives", one.name);
                let mut buffer = [0; 2048];
                let Ok(received) = ear.receive(&mut buffer) else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let has = |word: &[u8]| buffer[..received.length].windows(word.len()).any(|part| part == word);
                if has(&mark) {
                    heard.push(one.name);
                }
                if has(&end) {
                    break;
                }
            }
        }
        heard
    }
}

fn eth0() -> u32 {
    nix::net::if_::if_nametoindex("eth0").unwrap()
}

fn send(frame: &Frame) {
    PacketSocket::open(eth0(), frame.kind, &[]).unwrap().send(&frame.payload, frame.to).unwrap();
}

/// The frames arrive on a bridge of the host's own, before lxm has a rule, and not on lxm's.
#[track_caller]
fn assert_stopped(sandbox: &Sandbox, frames_of: impl Fn(&Pair) -> Vec<Frame>) {
    // Else iptables looks at what a bridge carries, and at its checksums.
    for tables in ["iptables", "ip6tables", "arptables"] {
        // Without the module nothing is checked.
        let _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{tables}"), "0");
    }
    own_bridge();
    // So that the bridge forwards to a group what no port has asked for.
    ip("link set br0 type bridge mcast_snooping 0");
    let bare = Pair::new(sandbox, "br0", "10.99.0");
    let frames = frames_of(&bare);
    let all: Vec<&str> = frames.iter().map(|frame| frame.name).collect();
    assert_eq!(bare.heard(&frames), all, "the means are there");
    drop(bare);
    ip("link del br0");
    let (_, net) = managed_bridge(sandbox);
    ip("link set lxmbr0 type bridge mcast_snooping 0");
    let guarded = Pair::new(sandbox, "lxmbr0", &net);
    assert_eq!(guarded.heard(&frames_of(&guarded)), [""; 0]);
}

fn leases(sandbox: &Sandbox) {
    assert_stopped(sandbox, |pair| {
        let offer =
            |from: u16, to: Ipv4Addr| frames::ipv4(pair.own4, to, 17, &[], 0, &frames::udp(from, 68, &[2, 1, 6, 0]));
        let everybody = Ipv4Addr::BROADCAST;
        let datagram = frames::udp(1067, 68, &[2; 40]);
        let packet = |options: &[u8], fragment| frames::ipv4(pair.own4, everybody, 17, options, fragment, &datagram);
        let tagged = |vlan: u8| [&[0, vlan, 8, 0][..], &packet(&[], 0)].concat();
        let mut too_long = packet(&[], 0);
        too_long[2] = 8;
        let mut ends_early = packet(&[1, 1, 1, 1], 0);
        ends_early[0] = 0x44;
        let six = |from| frames::ipv6(pair.own6, pair.victim6, 17, &frames::udp(from, 546, &[7; 8]));
        vec![
            frame("from 67", BROADCAST, IPV4, offer(67, everybody)),
            frame("from 1067", BROADCAST, IPV4, offer(1067, everybody)),
            frame("from 68", BROADCAST, IPV4, offer(68, everybody)),
            frame("to one", pair.victim_mac, IPV4, offer(1067, pair.victim4)),
            frame("with options", BROADCAST, IPV4, packet(&[1, 1, 1, 1], 0)),
            frame("a first fragment", BROADCAST, IPV4, packet(&[], 0x2000)),
            frame("longer than its frame", BROADCAST, IPV4, too_long),
            frame("with a header too short", BROADCAST, IPV4, ends_early),
            frame("of no VLAN", BROADCAST, VLAN, tagged(0)),
            frame("of a VLAN", BROADCAST, VLAN, tagged(5)),
            frame("DHCPv6", pair.victim_mac, IPV6, six(547)),
            frame("DHCPv6 from 1547", pair.victim_mac, IPV6, six(1547)),
        ]
    });
}

fn routers(sandbox: &Sandbox) {
    assert_stopped(sandbox, |pair| {
        let all: Ipv6Addr = "ff02::1".parse().unwrap();
        let advertisement = frames::advertisement();
        let six = |next, data: &[u8]| frames::ipv6(pair.own6, all, next, data);
        let behind = |header: &[u8]| [header, &advertisement].concat();
        let redirect = frames::neighbour(137, pair.own6, pair.mac);
        let redirect4 = [&[5, 1, 0, 0][..], &pair.own4.octets(), &[0; 28]].concat();
        let query = [&[130, 0, 0, 0, 0, 100, 0, 0][..], &[0; 16]].concat();
        vec![
            frame("plain", ALL_NODES, IPV6, six(58, &advertisement)),
            frame("to one", pair.victim_mac, IPV6, frames::ipv6(pair.own6, pair.victim6, 58, &advertisement)),
            frame("behind hop-by-hop options", ALL_NODES, IPV6, six(0, &behind(&frames::options(58)))),
            frame("behind destination options", ALL_NODES, IPV6, six(60, &behind(&frames::options(58)))),
            frame(
                "behind two headers",
                ALL_NODES,
                IPV6,
                six(0, &[frames::options(60), behind(&frames::options(58))].concat()),
            ),
            frame("an only fragment", ALL_NODES, IPV6, six(44, &behind(&frames::fragment(58, 0, false)))),
            frame("a first fragment", ALL_NODES, IPV6, six(44, &behind(&frames::fragment(58, 0, true)))),
            frame(
                "a first fragment that says nothing",
                ALL_NODES,
                IPV6,
                six(44, &[frames::fragment(60, 0, true), frames::options(58)].concat()),
            ),
            frame("and the next", ALL_NODES, IPV6, six(44, &behind(&frames::fragment(60, 1, false)))),
            frame("of no VLAN", ALL_NODES, VLAN, [&[0, 0, 0x86, 0xdd][..], &six(58, &advertisement)].concat()),
            frame("redirect", pair.victim_mac, IPV6, frames::ipv6(pair.own6, pair.victim6, 58, &redirect)),
            frame(
                "redirect of IPv4",
                pair.victim_mac,
                IPV4,
                frames::ipv4(pair.own4, pair.victim4, 1, &[], 0, &redirect4),
            ),
            frame("multicast querier", ALL_NODES, IPV6, six(58, &query)),
            frame(
                "multicast querier of IPv4",
                Mac([1, 0, 0x5e, 0, 0, 1]),
                IPV4,
                frames::ipv4(pair.own4, "224.0.0.1".parse().unwrap(), 2, &[], 0, &[0x11, 100, 0, 0, 0, 0, 0, 0]),
            ),
        ]
    });
}

fn addresses(sandbox: &Sandbox) {
    assert_stopped(sandbox, |pair| {
        let all: Ipv6Addr = "ff02::1".parse().unwrap();
        let none = Ipv6Addr::UNSPECIFIED;
        let solicit = frames::neighbour(135, pair.victim6, pair.mac);
        let advertise = frames::neighbour(136, pair.victim6, pair.mac);
        let six = |from, to, message: &[u8]| frames::ipv6(from, to, 58, message);
        let word = frames::udp(6700, 6801, b"word");
        vec![
            frame("it asks whether his address is free", ALL_NODES, IPV6, six(none, all, &solicit)),
            frame("it asks him so", pair.victim_mac, IPV6, six(none, pair.victim6, &solicit)),
            frame("it advertises his address", ALL_NODES, IPV6, six(pair.own6, all, &advertise)),
            frame("it tells one so", pair.victim_mac, IPV6, six(pair.own6, pair.victim6, &advertise)),
            frame("it speaks from his", ALL_NODES, IPV6, frames::ipv6(pair.victim6, all, 17, &word)),
            frame("it speaks from none", ALL_NODES, IPV6, frames::ipv6(none, all, 17, &word)),
            frame("it has his IPv4 address", BROADCAST, ARP, frames::arp(2, pair.mac, pair.victim4, pair.victim4)),
            frame("it has the gateway's", BROADCAST, ARP, frames::arp(2, pair.mac, pair.gateway4, pair.victim4)),
            frame(
                "it probes for his IPv4 address",
                BROADCAST,
                ARP,
                frames::arp(1, pair.mac, Ipv4Addr::UNSPECIFIED, pair.victim4),
            ),
            frame(
                "it speaks from his IPv4 address",
                pair.victim_mac,
                IPV4,
                frames::ipv4(pair.victim4, pair.victim4, 17, &[], 0, &word),
            ),
            frame(
                "it speaks from no IPv4 address",
                BROADCAST,
                IPV4,
                frames::ipv4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, 17, &[], 0, &word),
            ),
        ]
    });
}

fn protocols(sandbox: &Sandbox) {
    assert_stopped(sandbox, |pair| {
        let packet = frames::ipv4(pair.own4, Ipv4Addr::BROADCAST, 17, &[], 0, &frames::udp(67, 68, &[2; 8]));
        let bridges = Mac([1, 0x80, 0xc2, 0, 0, 0]);
        let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &packet].concat();
        let label = [&[0, 0, 1, 64][..], &packet].concat();
        vec![
            frame("spanning tree", bridges, 38, vec![0x42, 0x42, 3, 0, 0, 0, 0, 0]),
            frame("IPv4 in 802.3", BROADCAST, 60, snap),
            frame("IPv4 behind two tags", BROADCAST, 0x88a8, [&[0, 5, 0x81, 0, 0, 5, 8, 0][..], &packet].concat()),
            frame("IPv4 in MPLS", pair.victim_mac, 0x8847, label),
            frame("PPPoE", BROADCAST, 0x8863, vec![0x11, 7, 0, 0, 0, 0]),
            frame("RARP", BROADCAST, 0x8035, frames::arp(4, pair.mac, pair.own4, pair.own4)),
            frame("PTP", BROADCAST, 0x88f7, vec![0; 44]),
            frame("MACsec", BROADCAST, 0x88e5, vec![0; 32]),
        ]
    });
}

fn from_its_start(sandbox: &Sandbox) {
    let (settings, _) = managed_bridge(sandbox);
    let net = settings.ipv6.unwrap();
    let (attacker, victim) = (WiredGuest::new(sandbox, "attacker"), WiredGuest::new(sandbox, "victim"));
    // It knows the victim's hardware address from its last run.
    let mac = victim.connect("[network.eth0]")[0].mac;
    victim.disconnect();
    let link_local = mac.link_local();
    let identifier = u128::from(link_local) & u128::from(u64::MAX);
    let global = Ipv6Addr::from(u128::from(net.network()) | identifier);
    attacker.connect("[network.eth0]");
    attacker.ip(&format!("address add {global}/64 dev eth0 nodad")).ok();
    attacker.ip(&format!("address add {link_local}/64 dev eth0 nodad")).ok();
    let gateway = net.ip().to_string();
    let reaches = |guest: &WiredGuest| guest.run(&format!("ping -c 1 -W 1 -I {global} {gateway}")).status == 0;
    eventually("the means are there: the address is free, so it may", SOON, || reaches(&attacker));
    let victim = WiredGuest::new(sandbox, "victim");
    assert_eq!(victim.connect("[network.eth0]")[0].mac, mac);
    assert!(!reaches(&attacker), "it is another's now");
    // Its kernel makes the address by itself, from the bridge's advertisement.
    eventually("it is its guest's", SOON, || reaches(&victim));
    assert!(!reaches(&attacker));
}

fn until_its_end(sandbox: &Sandbox) {
    let (settings, net) = managed_bridge(sandbox);
    let guest = WiredGuest::new(sandbox, "web");
    let six = settings.ipv6.unwrap().network();
    let config = format!("[network.eth0]\nipv4 = \"{net}.6/24\"\nipv6 = \"{six}6/64\"");
    let lists = || ["fixed", "fixed6", "held6"].map(|set| run_checked("nft", &["list", "set", "bridge", "lxm", set]));
    let before = lists();
    for _ in 0..3 {
        guest.connect(&config);
        assert!(lists().iter().zip(&before).all(|(now, before)| now.len() > before.len()), "{:?}", lists());
        guest.disconnect();
        assert_eq!(lists(), before, "what it had is free");
    }
    guest.connect(&config);
    // Another way in which a guest ends: whoever sweeps up after it.
    lxm::testing::net::sweep(&sandbox.layout(), &guest.name).unwrap();
    assert_eq!(lists(), before);
}
