//! Claims about links, addresses and what guests may send, with plain processes as guests: each has
//! a network namespace and nothing else.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lxm::testing::config::Config;
use lxm::testing::config::bridge::{BridgeSettings, NetworkFile};
use lxm::testing::error::Result;
use lxm::testing::net::{self, GuestLink};
use lxm::testing::types::{ContainerName, Mac};
use nix::unistd::Pid;

use crate::support::pace::generous;
use crate::support::sandbox::run_checked;
use crate::support::{Need, Outcome, Sandbox, Trial, command, eventually};

const SOON: Duration = Duration::from_secs(5);

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("wiring::two_hundred_restarts_find_nothing_in_the_way", restarts),
        Trial::new("wiring::what_a_killed_supervisor_left_is_replaced_and_swept", leftovers),
        Trial::new("wiring::static_addresses_and_routes_are_there_before_init_runs", static_addresses),
        Trial::new("wiring::a_guest_may_have_several_interfaces_or_none", several_interfaces),
        Trial::new("wiring::macvlan_works_and_what_the_kernel_lacks_is_reported", other_kinds),
        Trial::new("wiring::a_moved_link_comes_back_under_its_name", lent_link),
        Trial::new("wiring::a_link_that_the_kernel_returned_gets_its_name_again", returned_link),
        Trial::new("wiring::what_cannot_be_wired_leaves_nothing", failures_leave_nothing),
        Trial::new("wiring::a_guest_cannot_have_another_s_mac_or_ipv4_address", spoofing4),
        Trial::new("wiring::a_guest_cannot_keep_an_address_that_it_refused", refused),
        Trial::new("wiring::a_guest_cannot_have_another_s_ipv6_address", spoofing6),
        Trial::new("wiring::a_guest_can_neither_lease_nor_advertise", no_servers),
        Trial::new("wiring::an_isolated_guest_reaches_the_host_alone", isolated),
        Trial::new("wiring::bandwidth_is_shaped_both_ways", bandwidth).needs(Need::Tool("iperf3")),
        Trial::new("wiring::a_bridge_takes_a_network_that_the_host_does_not_route", free_networks),
        Trial::new("wiring::a_host_with_a_route_by_advertisement_keeps_it", accept_ra),
    ]
}

pub fn ip(args: &str) -> String {
    run_checked("ip", &args.split(' ').collect::<Vec<_>>())
}

/// A process that has a network namespace of its own.
pub struct WiredGuest<'a> {
    sandbox: &'a Sandbox,
    pub name: ContainerName,
    process: Child,
}

impl<'a> WiredGuest<'a> {
    pub fn new(sandbox: &'a Sandbox, name: &str) -> Self {
        let process = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
        let guest = WiredGuest { sandbox, name: name.parse().unwrap(), process };
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        eventually("it has a namespace", SOON, || namespace(&guest.pid().to_string()) != namespace("self"));
        guest.ip("link set lo up").ok();
        guest
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }

    fn try_connect(&self, config: &str) -> Result<Vec<GuestLink>> {
        let config: Config = toml::from_str(config).unwrap();
        net::connect(&self.sandbox.layout(), &self.name, &config, net::GuestSide::of(self.pid()))
    }

    #[track_caller]
    pub fn connect(&self, config: &str) -> Vec<GuestLink> {
        self.try_connect(config).unwrap_or_else(|e| panic!("connect `{}`: {e}", self.name))
    }

    pub fn disconnect(&self) {
        net::disconnect(&self.sandbox.layout(), &self.name, &[], None).unwrap();
    }

    #[track_caller]
    pub fn run(&self, program: &str) -> Outcome {
        let mut enter = Command::new("nsenter");
        enter.args(["-t", &self.pid().to_string(), "-n"]).args(program.split(' '));
        command::bounded(enter, b"", Duration::from_secs(20))
    }

    #[track_caller]
    pub fn ip(&self, args: &str) -> Outcome {
        self.run(&format!("ip {args}"))
    }

    /// Whether it reaches an address.
    #[track_caller]
    pub fn reaches(&self, address: &str) -> bool {
        self.run(&format!("ping -c 1 -W 1 {address}")).status == 0
    }

    /// Does `work` in its network namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        let enter = || nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        std::thread::scope(|scope| scope.spawn(|| (enter(), work()).1).join().unwrap())
    }

    fn end(&mut self) {
        // It may have been ended before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for WiredGuest<'_> {
    fn drop(&mut self) {
        let layout = self.sandbox.layout();
        let _ = net::disconnect(&layout, &self.name, &[], None);
        // The directory is the supervisor's, which there is none of here.
        let _ = std::fs::remove_dir(layout.run_dir(&self.name));
        self.end();
    }
}

/// A bridge of the host's own.
pub fn own_bridge() {
    ip("link add br0 type bridge");
    ip("address add 10.99.0.1/24 dev br0");
    ip("link set br0 up");
}

/// lxm's bridge, as `lxm network up` makes it; gives the first three numbers of its addresses.
pub fn managed_bridge(sandbox: &Sandbox) -> (BridgeSettings, String) {
    sandbox.lxm(&["network", "up"]).ok();
    let settings = || NetworkFile::load(&sandbox.layout()).unwrap().get("lxmbr0").unwrap().clone();
    let [a, b, c, _] = settings().ipv4.unwrap().ip().octets();
    // All of whose addresses begin alike.
    sandbox.lxm(&["network", "set", "lxmbr0", "ipv4", &format!("{a}.{b}.{c}.1/24")]).ok();
    let settings = settings();
    (settings, format!("{a}.{b}.{c}"))
}

fn host_links() -> String {
    ip("-br link")
}

fn restarts(sandbox: &Sandbox) {
    own_bridge();
    for _ in 0..200 {
        let guest = WiredGuest::new(sandbox, "web");
        let links = guest.connect("[network.eth0]\nbridge = \"br0\"");
        assert!(host_links().contains(links[0].host.as_deref().unwrap()));
        drop(guest);
    }
    assert!(!host_links().contains("lxm"), "{}", host_links());
    ip("link del br0");
}

fn leftovers(sandbox: &Sandbox) {
    own_bridge();
    let config = "[network.eth0]\nbridge = \"br0\"\negress = \"100Mbit\"";
    let (mut first, second) = (WiredGuest::new(sandbox, "web"), WiredGuest::new(sandbox, "web"));
    let links = first.connect(config);
    let host = links[0].host.clone().unwrap();
    assert!(ip(&format!("link show {host}")).contains("altname lxm-web-eth0"));
    first.process.kill().unwrap();
    assert_eq!(second.connect(config), links, "links and addresses are stable");
    assert!(net::is_wired(&sandbox.layout(), &second.name));
    net::sweep(&sandbox.layout(), &second.name).unwrap();
    net::sweep(&sandbox.layout(), &second.name).unwrap();
    assert!(!net::is_wired(&sandbox.layout(), &second.name));
    assert!(!host_links().contains("lxm"), "{}", host_links());
    first.end();
    first = WiredGuest::new(sandbox, "other");
    drop((first, second));
    ip("link del br0");
}

fn static_addresses(sandbox: &Sandbox) {
    own_bridge();
    ip("address add fd99::1/64 dev br0 nodad");
    let guest = WiredGuest::new(sandbox, "web");
    guest.connect(
        "[network.eth0]\nbridge = \"br0\"\nmtu = 1400\nmac = \"02:00:00:00:00:05\"\n\
         ipv4 = \"10.99.0.5/24\"\nipv6 = \"fd99::5/64\"\ngateway = [\"10.99.0.1\", \"fd99::1\"]",
    );
    let shown = guest.ip("address show eth0").ok();
    for fact in ["mtu 1400", "02:00:00:00:00:05", "10.99.0.5/24", "fd99::5/64"] {
        assert!(shown.stdout.contains(fact), "{fact}: {shown}");
    }
    guest.ip("route").ok().says("default via 10.99.0.1 dev eth0");
    guest.ip("-6 route").ok().says("default via fd99::1 dev eth0");
    assert!(guest.reaches("10.99.0.1") && guest.reaches("fd99::1"));
    // On the way to a gateway elsewhere nothing is missing either.
    let far = WiredGuest::new(sandbox, "far");
    far.connect(
        "[network.eth0]\nbridge = \"br0\"\nipv4 = \"192.0.2.7/32\"\nipv6 = \"none\"\ngateway = [\"10.99.0.1\"]",
    );
    far.ip("route").ok().says("default via 10.99.0.1 dev eth0");
    assert!(!far.ip("address").ok().stdout.contains("fe80::"), "IPv6 is off");
    drop((guest, far));
    ip("link del br0");
}

fn several_interfaces(sandbox: &Sandbox) {
    own_bridge();
    let guest = WiredGuest::new(sandbox, "web");
    let links = guest.connect(
        "[network.eth0]\nbridge = \"br0\"\nipv4 = \"10.99.0.5/24\"\n[network.eth1]\nbridge = \"br0\"\n\
         [network.lan0]\ntype = \"macvlan\"\nparent = \"br0\"\n[network.off]\ntype = \"none\"",
    );
    let names: Vec<&str> = links.iter().map(|link| link.guest.as_str()).collect();
    assert_eq!(names, ["eth0", "eth1", "lan0"]);
    assert_ne!(links[0].mac, links[1].mac);
    assert_ne!(links[0].host, links[1].host);
    let shown = guest.ip("-br link").ok();
    names.iter().for_each(|name| assert!(shown.stdout.contains(name), "{shown}"));
    let lonely = WiredGuest::new(sandbox, "lonely");
    assert!(lonely.connect("[network.eth0]\ntype = \"none\"").is_empty());
    assert!(lonely.connect("[network.eth0]\ntype = \"host\"").is_empty());
    assert!(lonely.reaches("127.0.0.1"));
    assert_eq!(lonely.ip("-br link").ok().stdout.lines().count(), 1);
    drop((guest, lonely));
    ip("link del br0");
}

fn other_kinds(sandbox: &Sandbox) {
    own_bridge();
    let (a, b) = (WiredGuest::new(sandbox, "a"), WiredGuest::new(sandbox, "b"));
    a.connect("[network.eth0]\ntype = \"macvlan\"\nparent = \"br0\"\nipv4 = \"10.99.0.5/24\"");
    b.connect("[network.eth0]\ntype = \"macvlan\"\nparent = \"br0\"\nipv4 = \"10.99.0.6/24\"");
    assert!(a.reaches("10.99.0.6"), "macvlans of one parent see each other");
    for (keys, module) in [
        ("type = \"ipvlan\"\nparent = \"br0\"", "ipvlan"),
        ("type = \"macvlan\"\nparent = \"br0\"\nvlan = 7", "8021q"),
        ("bridge = \"br0\"\nvlan = 7", "VLAN_8021Q"),
    ] {
        let guest = WiredGuest::new(sandbox, "c");
        match guest.try_connect(&format!("[network.eth0]\n{keys}")) {
            Ok(_) => assert!(guest.ip("-br link").ok().stdout.contains("eth0")),
            Err(e) => {
                assert_eq!(e.kind().exit_status(), 5, "{e}");
                assert!(e.hint_text().is_some_and(|hint| hint.contains(module)), "{e}");
            }
        }
    }
    drop((a, b));
    ip("link del br0");
}

fn lent_link(sandbox: &Sandbox) {
    ip("link add lan7 type veth peer name far7");
    let config = "[network.net0]\ntype = \"physical\"\nparent = \"lan7\"\nipv4 = \"10.88.0.2/24\"";
    let parsed: Config = toml::from_str(config).unwrap();
    for _ in 0..3 {
        let mut guest = WiredGuest::new(sandbox, "web");
        guest.connect(config);
        assert!(!host_links().contains("lan7@"), "it is the guest's now");
        // A guest may call it what it likes.
        guest.ip("link set net0 down").ok();
        guest.ip("link set net0 name mine").ok();
        let held = net::hold(&parsed, guest.pid()).expect("its namespace is held");
        guest.end();
        net::disconnect(&sandbox.layout(), &guest.name, &[], Some(held.as_fd())).unwrap();
        let shown = ip("link show lan7");
        assert!(!shown.contains("altname"), "{shown}");
    }
    ip("link del lan7");
}

fn returned_link(sandbox: &Sandbox) {
    ip("link add lan7 type veth peer name far7");
    ip("link property add dev lan7 altname wan");
    let mut guest = WiredGuest::new(sandbox, "web");
    // Moved by its other name, it has its first one again at the end.
    guest.connect("[network.net0]\ntype = \"physical\"\nparent = \"wan\"");
    guest.ip("link set net0 down").ok();
    guest.ip("link set net0 name mine").ok();
    // The kernel brings hardware back under the guest's name for it when the supervisor was killed…
    guest.ip(&format!("link set mine netns {}", std::process::id())).ok();
    guest.end();
    // …and udev notes what it would have called it.
    ip("link property add dev mine altname lan7");
    net::sweep(&sandbox.layout(), &guest.name).unwrap();
    let shown = ip("link show lan7");
    assert!(shown.contains(": lan7@") && shown.contains("altname wan") && !shown.contains("lxm-"), "{shown}");
    drop(guest);
    ip("link del lan7");
}

fn failures_leave_nothing(sandbox: &Sandbox) {
    own_bridge();
    let guest = WiredGuest::new(sandbox, "web");
    for (config, status) in [
        ("[network.eth0]\nbridge = \"nosuch\"", 3),
        ("[network.eth0]\nbridge = \"lo\"", 6),
        ("[network.a]\nbridge = \"br0\"\n[network.b]\ntype = \"macvlan\"\nparent = \"nosuch\"", 3),
        ("[network.a]\nbridge = \"br0\"\nipv4 = \"10.99.0.5/24\"\ngateway = [\"fd00::1\", \"::\"]", 1),
    ] {
        let e = guest.try_connect(config).unwrap_err();
        assert_eq!(e.kind().exit_status(), status, "{config}: {e}");
        assert!(!host_links().contains("lxm"), "{config}: {}", host_links());
        assert!(!net::is_wired(&sandbox.layout(), &guest.name), "{config}");
    }
    drop(guest);
    ip("link del br0");
}

/// Answers a request for a lease as the bridge's server would: what the rules learn from.
fn lease(mac: Mac, address: Ipv4Addr) {
    let mut reply = vec![0u8; 300];
    reply[..3].copy_from_slice(&[2, 1, 6]);
    reply[16..20].copy_from_slice(&address.octets());
    reply[28..34].copy_from_slice(&mac.0);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.bind_device(Some(b"lxmbr0")).unwrap();
    socket.bind(&std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 67).into()).unwrap();
    socket.send_to(&reply, &std::net::SocketAddrV4::new(Ipv4Addr::BROADCAST, 68).into()).unwrap();
}

fn spoofing4(sandbox: &Sandbox) {
    let (settings, net) = managed_bridge(sandbox);
    let gateway = settings.ipv4.unwrap().ip().to_string();
    let (leased, fixed) = (WiredGuest::new(sandbox, "leased"), WiredGuest::new(sandbox, "fixed"));
    let mac = leased.connect("[network.eth0]")[0].mac;
    fixed.connect(&format!("[network.eth0]\nipv4 = \"{net}.6/24\""));
    fixed.ip("route").ok().says(&format!("default via {gateway}"));
    assert!(fixed.reaches(&gateway), "a static address is its owner's");
    leased.ip(&format!("address add {net}.5/24 dev eth0")).ok();
    assert!(!leased.reaches(&gateway), "an address that was not given to it");
    lease(mac, format!("{net}.5").parse().unwrap());
    // Its neighbours are asked again a moment after they could not be found.
    let reaches_both = || leased.reaches(&gateway) && leased.reaches(&format!("{net}.6"));
    eventually("it has an address that it was leased", SOON, reaches_both);
    leased.ip("address flush dev eth0 scope global").ok();
    leased.ip(&format!("address add {net}.6/24 dev eth0")).ok();
    assert!(!leased.reaches(&gateway), "another guest's address");
    leased.ip("address flush dev eth0 scope global").ok();
    leased.ip(&format!("address add {net}.5/24 dev eth0")).ok();
    eventually("it has it again", SOON, || leased.reaches(&gateway));
    leased.ip("link set eth0 address 02:00:00:00:00:99").ok();
    assert!(!leased.reaches(&gateway), "another hardware address");
    // What the bridge knows survives a rewrite of the rules.
    leased.ip(&format!("link set eth0 address {mac}")).ok();
    sandbox.lxm(&["network", "up"]).ok();
    eventually("both have theirs", SOON, || leased.reaches(&gateway) && fixed.reaches(&gateway));
    drop((leased, fixed));
}

/// Says one thing to the lease server as a client with `mac`; gives the address of the answer.
pub fn ask_for_lease(guest: &WiredGuest, mac: Mac, kind: u8, options: &[u8]) -> Option<Ipv4Addr> {
    let mut message = vec![1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0];
    message.resize(28, 0);
    message.extend(mac.0);
    message.resize(236, 0);
    message.extend([99, 130, 83, 99, 53, 1, kind]);
    message.extend(options);
    message.push(255);
    guest.inside(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.bind_device(Some(b"eth0")).unwrap();
        socket.bind(&std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into()).unwrap();
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(generous(Duration::from_millis(500)))).unwrap();
        let mut answer = [0; 1500];
        let mut ask = || {
            socket.send_to(&message, "255.255.255.255:67").unwrap();
            let length = if kind == DECLINE { 0 } else { socket.recv(&mut answer).unwrap_or(0) };
            (length > 240).then(|| Ipv4Addr::new(answer[16], answer[17], answer[18], answer[19]))
        };
        ask().or_else(|| if kind == DECLINE { None } else { ask() })
    })
}

pub const DISCOVER: u8 = 1;
pub const REQUEST: u8 = 3;
const DECLINE: u8 = 4;

pub fn wants(address: Ipv4Addr) -> Vec<u8> {
    [&[50, 4][..], &address.octets()].concat()
}

fn refused(sandbox: &Sandbox) {
    let (settings, net) = managed_bridge(sandbox);
    let gateway = settings.ipv4.unwrap().ip().to_string();
    let (greedy, honest) = (WiredGuest::new(sandbox, "greedy"), WiredGuest::new(sandbox, "honest"));
    let mac = greedy.connect("[network.eth0]")[0].mac;
    // It takes one address after the other, and says of each that another machine uses it. Of a few of those
    // it is believed.
    let mut had = Vec::new();
    for _ in 0..9 {
        let offered = ask_for_lease(&greedy, mac, DISCOVER, &[]).expect("an offer");
        assert_eq!(ask_for_lease(&greedy, mac, REQUEST, &wants(offered)), Some(offered));
        ask_for_lease(&greedy, mac, DECLINE, &wants(offered));
        had.push(offered);
    }
    let first = had[0];
    assert!(had[1..].iter().all(|address| *address != first) && first.to_string().starts_with(&net), "{had:?}");
    greedy.ip(&format!("address add {first}/24 dev eth0")).ok();
    eventually("a client has one address, and this is no more its own", SOON, || !greedy.reaches(&gateway));
    // The server asks the link before it gives an address away.
    greedy.ip("address flush dev eth0 scope global").ok();
    let other = honest.connect(&format!("[network.eth0]\nipv4 = \"{first}\""))[0].mac;
    assert_eq!(ask_for_lease(&honest, other, DISCOVER, &[]), Some(first), "it is free again");
    assert_eq!(ask_for_lease(&honest, other, REQUEST, &wants(first)), Some(first));
    honest.ip(&format!("address add {first}/24 dev eth0")).ok();
    greedy.ip(&format!("address add {first}/24 dev eth0")).ok();
    eventually("it is the other's alone", SOON, || !greedy.reaches(&gateway));
    assert!(honest.reaches(&gateway));
    drop((greedy, honest));
}

fn spoofing6(sandbox: &Sandbox) {
    let (settings, _) = managed_bridge(sandbox);
    let gateway = settings.ipv6.unwrap().ip().to_string();
    let prefix = gateway.strip_suffix('1').unwrap();
    let (a, b) = (WiredGuest::new(sandbox, "a"), WiredGuest::new(sandbox, "b"));
    a.connect("[network.eth0]");
    b.connect("[network.eth0]");
    let add = |guest: &WiredGuest, address: &str| {
        guest.ip(&format!("address add {address}/64 dev eth0 nodad")).ok();
    };
    let remove = |guest: &WiredGuest, address: &str| {
        guest.ip(&format!("address del {address}/64 dev eth0")).ok();
    };
    let (of_a, of_b) = (format!("{prefix}a"), format!("{prefix}b"));
    add(&a, &of_a);
    add(&b, &of_b);
    assert!(a.reaches(&gateway) && b.reaches(&gateway) && a.reaches(&of_b));
    add(&a, &of_b);
    assert_ne!(a.run(&format!("ping -c 1 -W 1 -I {of_b} {gateway}")).status, 0, "the neighbour's address");
    remove(&a, &of_b);
    add(&a, &gateway);
    assert_ne!(a.run(&format!("ping -c 1 -W 1 -I {gateway} {of_b}")).status, 0, "the gateway's address");
    b.ip("neighbour flush dev eth0").ok();
    assert!(b.reaches(&gateway), "no other machine answers for the gateway");
    remove(&a, &gateway);
    ip("address add 2001:db8::1/64 dev lxmbr0 nodad");
    add(&a, "2001:db8::a");
    assert!(!a.reaches("2001:db8::1"), "an address of no network of the bridge");
    drop((a, b));
}

fn no_servers(sandbox: &Sandbox) {
    let (_, net) = managed_bridge(sandbox);
    let (rogue, victim) = (WiredGuest::new(sandbox, "rogue"), WiredGuest::new(sandbox, "victim"));
    rogue.connect(&format!("[network.eth0]\nipv4 = \"{net}.5/24\""));
    victim.connect(&format!("[network.eth0]\nipv4 = \"{net}.6/24\""));
    eventually("it reaches it", SOON, || rogue.reaches(&format!("{net}.6")));
    let hears = |from: u16, to: u16| {
        let ear = victim.inside(|| UdpSocket::bind(("0.0.0.0", to)).unwrap());
        ear.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mouth = rogue.inside(|| UdpSocket::bind(("0.0.0.0", from)).unwrap());
        mouth.send_to(b"word", (format!("{net}.6"), to)).unwrap();
        ear.recv(&mut [0; 16]).is_ok()
    };
    assert!(hears(6700, 6800), "the test itself works");
    for from in [67, 1067, 68] {
        assert!(!hears(from, 68), "a lease server's answer from port {from}");
    }
    drop((rogue, victim));
}

fn isolated(sandbox: &Sandbox) {
    let (settings, net) = managed_bridge(sandbox);
    let gateway = settings.ipv4.unwrap().ip().to_string();
    let guest = |name: &str, last: u8, more: &str| {
        let guest = WiredGuest::new(sandbox, name);
        guest.connect(&format!("[network.eth0]\nipv4 = \"{net}.{last}/24\"\n{more}"));
        guest
    };
    let (open, other) = (guest("open", 5, ""), guest("other", 6, ""));
    let (alone, apart) = (guest("alone", 7, "isolated = true"), guest("apart", 8, "isolated = true"));
    assert!(open.reaches(&format!("{net}.6")));
    for guest in [&open, &other, &alone, &apart] {
        assert!(guest.reaches(&gateway), "`{}` reaches the host", guest.name);
    }
    for (from, to) in [(&open, 7), (&alone, 5), (&alone, 8)] {
        assert!(!from.reaches(&format!("{net}.{to}")), "`{}` reaches {to}", from.name);
    }
    drop((open, other, alone, apart));
}

fn bandwidth(sandbox: &Sandbox) {
    own_bridge();
    let guest = WiredGuest::new(sandbox, "web");
    let shaped =
        "[network.eth0]\nbridge = \"br0\"\nipv4 = \"10.99.0.5/24\"\ningress = \"100Mbit\"\negress = \"20Mbit\"";
    let host = guest.connect(shaped)[0].host.clone();
    let shapers = run_checked("tc", &["qdisc"]);
    assert!(shapers.contains(&format!("dev {} root refcnt 3 rate 100Mbit", host.clone().unwrap())), "{shapers}");
    assert!(shapers.contains("rate 20Mbit"), "{shapers}");
    assert!(run_checked("tc", &["filter", "show", "dev", &host.unwrap(), "ingress"]).contains("Egress Redirect"));
    let mut server = Command::new("iperf3").args(["-s", "-B", "10.99.0.1"]).stdout(Stdio::null()).spawn().unwrap();
    eventually("the server listens", SOON, || run_checked("ss", &["-ltn"]).contains("10.99.0.1:5201"));
    for (direction, most) in [("", 20.0), ("-R", 100.0)] {
        let measured = guest.run(format!("iperf3 -c 10.99.0.1 -t 3 -J {direction}").trim()).ok().json();
        let rate = measured["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e6;
        // Both bounds: what is a burst at first is little after three seconds.
        assert!((most * 0.5..most * 1.2).contains(&rate), "{direction}: {rate} Mbit/s where {most} are allowed");
    }
    server.kill().unwrap();
    server.wait().unwrap();
    guest.disconnect();
    assert!(!host_links().contains("lxm"), "{}", host_links());
    drop(guest);
    ip("link del br0");
}

fn free_networks(sandbox: &Sandbox) {
    let network = || {
        sandbox.lxm(&["network", "up"]).ok();
        let settings = NetworkFile::load(&sandbox.layout()).unwrap().get("lxmbr0").unwrap().clone();
        (settings.ipv4.unwrap(), settings.ipv6.unwrap())
    };
    let first = network();
    sandbox.lxm(&["network", "down"]).ok();
    assert_eq!(network(), first, "it is kept");
    sandbox.lxm(&["network", "delete", "lxmbr0"]).ok();
    assert_eq!(network(), first, "and chosen again by the same host");
    sandbox.lxm(&["network", "delete", "lxmbr0"]).ok();
    ip("link add br0 type bridge");
    ip("link set br0 up");
    ip("address add 10.0.0.9/8 dev br0");
    ip(&format!("route add {}/56 dev br0", first.1.network()));
    let second = network();
    assert_ne!(second.0.ip().octets()[0], 10, "{second:?}");
    assert_ne!(second.1, first.1);
    sandbox.lxm(&["network", "delete", "lxmbr0"]).ok();
    ip("link del br0");
}

fn accept_ra(sandbox: &Sandbox) {
    ip("link add br0 type bridge");
    let setting = |path: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{path}")).unwrap();
    assert_eq!(setting("br0/accept_ra").trim(), "1");
    sandbox.lxm(&["network", "up"]).ok();
    assert_eq!(setting("all/forwarding").trim(), "1");
    assert_eq!(setting("br0/accept_ra").trim(), "2", "a host that forwards ignores advertisements at 1");
    ip("link del br0");
}
