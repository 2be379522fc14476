//! Claims about the network of real guests: first use, names, the outside, published ports, ssh,
//! and firewalls of others.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command};
use std::time::Duration;

use lxm::netserver;
use lxm::supervisor::Stage;
use lxm::types::Generation;

use crate::support::pace::generous;
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Need, Outcome, Sandbox, Trial, command, eventually};

const SOON: Duration = Duration::from_secs(10);

pub fn trials() -> Vec<Trial> {
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox);
    vec![
        busybox("network::the_first_use_needs_no_set_up", first_use),
        busybox("network::guests_find_each_other_by_name", neighbours),
        busybox("network::the_outside_is_reached_under_the_host_s_address", outside),
        busybox("network::a_guest_has_its_address_for_life", stable_address),
        busybox("network::a_static_address_stays_whatever_the_guest_s_client_does", static_address)
            .guest(Guest::Bookworm)
            .limit(120),
        busybox("network::a_reboot_that_waits_for_another_command_is_waited_for", slow_reboot).limit(120),
        busybox("network::published_ports_are_reached_from_everywhere", published),
        busybox("network::a_taken_port_is_refused_with_the_name_of_who_has_it", taken_ports),
        busybox("network::a_killed_supervisor_leaves_nothing_that_lasts", killed_supervisor),
        busybox("network::flushed_rules_are_back_within_a_second", flushed),
        busybox("network::a_killed_server_is_back_with_its_leases", killed_server),
        busybox("network::what_stands_in_the_way_is_told_with_a_remedy", findings),
        busybox("network::a_guest_is_reached_as_soon_as_it_has_its_address", acquainted),
        busybox("network::sixty_guests_start_at_once", sixty).limit(180),
        busybox("network::a_supervisor_that_dies_at_any_stage_leaves_no_link_and_no_port", dies_at_any_stage)
            .limit(180),
        busybox("network::a_killed_start_command_leaves_a_network_that_works", killed_start).limit(120),
        Trial::new("network::bridges_are_made_changed_and_removed", bridges),
        Trial::new("network::a_debian_guest_is_logged_in_to_by_ssh", login)
            .guest(Guest::Bookworm)
            .needs(Need::Tool("ssh"))
            .limit(120),
    ]
}

fn ip(args: &str) -> String {
    run_checked("ip", &args.split(' ').collect::<Vec<_>>())
}

/// Another machine, on a wire to this host: 192.0.2.9 and 2001:db8:1::9 on its end.
pub struct Outside(Child);

impl Outside {
    pub fn new() -> Self {
        let machine = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
        let outside = Outside(machine);
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        let pid = outside.0.id().to_string();
        eventually("it has a namespace", SOON, || namespace(&pid) != namespace("self"));
        ip(&format!("link add up0 type veth peer name eth0 netns {pid}"));
        for (enter, link, last) in [(false, "up0", 1), (true, "eth0", 9)] {
            let run = |args: &str| if enter { outside.run(&format!("ip {args}")).ok().stdout } else { ip(args) };
            run(&format!("address add 192.0.2.{last}/24 dev {link}"));
            run(&format!("address add 2001:db8:1::{last}/64 dev {link} nodad"));
            run(&format!("link set {link} up"));
            run("link set lo up");
        }
        outside
    }

    #[track_caller]
    pub fn run(&self, program: &str) -> Outcome {
        let mut enter = Command::new("nsenter");
        enter.args(["-t", &self.0.id().to_string(), "-n"]).args(program.split(' '));
        command::bounded(enter, b"", Duration::from_secs(20))
    }

    /// Does `work` there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_network_of(self.0.id() as i32, work)
    }
}

/// Does `work` in the network namespace of a process.
pub fn in_network_of<T: Send>(pid: i32, work: impl FnOnce() -> T + Send) -> T {
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    let enter = || nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    std::thread::scope(|scope| scope.spawn(|| (enter(), work()).1).join().unwrap())
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        eventually("the wire is gone", SOON, || !std::path::Path::new("/sys/class/net/up0").exists());
    }
}

/// A busybox guest on the default bridge, with further lines for its interface.
#[track_caller]
pub fn create(sandbox: &Sandbox, name: &str, lines: &str) {
    sandbox.lxm(&["create", name, "-t", "busybox", "--network", "lxmbr0"]).ok();
    let file = sandbox.layout().config_file(&name.parse().unwrap());
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("[network.eth0]\n", &format!("[network.eth0]\n{lines}\n"))).unwrap();
}

#[track_caller]
pub fn start(sandbox: &Sandbox, name: &str) -> String {
    sandbox.lxm(&["start", name, "--wait", "network", "--timeout", "600s"]).ok();
    address(sandbox, name)
}

#[track_caller]
fn address(sandbox: &Sandbox, name: &str) -> String {
    let mut address = String::new();
    eventually("it has an IPv4 address", SOON, || {
        address = sandbox.info(name, "ipv4")[0].as_str().unwrap_or_default().to_owned();
        !address.is_empty()
    });
    address
}

#[track_caller]
pub fn inside(sandbox: &Sandbox, name: &str, shell: &str) -> Outcome {
    sandbox.lxm(&["attach", name, "--", "sh", "-c", shell])
}

fn links() -> String {
    ip("-br link")
}

fn first_use(sandbox: &Sandbox) {
    create(sandbox, "web", "");
    let address = start(sandbox, "web");
    let shown = sandbox.lxm(&["network", "show", "--format", "json"]).ok().json();
    let bridge = &shown[0];
    assert_eq!(bridge["name"], "lxmbr0");
    let net: ipnetwork::Ipv4Network = bridge["ipv4"].as_str().unwrap().parse().unwrap();
    assert!(net.prefix() == 24 && net.contains(address.parse().unwrap()), "{address} in {net}");
    inside(sandbox, "web", &format!("ping -c 1 -W 2 {}", net.ip())).ok();
    inside(sandbox, "web", "ip route").ok().says(&format!("default via {}", net.ip()));
    let prefix: ipnetwork::Ipv6Network = bridge["ipv6"].as_str().unwrap().parse().unwrap();
    eventually("it has an IPv6 address of the bridge's network", SOON, || {
        sandbox.info("web", "ipv6")[0].as_str().is_some_and(|address| prefix.contains(address.parse().unwrap()))
    });
    let shown = sandbox.lxm(&["info", "web", "-i", "-H"]).ok().stdout;
    assert_eq!(shown.lines().next(), Some(address.as_str()));
    assert!(shown.lines().last().unwrap().starts_with("fe80:"), "link-local comes last: {shown}");
    sandbox.lxm(&["list", "-f"]).ok().says(&address).says("fe80:");
    sandbox.lxm(&["network", "show", "lxmbr0"]).ok().says(&address).says("Server:         running");
    sandbox.lxm(&["network", "down"]).fails(4).complains("lxm-web-eth0");
    sandbox.lxm(&["stop", "web"]).ok();
    assert!(!links().lines().any(|line| line.starts_with("lxm") && !line.starts_with("lxmbr0")), "{}", links());
}

fn neighbours(sandbox: &Sandbox) {
    for name in ["web", "db"] {
        create(sandbox, name, "");
    }
    let of_web = start(sandbox, "web");
    inside(sandbox, "web", "nslookup db.lxm").fails(1);
    let of_db = start(sandbox, "db");
    inside(sandbox, "web", "nslookup db.lxm").ok().says(&of_db);
    inside(sandbox, "web", "ping -c 1 -W 2 db.lxm").ok();
    inside(sandbox, "db", &format!("nslookup {of_web}")).ok().says("web.lxm");
    sandbox.lxm(&["stop", "db"]).ok();
    inside(sandbox, "web", "nslookup db.lxm").fails(1);
}

fn outside(sandbox: &Sandbox) {
    let outside = Outside::new();
    create(sandbox, "web", "");
    start(sandbox, "web");
    let leader = sandbox.leader("web");
    let seen = |at: &str| {
        let at: SocketAddr = at.parse().unwrap();
        let ear = outside.inside(|| UdpSocket::bind(at).unwrap());
        ear.set_read_timeout(Some(generous(SOON))).unwrap();
        let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        in_network_of(leader, || UdpSocket::bind(any).unwrap().send_to(b"word", at).unwrap());
        ear.recv_from(&mut [0; 16]).unwrap().1.ip()
    };
    assert_eq!(seen("192.0.2.9:7777"), "192.0.2.1".parse::<IpAddr>().unwrap(), "the host's address");
    inside(sandbox, "web", "ping -c 1 -W 2 192.0.2.9").ok();
    eventually("it reaches the outside by IPv6 too", SOON, || {
        inside(sandbox, "web", "ping -6 -c 1 -W 1 2001:db8:1::9").status == 0
    });
    assert_eq!(seen("[2001:db8:1::9]:7777"), "2001:db8:1::1".parse::<IpAddr>().unwrap(), "the host's address");
}

fn stable_address(sandbox: &Sandbox) {
    create(sandbox, "web", "");
    let (first, mac) = (start(sandbox, "web"), sandbox.info("web", "links")[0]["mac"].clone());
    for _ in 0..2 {
        sandbox.lxm(&["stop", "-k", "web"]).ok();
        assert_eq!(start(sandbox, "web"), first);
        assert_eq!(sandbox.info("web", "links")[0]["mac"], mac);
    }
    // A reservation is a line of its configuration.
    let net = first.rsplit_once('.').unwrap().0.to_owned();
    sandbox.lxm(&["config", "set", "web", "network.eth0.ipv4", &format!("{net}.200")]).ok();
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    assert_eq!(start(sandbox, "web"), format!("{net}.200"));
    // One that would come to nothing is refused, not forgotten.
    create(sandbox, "other", "");
    let file = sandbox.layout().config_file(&"other".parse().unwrap());
    let sane = std::fs::read_to_string(&file).unwrap();
    let (outside, bridges, of_web) = ("10.255.255.9".to_owned(), format!("{net}.1"), format!("{net}.200"));
    for (address, status, when_set, at_start) in [
        (&outside, 6, "is outside", "none of those of `lxmbr0`"),
        (&bridges, 6, "the bridge `lxmbr0` itself", "none of those of `lxmbr0`"),
        (&of_web, 4, "container `web` has the address", "the address of container `web`"),
    ] {
        let set = sandbox.lxm(&["config", "set", "other", "network.eth0.ipv4", address]);
        set.fails(status).complains(when_set);
        // Nor when it was written by hand, or web's came later.
        std::fs::write(&file, sane.replace("ipv4 = \"dhcp\"", &format!("ipv4 = \"{address}\""))).unwrap();
        sandbox.lxm(&["start", "other"]).fails(status).complains(at_start);
        std::fs::write(&file, &sane).unwrap();
    }
    for (address, says) in [("10.255.255.9/24", "is outside"), (bridges.as_str(), "itself"), (&of_web, "`web`")] {
        let with_prefix = if address.contains('/') { address.to_owned() } else { format!("{address}/24") };
        let set = sandbox.lxm(&["config", "set", "other", "network.eth0.ipv4", &with_prefix]);
        assert!(set.status != 0 && set.stderr.contains(says), "{set}");
    }
    assert_eq!(ip("-br link").lines().filter(|line| line.starts_with("lxm") && !line.starts_with("lxmbr0")).count(), 1);
    sandbox.lxm(&["config", "set", "other", "network.eth0.ipv4", &format!("{net}.201")]).ok();
    sandbox.lxm(&["start", "other"]).ok();
    assert_eq!(address(sandbox, "other"), format!("{net}.201"));
    sandbox.lxm(&["config", "set", "other", "network.eth0.ipv6", "fd00::9"]).fails(6).complains("leases are of IPv4");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("ipv6 = \"auto\"", "ipv6 = \"fd00::9\"")).unwrap();
    sandbox.lxm(&["restart", "other"]).fails(6).complains("leases are of IPv4 alone");
    sandbox.lxm(&["start", "other"]).fails(6).complains("leases are of IPv4 alone");
}

/// As when many reboot at once: the supervisor says nothing while it wires the guest.
fn slow_reboot(sandbox: &Sandbox) {
    create(sandbox, "web", "");
    start(sandbox, "web");
    let before = sandbox.leader("web");
    let held = lxm::store::FileLock::acquire(&sandbox.layout().network_run().join("nft.lock")).unwrap();
    let released = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Longer than a supervisor that is to kill may say nothing.
            std::thread::sleep(Duration::from_secs(12));
            released.store(true, std::sync::atomic::Ordering::Relaxed);
            drop(held);
        });
        sandbox.lxm_with(&["restart", "-k", "web"], b"", Duration::from_secs(60)).ok();
        assert!(released.load(std::sync::atomic::Ordering::Relaxed), "it had not to wait");
    });
    assert_ne!(sandbox.leader("web"), before);
    assert_eq!(sandbox.info("web", "state"), "running");
}

fn static_address(sandbox: &Sandbox) {
    // A bridge of the host's own, where nobody gives leases.
    ip("link add br0 type bridge");
    ip("address add 10.99.0.1/24 dev br0");
    ip("link set br0 up");
    let debian = ["-t", "debian", "-r", "bookworm"];
    for template in [&["-t", "busybox"][..], &debian] {
        sandbox.lxm(&[&["create", "web", "--network", "br0"], template].concat()).ok();
        for (key, value) in [("ipv4", "10.99.0.5/24"), ("gateway", "10.99.0.1")] {
            sandbox.lxm(&["config", "set", "web", &format!("network.eth0.{key}"), value]).ok();
        }
        sandbox.lxm(&["start", "web", "--wait", "booted"]).ok();
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(address(sandbox, "web"), "10.99.0.5", "{template:?}");
        run_checked("ping", &["-c", "1", "-W", "2", "10.99.0.5"]);
        let routes =
            in_network_of(sandbox.leader("web"), || std::fs::read_to_string("/proc/thread-self/net/route").unwrap());
        assert!(routes.contains("eth0\t00000000\t0100630A"), "{template:?}: {routes}");
        sandbox.lxm(&["destroy", "-f", "web"]).ok();
    }
    ip("link del br0");
}

/// Talks to a port as a client: what it answers to a line.
pub fn ask(to: &str) -> Option<String> {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3)).ok()?;
    stream.set_read_timeout(Some(generous(Duration::from_secs(3)))).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.contains("from-the-guest").then_some(answer)
}

fn published(sandbox: &Sandbox) {
    let outside = Outside::new();
    let ports =
        r#"publish = ["8080:80", "127.0.0.1:8081:80/tcp", "[::]:8082:80/tcp", "192.0.2.1:8083:80", "5353:53/udp"]"#;
    create(sandbox, "web", ports);
    start(sandbox, "web");
    // A child of theirs that is about to execute a program goes by their name for a moment, with all signals
    // blocked (posix_spawn(3)); what is deaf itself stays so.
    eventually("server, its keeper and the carrier hear signals", SOON, || {
        let (helpers, deaf) = helpers_and_deaf_ones();
        helpers.len() >= 3 && deaf.is_empty()
    });
    inside(sandbox, "web", "mkdir -p /www; echo from-the-guest > /www/index.html; httpd -h /www").ok();
    let service = in_network_of(sandbox.leader("web"), || UdpSocket::bind("[::]:53").unwrap());
    service.set_read_timeout(Some(generous(SOON))).unwrap();
    let gateway = sandbox.lxm(&["network", "show", "lxmbr0", "--format", "json"]).ok().json()["ipv4"].clone();
    let gateway = gateway.as_str().unwrap().split('/').next().unwrap().to_owned();
    eventually("both families are translated", SOON, || {
        run_checked("nft", &["list", "chain", "inet", "lxm", "prerouting"]).contains("dnat ip6 to")
    });
    for at in [
        "127.0.0.1:8080",
        "192.0.2.1:8080",
        "[::1]:8080",
        "[2001:db8:1::1]:8080",
        "127.0.0.1:8081",
        "[::1]:8082",
        "192.0.2.1:8083",
    ] {
        assert!(ask(at).is_some(), "from the host at {at}");
    }
    for at in ["192.0.2.1:8080", "[2001:db8:1::1]:8080", "[2001:db8:1::1]:8082", "192.0.2.1:8083"] {
        assert!(outside.inside(|| ask(at)).is_some(), "from outside at {at}");
    }
    for at in ["192.0.2.1:8081", "192.0.2.1:8082", "[2001:db8:1::1]:8083"] {
        assert!(outside.inside(|| ask(at)).is_none() && ask(at).is_none(), "not published at {at}");
    }
    inside(sandbox, "web", &format!("wget -qO- http://{gateway}:8080/")).ok().says("from-the-guest");
    let answered = |at: &str| {
        let at: SocketAddr = at.parse().unwrap();
        let client = UdpSocket::bind(if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
        client.set_read_timeout(Some(generous(SOON))).unwrap();
        client.send_to(b"question", at).unwrap();
        let (_, from) = service.recv_from(&mut [0; 16]).unwrap();
        service.send_to(b"answer", from).unwrap();
        let (_, by) = client.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(by, at, "the answer comes from where the question went");
        from.ip().to_canonical().to_string()
    };
    assert_eq!(answered("192.0.2.1:5353"), gateway, "the host speaks for its own programs");
    for at in ["127.0.0.1:5353", "127.0.0.2:5353", "[::1]:5353", "[2001:db8:1::1]:5353"] {
        answered(at);
    }
    // A guest asks any address of the host's, not only its gateway.
    let leader = sandbox.leader("web");
    for at in ["192.0.2.1:5353", &format!("{gateway}:5353"), "[2001:db8:1::1]:5353"] {
        in_network_of(leader, || answered(at));
    }
    assert_eq!(outside.inside(|| answered("192.0.2.1:5353")), "192.0.2.9", "the guest sees who asks from outside");
    sandbox.lxm(&["info", "web"]).ok().says("8080:80/tcp").says("5353:53/udp");
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    assert!(ask("127.0.0.1:8080").is_none());
    assert!(!run_checked("nft", &["list", "table", "inet", "lxm"]).contains("dnat ip"), "no rule of it is left");
    drop(TcpListener::bind("0.0.0.0:8080").expect("the port is free again"));
}

/// The network's own processes, and those that a SIGTERM would not reach (proc_pid_status(5)).
fn helpers_and_deaf_ones() -> (Vec<String>, Vec<String>) {
    let helper = |entry: std::fs::DirEntry| {
        let command = std::fs::read_to_string(entry.path().join("cmdline")).ok()?.replace('\0', " ");
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t"))?;
        let deaf = u64::from_str_radix(blocked, 16).unwrap() & 1 << (nix::libc::SIGTERM - 1) != 0;
        command.contains(" network ").then_some((command, deaf))
    };
    let all: Vec<_> = std::fs::read_dir("/proc").unwrap().filter_map(|entry| helper(entry.unwrap())).collect();
    let deaf = all.iter().filter(|(_, deaf)| *deaf).map(|(command, _)| command.clone()).collect();
    (all.into_iter().map(|(command, _)| command).collect(), deaf)
}

fn taken_ports(sandbox: &Sandbox) {
    create(sandbox, "web", r#"publish = ["8080:80", "5353:53/udp"]"#);
    create(sandbox, "db", r#"publish = ["8080:5432"]"#);
    for (bind_tcp, said) in [(true, "port 8080 of 0.0.0.0 is taken by `"), (false, "port 5353 of :: is taken by `")] {
        let held: Box<dyn std::any::Any> = match bind_tcp {
            true => Box::new(TcpListener::bind("127.0.0.1:8080").unwrap()),
            false => Box::new(UdpSocket::bind("[::1]:5353").unwrap()),
        };
        sandbox.lxm(&["start", "web"]).fails(4).complains(said);
        drop(held);
        assert!(!links().lines().any(|line| line.starts_with("lxm") && !line.starts_with("lxmbr0")), "{}", links());
    }
    sandbox.lxm(&["start", "web"]).ok();
    sandbox.lxm(&["start", "db"]).fails(4).complains("taken by container `web`");
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    sandbox.lxm(&["start", "db"]).ok();
}

fn killed_supervisor(sandbox: &Sandbox) {
    create(sandbox, "web", r#"publish = ["8080:80"]"#);
    let before = start(sandbox, "web");
    let supervisor = nix::unistd::Pid::from_raw(sandbox.supervisor("web"));
    nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("its port is free", SOON, || TcpListener::bind("0.0.0.0:8080").is_ok());
    assert!(!run_checked("nft", &["list", "table", "inet", "lxm"]).contains("dnat ip"));
    assert_eq!(start(sandbox, "web"), before);
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    assert!(!links().lines().any(|line| line.starts_with("lxm") && !line.starts_with("lxmbr0")), "{}", links());
}

fn tables() -> String {
    run_checked("nft", &["list", "tables"])
}

fn flushed(sandbox: &Sandbox) {
    create(sandbox, "web", r#"publish = ["8080:80"]"#);
    let address = start(sandbox, "web");
    inside(sandbox, "web", "mkdir -p /www; echo from-the-guest > /www/index.html; httpd -h /www").ok();
    eventually("it answers", SOON, || ask("127.0.0.1:8080").is_some());
    for command in ["flush ruleset", "delete table inet lxm", "delete table bridge lxm"] {
        run_checked("nft", &[command]);
        eventually("both tables are back", Duration::from_secs(1), || {
            tables().contains("inet lxm") && tables().contains("bridge lxm")
        });
        let translated = run_checked("nft", &["list", "chain", "inet", "lxm", "prerouting"]);
        assert!(translated.contains(&format!("dnat ip to {address}:80")), "{translated}");
        inside(sandbox, "web", "ping -c 1 -W 2 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p')").ok();
    }
}

/// Fails the trial while anything of a guest's is left on the host.
#[track_caller]
fn assert_unwired(what: &str) {
    let left = || {
        let mine = |line: &&str| line.starts_with("lxm") && !line.starts_with("lxmbr0");
        links().lines().filter(mine).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(left().is_empty(), "{what}: {:?}", left());
    assert!(!run_checked("nft", &["list", "table", "inet", "lxm"]).contains("dnat ip"), "{what}");
    drop(TcpListener::bind("0.0.0.0:8080").unwrap_or_else(|e| panic!("{what}: the port is not free: {e}")));
}

fn dies_at_any_stage(sandbox: &Sandbox) {
    create(sandbox, "web", "publish = [\"8080:80\"]\negress = \"1Gbit\"");
    let address = start(sandbox, "web");
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    for stage in Stage::ALL {
        let mut start_it = sandbox.command();
        start_it.args(["start", "web"]).env("LXM_DIE_AT", stage.name());
        let told = command::bounded(start_it, b"", Duration::from_secs(20));
        if stage == Stage::Ended {
            told.ok();
            drop(sandbox.lxm(&["stop", "-k", "web"]));
        } else {
            assert_ne!(told.status, 0, "{told}");
        }
        assert_eq!(start(sandbox, "web"), address, "after a death at `{}`", stage.name());
        sandbox.lxm(&["stop", "-k", "web"]).ok();
        assert_unwired(stage.name());
    }
}

fn killed_start(sandbox: &Sandbox) {
    create(sandbox, "web", r#"publish = ["8080:80"]"#);
    // The very first start makes the bridge: it is killed in the midst of that too.
    for moment in (0..12).map(|n| Duration::from_millis(n * 8)) {
        let mut killed = sandbox.command().args(["start", "web"]).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        killed.kill().unwrap();
        killed.wait().unwrap();
        let told = sandbox.lxm(&["start", "web", "--wait", "network"]);
        assert!([0, 4].contains(&told.status), "{told}");
        let address = address(sandbox, "web");
        inside(sandbox, "web", "nslookup web.lxm").ok().says(&address);
        sandbox.lxm(&["stop", "-k", "web"]).ok();
        assert_unwired(&format!("{moment:?}"));
    }
}

fn server(sandbox: &Sandbox) -> Option<Generation> {
    toml::from_str(&std::fs::read_to_string(sandbox.path("run/lxm/.network/lxmbr0/server.toml")).ok()?).ok()
}

fn killed_server(sandbox: &Sandbox) {
    let kill = |server: &Generation| {
        let pid = nix::unistd::Pid::from_raw(server.pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    };
    create(sandbox, "web", "");
    let address = start(sandbox, "web");
    for _ in 0..3 {
        let killed = server(sandbox).unwrap();
        kill(&killed);
        eventually("another serves", Duration::from_secs(2), || {
            server(sandbox) != Some(killed)
                && netserver::status(&sandbox.layout(), "lxmbr0").is_ok_and(|it| it.is_some())
        });
        inside(sandbox, "web", "nslookup web.lxm").ok().says(&address);
        let renewed =
            inside(sandbox, "web", "kill -USR1 $(cat /run/udhcpc.pid); sleep 0.3; ip -4 address show eth0").ok();
        assert!(renewed.stdout.contains(&address), "{renewed}");
    }
    // One that is killed while it is stopped stays away.
    kill(&server(sandbox).unwrap());
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    sandbox.lxm(&["network", "down"]).ok();
    std::thread::sleep(Duration::from_millis(400));
    assert!(!netserver::is_running(&sandbox.layout(), "lxmbr0").unwrap());
}

fn findings(sandbox: &Sandbox) {
    let found = || lxm::net::check(&sandbox.layout()).unwrap();
    assert!(found().is_empty(), "no bridge, no fault: {:?}", found());
    sandbox.lxm(&["network", "up"]).ok();
    assert!(found().is_empty(), "{:?}", found());
    let tells = |what: &str, remedy: &str| {
        let all = found();
        let told = all.iter().any(|finding| finding.what.contains(what) && finding.remedy.contains(remedy));
        assert!(told, "{what}: {all:?}");
    };
    run_checked("nft", &["add table inet mine"]);
    run_checked("nft", &["add chain inet mine forward { type filter hook forward priority filter; policy drop; }"]);
    tells("`inet mine forward` drops", "nft insert rule inet mine forward iifname \"lxmbr0\" accept");
    run_checked("nft", &["insert rule inet mine forward iifname \"lxmbr0\" accept"]);
    assert!(found().is_empty(), "the remedy helps: {:?}", found());
    run_checked("nft", &["delete table inet mine"]);
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    tells("`net.ipv4.ip_forward` is 0", "sysctl -w net.ipv4.ip_forward=1");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    ip("link add br0 type bridge");
    let net: ipnetwork::Ipv4Network =
        sandbox.lxm(&["network", "show", "lxmbr0", "--format", "json"]).ok().json()["ipv4"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
    ip("link set br0 up");
    ip(&format!("route add {}/25 dev br0", net.network()));
    tells("overlaps the network", "lxm network set lxmbr0 ipv4 auto");
    ip("link del br0");
    lxm::net::server::stop(&sandbox.layout(), "lxmbr0").unwrap();
    tells("no lease and name server", "lxm network up lxmbr0");
    sandbox.lxm(&["network", "up"]).ok();
    assert!(found().is_empty(), "{:?}", found());
}

fn sixty(sandbox: &Sandbox) {
    let names: Vec<String> = (0..60).map(|n| format!("g{n}")).collect();
    names.iter().for_each(|name| create(sandbox, name, ""));
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| sandbox.lxm(&["start", name, "--wait", "network"]).ok());
        }
    });
    let mut addresses: Vec<String> = names.iter().map(|name| address(sandbox, name)).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 60, "each has its own");
    // Sixty boots are still going on.
    eventually("one reaches another by its name", SOON, || inside(sandbox, "g0", "ping -c 1 -W 2 g59.lxm").status == 0);
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| sandbox.lxm(&["stop", "-k", name]).ok());
        }
    });
    assert!(!links().lines().any(|line| line.starts_with("lxm") && !line.starts_with("lxmbr0")), "{}", links());
}

fn acquainted(sandbox: &Sandbox) {
    // The bridge keeps its carrier, and so its neighbours, when the other guest stops.
    create(sandbox, "other", "");
    start(sandbox, "other");
    create(sandbox, "web", "");
    let address = start(sandbox, "web");
    let speak = || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"hello", (address.as_str(), 9)).unwrap();
    let known = || ip(&format!("neigh show to {address} dev lxmbr0"));
    speak();
    eventually("the host knows its station", SOON, || known().contains("lladdr"));
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    assert!(known().contains("lladdr"), "it is remembered: {}", known());
    // The kernel asks once, and not again while this trial runs.
    std::fs::write("/proc/sys/net/ipv4/neigh/lxmbr0/retrans_time_ms", "600000").unwrap();
    sandbox.lxm(&["start", "web"]).ok();
    assert!(!known().contains("lladdr"), "what it had before is forgotten: {}", known());
    // Before it has its address, unless this host is very busy: the kernel asks in vain.
    speak();
    eventually("it has its address", SOON, || {
        let shown = inside(sandbox, "web", "ip -4 addr show eth0");
        shown.stdout.contains(&address)
    });
    eventually("the host knows its station again", SOON, || known().contains("REACHABLE"));
}

fn bridges(sandbox: &Sandbox) {
    sandbox.lxm(&["network", "show", "nosuch"]).fails(3);
    sandbox.lxm(&["network", "up", "nosuch"]).fails(3);
    sandbox.lxm(&["network", "create", "a-name-that-is-too-long"]).fails(2);
    ip("link add lan0 type bridge");
    ip("link set lan0 up");
    ip("address add 192.0.2.1/24 dev lan0");
    for (subnet, status) in
        [("192.0.2.128/25", 4), ("127.0.0.0/8", 6), ("224.0.0.0/24", 6), ("0.0.0.0/0", 6), ("10.1.2.3", 6), ("x", 2)]
    {
        sandbox.lxm(&["network", "create", "lab", "--subnet", subnet]).fails(status);
        sandbox.lxm(&["network", "show", "lab"]).fails(3);
    }
    sandbox.lxm(&["network", "create", "lab", "--subnet", "10.77.0.0/24", "--no-nat"]).ok();
    sandbox.lxm(&["network", "create", "lab"]).fails(4);
    sandbox.lxm(&["network", "create", "quiet", "--no-dhcp", "--ipv6", "fd77::/64"]).ok();
    let shown = |name: &str| sandbox.lxm(&["network", "show", name, "--format", "json"]).ok().json();
    assert_eq!(shown("lab")["ipv4"], "10.77.0.1/24");
    assert_eq!(shown("lab")["nat"], false);
    assert_eq!(shown("quiet")["ipv6"], "fd77::1/64");
    assert_eq!(shown("quiet")["pool_size"], 0);
    let rules = || run_checked("nft", &["list", "table", "inet", "lxm"]);
    assert!(!rules().contains("ip saddr 10.77.0.0/24"));
    sandbox.lxm(&["network", "set", "lab", "nat", "true"]).ok();
    assert!(rules().contains("ip saddr 10.77.0.0/24"), "at once");
    sandbox.lxm(&["network", "set", "lab", "ipv4", "10.78.0.1/24"]).ok();
    let addresses = ip("-br address show lab");
    assert!(addresses.contains("10.78.0.1/24") && !addresses.contains("10.77.0.1"), "{addresses}");
    for (key, value, status) in [
        ("colour", "red", 2),
        ("ipv4", "x", 2),
        ("ipv4", "192.0.2.0/24", 4),
        ("ipv4", "10.78.0.255/24", 6),
        ("range", "10.9.9.1-10.9.9.2", 6),
        ("mtu", "much", 2),
        ("mtu", "20", 6),
        ("route", "10.9.0.0/16 via 10.9.9.1", 6),
    ] {
        sandbox.lxm(&["network", "set", "lab", key, value]).fails(status);
        assert_eq!((&shown("lab")["ipv4"], &shown("lab")["serving"]), (&"10.78.0.1/24".into(), &true.into()));
    }
    sandbox.lxm(&["network", "set", "lab", "ipv4", "10.79.0.0/24"]).ok();
    assert_eq!(shown("lab")["ipv4"], "10.79.0.1/24", "the first address is the bridge's");
    sandbox.lxm(&["create", "web", "-t", "busybox", "--network", "lab"]).ok();
    assert!(start(sandbox, "web").starts_with("10.79.0."));
    sandbox.lxm(&["network", "set", "lab", "ipv4", "10.78.0.1/24"]).ok().complains("`lxm restart web`");
    sandbox.lxm(&["restart", "web"]).ok();
    assert!(address(sandbox, "web").starts_with("10.78.0."), "as it was told");
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    ip("link del lan0");
    sandbox.lxm(&["network", "down", "lab"]).ok();
    assert_eq!(shown("lab")["up"], false);
    assert_eq!(shown("lab")["ipv4"], "10.78.0.1/24", "settings stay");
    for name in ["lab", "quiet"] {
        sandbox.lxm(&["network", "delete", name]).ok();
    }
    assert!(!tables().contains("lxm"), "{}", tables());
    assert!(!links().contains("lab") && !links().contains("quiet"), "{}", links());
}

fn login(sandbox: &Sandbox) {
    let key = sandbox.path("id_ed25519");
    let key = key.to_str().unwrap();
    run_checked("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key]);
    sandbox.lxm(&["create", "web", "-t", "debian", "-r", "bookworm", "--ssh-key", &format!("{key}.pub")]).ok();
    sandbox.lxm(&["ssh", "web"]).fails(4).complains("is not running");
    sandbox.lxm(&["start", "web"]).ok();
    // At once: it waits for the guest's sshd itself.
    sandbox.lxm(&["ssh", "web", "-i", key, "--", "id", "-un"]).ok().says("debian");
    sandbox.lxm(&["ssh", "web", "-i", key, "--", "exit", "7"]).fails(7);
    sandbox.lxm(&["ssh-config", "--install"]).ok();
    let config = sandbox.path("etc/ssh/ssh_config.d/50-lxm.conf");
    let ssh = |user: &str| {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", config.to_str().unwrap(), "-o", "BatchMode=yes", "-i", key, user, "hostname"]);
        ssh.env("LXM_ROOT", sandbox.root());
        command::bounded(ssh, b"", SOON)
    };
    ssh("debian@web.lxm").ok().says("web");
    // Other keys than those in the guest's files are not taken for it.
    sandbox.lxm(&["attach", "web", "--", "sh", "-c", "cd /etc/ssh && rm *_key.pub && ssh-keygen -q -t rsa -N '' -f x && for k in ed25519 ecdsa; do cp x.pub ssh_host_${k}_key.pub; done"]).ok();
    let refused = ssh("debian@web.lxm");
    assert_eq!(refused.status, 255, "{refused}");
    refused.complains("Host key verification failed");
    sandbox.lxm(&["restart", "web"]).ok();
    sandbox.lxm(&["stop", "web"]).ok();
    sandbox.lxm(&["start", "web", "--wait", "ssh"]).ok();
    let at = sandbox.info("web", "ipv4")[0].as_str().expect("an address by then").to_owned();
    let mut greeting = [0; 4];
    let mut stream = TcpStream::connect((at.as_str(), 22)).unwrap();
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"SSH-", "the whole host reaches it");
    // Who has no key and gives no password gets in with the host's own.
    sandbox.lxm(&["destroy", "-f", "web"]).ok();
    let made = sandbox.lxm(&["create", "own", "-t", "debian", "-r", "bookworm"]).ok();
    made.complains("`lxm ssh own` logs in as `debian`");
    sandbox.lxm(&["start", "own"]).ok();
    sandbox.lxm(&["ssh", "own", "-o", "BatchMode=yes", "--", "id", "-un"]).ok().says("debian");
    sandbox.lxm(&["ssh", "own", "-u", "debian", "-o", "BatchMode=yes", "--", "id", "-un"]).ok().says("debian");
    // One whom the key does not let in gets no such key forced on him: ssh tries his own.
    let own = |user: &str| lxm::ops::ssh::login(&sandbox.layout(), &"own".parse().unwrap(), Some(user.into())).unwrap();
    assert!(own("debian").identity.is_some() && own("root").identity.is_none());
    assert_eq!(std::fs::read_dir(sandbox.path("etc/lxm")).unwrap().count(), 2, "the key and the bridges, no scratch");
}
