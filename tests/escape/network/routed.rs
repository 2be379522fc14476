//! What goes by the host's own address: what holds on the bridge holds for what is routed, too.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use lxm::testing::net::rules::{self, Holding};

use super::SOON;
use crate::network::{Outside, ask, create, in_network_of, inside, start};
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Sandbox, Trial, eventually, run};
use crate::wiring::{WiredGuest, ip, managed_bridge};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("escape::network::isolated_holds_for_what_is_routed", isolated),
        Trial::new("escape::network::a_machine_of_the_lan_reaches_what_is_published_alone", from_the_lan),
        Trial::new("escape::network::no_guest_fills_the_host_s_neighbour_table", neighbours),
        Trial::new("escape::network::a_published_port_leads_to_what_lxm_gave", published)
            .guest(Guest::Busybox)
            .limit(120),
        Trial::new("escape::network::a_published_port_leads_to_no_machine_of_the_lan", lan_addresses)
            .guest(Guest::Busybox)
            .limit(120),
    ]
}

/// Whether a datagram from one arrives at an address of the other by the gateway's MAC address. What comes
/// after it, to where it may go, shows when it would have.
fn arrives(from: &WiredGuest, to: &WiredGuest, address: &str) -> bool {
    let ear = to.inside(|| UdpSocket::bind("[::]:6800").unwrap());
    ear.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let at: SocketAddr =
        if address.contains(':') { format!("[{address}]:6800") } else { format!("{address}:6800") }.parse().unwrap();
    from.inside(|| {
        let mouth = UdpSocket::bind(if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
        for _ in 0..3 {
            let _ = mouth.send_to(b"word", at);
        }
    });
    ear.recv(&mut [0; 16]).is_ok()
}

fn isolated(sandbox: &Sandbox) {
    let (settings, net) = managed_bridge(sandbox);
    let prefix = settings.ipv6.unwrap().ip().to_string();
    let prefix = prefix.strip_suffix('1').unwrap();
    let guest = |name: &str, last: u8, more: &str| {
        let guest = WiredGuest::new(sandbox, name);
        let addresses = format!("ipv4 = \"{net}.{last}/24\"\nipv6 = \"{prefix}{last}/64\"");
        guest.connect(&format!("[network.eth0]\n{addresses}\n{more}"));
        eventually("it reaches the host", SOON, || guest.reaches(&format!("{net}.1")));
        assert!(guest.reaches(&format!("{prefix}1")), "by IPv6 too");
        // All others by the host, as an attacker sends.
        guest.ip(&format!("route replace {net}.0/24 via {net}.1 dev eth0 onlink")).ok();
        guest.ip(&format!("route add {net}.1/32 dev eth0")).ok();
        guest.ip(&format!("-6 route add {prefix}1/128 dev eth0")).ok();
        guest.ip(&format!("-6 route add {prefix}/65 via {prefix}1 dev eth0 metric 1")).ok();
        guest
    };
    let (open, other) = (guest("open", 5, ""), guest("other", 6, ""));
    let alone = guest("alone", 7, "isolated = true");
    for base in [format!("{net}."), prefix.to_owned()] {
        let to = |last: u8| format!("{base}{last}");
        eventually("the means are there: the host routes", SOON, || arrives(&other, &open, &to(5)));
        assert!(!arrives(&alone, &open, &to(5)), "from the isolated one, {base}");
        assert!(!arrives(&other, &alone, &to(7)), "to the isolated one, {base}");
        assert!(alone.reaches(&to(1)), "it reaches the host all the same");
    }
}

fn from_the_lan(sandbox: &Sandbox) {
    let outside = Outside::new();
    let (settings, net) = managed_bridge(sandbox);
    let six = settings.ipv6.unwrap();
    let prefix = six.ip().to_string();
    let guest = WiredGuest::new(sandbox, "web");
    let address6 = format!("{}6", prefix.strip_suffix('1').unwrap());
    guest.connect(&format!("[network.eth0]\nipv4 = \"{net}.6/24\"\nipv6 = \"{address6}/64\""));
    outside.run(&format!("ip route add {net}.0/24 via 192.0.2.1")).ok();
    outside.run(&format!("ip -6 route add {}/64 via 2001:db8:1::1", six.network())).ok();
    let pings = |address: &str| outside.run(&format!("ping -c 1 -W 1 {address}")).status == 0;
    let both = [format!("{net}.6"), address6];
    for address in &both {
        eventually("the guest is there", SOON, || run_ping(address));
        assert!(!pings(address), "{address} is published nowhere");
    }
    // What the guest asks for comes back.
    assert!(guest.reaches("192.0.2.9") && guest.reaches("2001:db8:1::9"));
    sandbox.lxm(&["network", "set", "lxmbr0", "routed", "true"]).ok();
    for address in &both {
        eventually("the means are there: routed, it is reached", SOON, || pings(address));
    }
    sandbox.lxm(&["network", "set", "lxmbr0", "routed", ""]).ok();
    assert!(!pings(&both[0]) && !pings(&both[1]));
    sandbox.lxm(&["network", "set", "lxmbr0", "nat", "false"]).ok();
    eventually("without translation a bridge is a routed one", SOON, || pings(&both[0]));
    sandbox.lxm(&["network", "set", "lxmbr0", "routed", "false"]).ok();
    assert!(!pings(&both[0]));
}

fn run_ping(address: &str) -> bool {
    std::process::Command::new("ping")
        .args(["-c", "1", "-W", "1", address])
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// How many neighbours on the link the host knows or looks for.
fn known(link: &str) -> usize {
    ip(&format!("-6 neighbour show dev {link}")).lines().count()
}

fn neighbours(sandbox: &Sandbox) {
    let flood = |guest: &WiredGuest, prefix: &str| {
        guest.inside(|| {
            let mouth = UdpSocket::bind("[::]:0").unwrap();
            for number in 0..300 {
                // The kernel may be out of room for what waits.
                let _ = mouth.send_to(b"word", format!("[{prefix}1000:{number:x}]:9"));
            }
        });
    };
    let by_the_host = |guest: &WiredGuest, prefix: &str| {
        eventually("it reaches the host", SOON, || guest.reaches(&format!("{prefix}1")));
        guest.ip(&format!("-6 route add {prefix}1/128 dev eth0")).ok();
        guest.ip(&format!("-6 route add {prefix}/65 via {prefix}1 dev eth0 metric 1")).ok();
    };
    let (settings, _) = managed_bridge(sandbox);
    let prefix = settings.ipv6.unwrap().ip().to_string();
    let prefix = prefix.strip_suffix('1').unwrap();
    ip("link add br0 type bridge");
    ip("address add fd99::1/64 dev br0 nodad");
    ip("link set br0 up");
    let bare = WiredGuest::new(sandbox, "bare");
    bare.connect("[network.eth0]\nbridge = \"br0\"\nipv6 = \"fd99::5/64\"");
    by_the_host(&bare, "fd99::");
    flood(&bare, "fd99::");
    assert!(known("br0") > 100, "the means are there: {}", known("br0"));
    drop(bare);
    ip("link del br0");
    let guest = WiredGuest::new(sandbox, "web");
    let mac = guest.connect(&format!("[network.eth0]\nipv6 = \"{prefix}5/64\""))[0].mac;
    by_the_host(&guest, prefix);
    flood(&guest, prefix);
    assert!(known("lxmbr0") < 10, "where it sends to: {}", ip("-6 neighbour show dev lxmbr0"));
    // As many addresses as it likes: the rules give it a few.
    for number in 0..80 {
        guest.ip(&format!("address add {prefix}2:{number:x}/64 dev eth0 nodad")).ok();
    }
    let speak = |number: u16| {
        guest.inside(|| {
            let mouth = UdpSocket::bind(format!("[{prefix}2:{number:x}]:0")).unwrap();
            mouth.send_to(b"word", format!("[{prefix}1]:9")).unwrap();
        });
    };
    (0..80).for_each(speak);
    let address = |number: u16| format!("{prefix}2:{number:x}").parse().unwrap();
    let layout = sandbox.layout();
    let held = |number: &u16| rules::is_held(&layout, &Holding { mac, address: address(*number) }).unwrap();
    let count = (0..80).filter(held).count();
    assert!((16..=33).contains(&count), "{count} addresses");
    let own = format!("ping -c 1 -W 1 -I {prefix}5 {prefix}1");
    assert_eq!(guest.run(&own).status, 0, "its own still works");
}

fn published(sandbox: &Sandbox) {
    let outside = Outside::new();
    create(sandbox, "web", r#"publish = ["8080:80"]"#);
    let own = start(sandbox, "web");
    inside(sandbox, "web", "mkdir -p /www; echo from-the-guest > /www/index.html; httpd -h /www").ok();
    eventually("it is published", SOON, || outside.inside(|| ask("192.0.2.1:8080")).is_some());
    // A service of the host's that its firewall keeps from all others.
    let gateway = own.rsplit_once('.').unwrap().0.to_owned() + ".1";
    ip("address add 169.254.169.254/32 dev lo");
    let leader = sandbox.leader("web");
    let translated = || run_checked("nft", &["list", "chain", "inet", "lxm", "prerouting"]);
    for secret in [gateway.as_str(), "169.254.169.254", "192.0.2.9"] {
        let run = |args: &str| in_network_of(leader, || ip(args));
        run("address flush dev eth0 scope global");
        eventually("it leads nowhere", SOON, || !translated().contains("dnat ip to"));
        run(&format!("address add {secret}/24 dev eth0"));
        // What the guest changes next is heard after that.
        run("address add 203.0.113.7/24 dev eth0");
        std::thread::sleep(Duration::from_secs(1));
        assert!(!translated().contains("dnat ip to"), "{secret}: {}", translated());
        assert!(ask("127.0.0.1:8080").is_none());
        run("address flush dev eth0 scope global");
        run(&format!("address add {own}/24 dev eth0"));
        eventually("the means are there: its own is followed", SOON, || {
            translated().contains(&format!("dnat ip to {own}:80"))
        });
    }
}

/// On a bridge of the host's own, where lxm gives no addresses, a guest takes that of another machine.
fn lan_addresses(sandbox: &Sandbox) {
    let outside = Outside::new();
    for command in ["link add br0 type bridge", "address add 10.99.0.1/24 dev br0", "link set br0 up"] {
        ip(command);
    }
    let machine = WiredGuest::new(sandbox, "machine");
    ip(&format!("link add lan0 master br0 type veth peer name lan1 netns {}", machine.pid()));
    ip("link set lan0 up");
    machine.inside(|| ["address add 10.99.0.50/24 dev lan1", "link set lan1 up"].map(ip));
    // What it serves is for its LAN alone, where this host is, and not for those outside.
    let server = machine.inside(|| std::net::TcpListener::bind("10.99.0.50:80").unwrap());
    server.set_nonblocking(true).unwrap();

    sandbox.lxm(&["create", "web", "--network", "br0", "-t", "busybox"]).ok();
    sandbox.lxm(&["config", "set", "web", "network.eth0.publish", "8080:80", "network.eth0.ipv6", "none"]).ok();
    sandbox.lxm(&["start", "web", "--wait", "booted"]).ok();
    inside(sandbox, "web", "mkdir -p /www; echo from-the-guest > /www/index.html; httpd -h /www").ok();
    let leader = sandbox.leader("web");
    let set = |args: &str| in_network_of(leader, || ip(args));
    // There is no table before there is a rule.
    let translated = || run("nft", &["list", "chain", "inet", "lxm", "prerouting"]).stdout;
    let leads_to = |address: &str| translated().contains(&format!("dnat ip to {address}:80"));
    // The means: a free one of the LAN's it may choose.
    set("address add 10.99.0.9/24 dev eth0");
    eventually("its own is followed", SOON, || leads_to("10.99.0.9"));
    set("route replace default via 10.99.0.1");
    eventually("it is reached", SOON, || outside.inside(|| ask("192.0.2.1:8080")).is_some());

    set("address flush dev eth0 scope global");
    eventually("it leads nowhere", SOON, || !translated().contains("dnat ip to"));
    // Its neighbours ask for it by ARP, and it says nothing: the machine does.
    set("link set eth0 arp off");
    set("address add 10.99.0.50/24 dev eth0");
    let asked = || run_checked("ip", &["neigh", "show", "10.99.0.50"]).contains("lladdr");
    eventually("the host has asked whose it is", SOON, asked);
    for _ in 0..20 {
        assert!(!leads_to("10.99.0.50"), "{}", translated());
        assert!(ask("127.0.0.1:8080").is_none());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(server.accept().is_err(), "the machine was spoken to");
    // One that was the guest's, and becomes another's.
    set("address flush dev eth0 scope global");
    set("link set eth0 arp on");
    set("address add 10.99.0.60/24 dev eth0");
    eventually("its own is followed", SOON, || leads_to("10.99.0.60"));
    set("link set eth0 arp off");
    machine.inside(|| ip("address add 10.99.0.60/24 dev lan1"));
    ip("neigh flush dev br0");
    let _ = ask("10.99.0.60:80");
    eventually("it is not led to any more", SOON, || !leads_to("10.99.0.60"));
    sandbox.lxm(&["destroy", "-f", "web"]).ok();
    drop(machine);
    ip("link del br0");
}
