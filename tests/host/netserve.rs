//! Claims about the lease and name server, with real clients in network namespaces of their own.

use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record};
use lxm::netserver::{self, GuestEntry, GuestStatus};
use lxm::types::Mac;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::pace::{Clock, generous};
use crate::support::sandbox::run_checked;
use crate::support::{Need, Outcome, Sandbox, Trial, command, eventually};

const BRIDGE: &str = "lxmbr0";
const GATEWAY: &str = "10.77.3.1";
const SOON: Duration = Duration::from_secs(5);

pub fn trials() -> Vec<Trial> {
    let dig = |name, body: fn(&Sandbox)| Trial::new(name, body).needs(Need::Tool("dig")).needs(Need::Tool("udhcpc"));
    vec![
        Trial::new("netserve::udhcpc_gets_a_lease_and_renews_it", udhcpc).needs(Need::Tool("udhcpc")),
        Trial::new("netserve::dhclient_gets_a_lease_and_renews_it", dhclient).needs(Need::Tool("dhclient")),
        Trial::new("netserve::dhcpcd_gets_a_lease_and_renews_it", dhcpcd).needs(Need::Tool("dhcpcd")),
        Trial::new("netserve::networkd_gets_a_lease_and_renews_it", networkd).needs(Need::Tool("systemd-run")),
        Trial::new("netserve::a_lease_that_is_given_back_has_ended", released).needs(Need::Tool("udhcpc")),
        Trial::new("netserve::a_client_with_an_address_of_its_own_is_informed", informed).needs(Need::Tool("dhcpcd")),
        Trial::new("netserve::a_client_is_told_of_routes_mtu_domain_and_time", told).needs(Need::Tool("udhcpc")),
        Trial::new("netserve::a_client_from_another_network_is_refused_at_once", stranger)
            .needs(Need::Tool("dhclient")),
        dig("netserve::names_appear_with_the_lease_and_go_with_the_guest", names_come_and_go),
        dig("netserve::names_of_others_are_asked_from_the_hosts_servers", names_of_others),
        dig("netserve::a_taken_port_53_is_told_of_and_leases_are_given", taken_port),
        dig("netserve::an_address_in_use_is_not_given_away", used_address),
        Trial::new("netserve::a_killed_server_has_lost_no_lease", killed_server).needs(Need::Tool("udhcpc")),
        Trial::new("netserve::a_server_whose_keeper_was_killed_gives_leases", killed_keeper)
            .needs(Need::Tool("udhcpc")),
        Trial::new("netserve::a_full_pool_is_told_of_in_words", full_pool).needs(Need::Tool("udhcpc")),
        dig("netserve::hostile_packets_change_nothing", hostile_packets),
        dig("netserve::guests_get_an_ipv6_address_route_and_name", ipv6),
        Trial::new("netserve::a_hundred_leases_a_second_are_given", load).needs(Need::Tool("perfdhcp")),
        Trial::new("netserve::a_spawned_server_outlives_its_spawner_until_it_is_stopped", spawned),
        Trial::new("netserve::the_server_has_no_rights_and_ends_with_its_bridge", rights_and_end),
    ]
}

/// A bridge with a server, and network namespaces as guests.
struct Lab<'a> {
    sandbox: &'a Sandbox,
    server: Option<Child>,
    guests: Vec<u8>,
}

impl<'a> Lab<'a> {
    /// `settings` are further lines of the bridge's table.
    fn new(sandbox: &'a Sandbox, settings: &str) -> Self {
        Lab::with_subnet(sandbox, "10.77.3.1/24", settings)
    }

    fn with_subnet(sandbox: &'a Sandbox, subnet: &str, settings: &str) -> Self {
        // The names of network namespaces are files of the machine's /run, which trials share.
        run_checked("sh", &["-c", "mkdir -p /run/netns && mount -t tmpfs none /run/netns"]);
        ip(&format!("link add {BRIDGE} type bridge"));
        fs::write(format!("/proc/sys/net/ipv6/conf/{BRIDGE}/accept_dad"), "0").unwrap();
        ip(&format!("address add {subnet} dev {BRIDGE}"));
        ip(&format!("address add fd77:1::1/64 dev {BRIDGE} nodad"));
        ip(&format!("link set {BRIDGE} up"));
        let file = format!("[bridge.{BRIDGE}]\nipv4 = \"{subnet}\"\nipv6 = \"fd77:1::1/64\"\n{settings}\n");
        fs::create_dir_all(sandbox.path("etc/lxm")).unwrap();
        fs::write(sandbox.path("etc/lxm/network.toml"), file).unwrap();
        let mut lab = Lab { sandbox, server: None, guests: Vec::new() };
        lab.start();
        lab
    }

    /// Starts the server and waits until it serves.
    fn start(&mut self) {
        let mut server = self.sandbox.command();
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let manager = self.sandbox.path("notify");
        fs::remove_file(&manager).ok();
        let notified = UnixDatagram::bind(&manager).unwrap();
        // As systemd's is: the server has given up root before it tells.
        run_checked("chmod", &["777", manager.to_str().unwrap()]);
        notified.set_read_timeout(Some(generous(SOON))).unwrap();
        server.args(["network", "serve", BRIDGE]).env("NOTIFY_SOCKET", &manager).stdout(Stdio::null()).stderr(log);
        self.server = Some(server.spawn().unwrap());
        let mut message = [0; 64];
        let length = notified.recv(&mut message).expect("the server tells that it serves");
        assert_eq!(&message[..length], b"READY=1");
    }

    fn pid(&self) -> i32 {
        self.server.as_ref().unwrap().id() as i32
    }

    /// Ends the server with a signal; answers its exit status.
    fn end(&mut self, signal: Signal) -> i32 {
        let mut server = self.server.take().unwrap();
        kill(Pid::from_raw(server.id() as i32), signal).unwrap();
        command::status_of(command::wait(&mut server, SOON).expect("the server ends"))
    }

    fn log_file(&self) -> PathBuf {
        self.sandbox.path("server.log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap()
    }

    fn status(&self) -> netserver::Status {
        netserver::status(&self.sandbox.layout(), BRIDGE).unwrap().expect("the server runs")
    }

    fn guest_status(&self, n: u8) -> Option<GuestStatus> {
        self.status().guests.into_iter().find(|guest| guest.mac == mac(n))
    }

    fn expiry(&self, n: u8) -> Option<u64> {
        self.guest_status(n)?.expires
    }

    #[track_caller]
    fn leased(&self, n: u8) -> Ipv4Addr {
        self.guest_status(n).expect("the guest is known").leased.expect("it has a lease")
    }

    /// Makes a network namespace with `eth0` on the bridge.
    fn guest(&mut self, n: u8) {
        ip(&format!("netns add g{n}"));
        ip(&format!("-n g{n} link set lo up"));
        ip(&format!("link add v{n} type veth peer name eth0 netns g{n} address {}", mac(n)));
        ip(&format!("link set v{n} master {BRIDGE} up"));
        ip(&format!("-n g{n} link set eth0 up"));
        self.guests.push(n);
    }

    /// A guest that the server knows by the name `guest-N`.
    fn known_guest(&mut self, n: u8) {
        self.announce(n, None);
        self.guest(n);
    }

    fn announce(&self, n: u8, reserved: Option<Ipv4Addr>) {
        let name = format!("guest-{n}").parse().unwrap();
        let entry = GuestEntry { name, mac: mac(n), reserved, addresses: Vec::new() };
        netserver::announce(&self.sandbox.layout(), BRIDGE, &entry).unwrap();
    }

    fn retract(&self, n: u8) {
        netserver::retract(&self.sandbox.layout(), BRIDGE, mac(n)).unwrap();
    }

    /// A command to be run in a guest, in a mount namespace of its own.
    fn inside(&self, n: u8, script: &str) -> Command {
        let mut command = Command::new("ip");
        self.sandbox.environment(&mut command);
        command.args(["netns", "exec", &format!("g{n}"), "unshare", "-m", "sh", "-euc", script]);
        command
    }

    #[track_caller]
    fn run(&self, n: u8, script: &str) -> Outcome {
        command::bounded(self.inside(n, script), b"", Duration::from_secs(20))
    }

    /// Gets a lease by udhcpc and sets it; answers the address, if it got one.
    fn lease(&self, n: u8) -> Option<Ipv4Addr> {
        self.lease_text(n)?.split(' ').next()?.parse().ok()
    }

    /// The same; answers with `ADDRESS dns=… domain=… hostname=…`.
    fn lease_text(&self, n: u8) -> Option<String> {
        let hook = self.sandbox.path("hook");
        let text = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip address flush dev eth0 scope global to 10.0.0.0/8\n\
                    ip address add $ip/$mask dev eth0\nip route replace default via $router\n\
                    echo \"given $ip dns=$dns domain=$domain hostname=$hostname\"\n";
        fs::write(&hook, text).unwrap();
        run_checked("chmod", &["+x", hook.to_str().unwrap()]);
        let outcome = self.run(n, &format!("udhcpc -i eth0 -n -q -f -t 4 -T 1 -s {} || true", hook.display()));
        outcome.stdout.lines().find_map(|line| line.strip_prefix("given ")).map(str::to_owned)
    }

    /// What a name server says to dig, one record a line.
    #[track_caller]
    fn dig(&self, n: u8, question: &str) -> Vec<String> {
        let outcome = self.run(n, &format!("dig +short +tries=2 +time=3 {question}")).ok();
        outcome.stdout.lines().map(str::to_owned).collect()
    }

    fn lookup(&self, n: u8, name: &str) -> Vec<String> {
        self.dig(n, &format!("@{GATEWAY} {name}"))
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server said\n{}", self.log());
        }
        if self.server.is_some() {
            self.end(Signal::SIGTERM);
        }
        for n in &self.guests {
            for pid in run_checked("ip", &["netns", "pids", &format!("g{n}")]).lines() {
                kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).ok();
            }
            Command::new("ip").args(["netns", "delete", &format!("g{n}")]).status().ok();
        }
        Command::new("ip").args(["link", "delete", BRIDGE]).status().ok();
        // The bridge's rules, which come with its server.
        for table in ["inet", "bridge"] {
            Command::new("nft").args(["delete", "table", table, "lxm"]).stderr(Stdio::null()).status().ok();
        }
        // The namespaces' links go in the background.
        eventually("the links go", SOON, || !run_checked("ip", &["link"]).contains(" v"));
        // `ip` has mounted the directory on itself.
        while Command::new("umount").args(["-l", "/run/netns"]).stderr(Stdio::null()).status().unwrap().success() {}
    }
}

#[track_caller]
fn ip(args: &str) {
    run_checked("ip", &args.split(' ').collect::<Vec<_>>());
}

fn mac(n: u8) -> Mac {
    Mac([0x10, 0x66, 0x6a, 0, 0, n])
}

/// Does `work` on a thread of the test inside a guest's network namespace.
fn in_guest<T: Send + 'static>(n: u8, work: impl FnOnce() -> T + Send + 'static) -> T {
    let enter = move || {
        let namespace = File::open(format!("/run/netns/g{n}")).unwrap();
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    std::thread::spawn(enter).join().expect("the work in the guest is done")
}

/// Runs a client in a guest until it has had its lease renewed, `renew` being how it is told to.
fn renews(sandbox: &Sandbox, script: &str, renew: Option<Signal>) {
    let mut lab = Lab::new(sandbox, "lease-time = \"20s\"");
    lab.known_guest(1);
    let mut client = lab.inside(1, script);
    let mut client = client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("it has a lease", Duration::from_secs(15), || lab.expiry(1).is_some());
    let (first, address) = (lab.expiry(1), lab.leased(1));
    if let Some(signal) = renew {
        // Later, so that the new lease ends later.
        std::thread::sleep(Duration::from_millis(1100));
        kill(Pid::from_raw(client.id() as i32), signal).unwrap();
    }
    eventually("it has renewed it", Duration::from_secs(25), || lab.expiry(1) > first);
    assert_eq!(lab.leased(1), address);
    kill(Pid::from_raw(client.id() as i32), Signal::SIGKILL).unwrap();
    client.wait().unwrap();
}

fn udhcpc(sandbox: &Sandbox) {
    renews(sandbox, "exec udhcpc -i eth0 -f -s /bin/true", Some(Signal::SIGUSR1));
}

fn dhclient(sandbox: &Sandbox) {
    let script = "mount -t tmpfs none /var/lib/dhcp; mount -t tmpfs none /run
        printf '#!/bin/sh\\n[ -z \"$new_ip_address\" ] || ip address replace $new_ip_address/24 dev eth0\\n' > /run/hook
        chmod +x /run/hook
        exec dhclient -d -4 -sf /run/hook -pf /run/pid -lf /run/leases eth0";
    renews(sandbox, script, None);
}

fn dhcpcd(sandbox: &Sandbox) {
    let script = "mount -t tmpfs none /run; mkdir -p /var/lib/dhcpcd; mount -t tmpfs none /var/lib/dhcpcd
        exec dhcpcd -B -4 -c /bin/true eth0";
    renews(sandbox, script, None);
}

fn networkd(sandbox: &Sandbox) {
    let script = "mount -t tmpfs none /run; mkdir -p /run/systemd/network /run/systemd/netif
        chown -R systemd-network /run/systemd/netif
        printf '[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\n' > /run/systemd/network/10-eth0.network
        mount -o remount,bind,ro /sys
        container=lxm exec /usr/lib/systemd/systemd-networkd";
    renews(sandbox, script, None);
}

fn released(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "");
    lab.known_guest(1);
    let hook = sandbox.path("hook");
    fs::write(&hook, "#!/bin/sh\n[ \"$1\" != bound ] || ip address replace $ip/$mask dev eth0\n").unwrap();
    run_checked("chmod", &["+x", hook.to_str().unwrap()]);
    let mut client = lab.inside(1, &format!("exec udhcpc -i eth0 -f -R -s {}", hook.display()));
    let mut client = client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Both know of it.
    let shown = || run_checked("ip", &["-n", "g1", "-4", "address", "show", "eth0"]);
    let has_lease = || shown().contains("inet ") && lab.expiry(1).is_some();
    eventually("it has a lease", Duration::from_secs(15), has_lease);
    let address = lab.leased(1);
    kill(Pid::from_raw(client.id() as i32), Signal::SIGTERM).unwrap();
    client.wait().unwrap();
    eventually("it has given it back", SOON, || lab.guest_status(1).is_some_and(|guest| guest.leased.is_none()));
    // It is its own all the same.
    assert_eq!(lab.lease(1), Some(address));
}

fn informed(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "domain = \"lab.lxm\"");
    lab.known_guest(1);
    let script = "mount -t tmpfs none /run; mkdir -p /var/lib/dhcpcd; mount -t tmpfs none /var/lib/dhcpcd
        printf '#!/bin/sh\nenv\n' > /run/hook; chmod +x /run/hook
        ip address add 10.77.3.200/24 dev eth0
        exec timeout 15 dhcpcd -B -4 -1 -d -c /run/hook --inform=10.77.3.200/24 eth0 2>&1";
    let told = lab.run(1, script);
    // The options that everybody gets, and no lease.
    assert!(told.stdout.contains("new_domain_name=lab.lxm"), "{told}");
    assert!(!told.stdout.contains("new_dhcp_lease_time="), "{told}");
    assert_eq!(lab.guest_status(1).and_then(|guest| guest.leased), None);
}

fn told(sandbox: &Sandbox) {
    let settings =
        "route = [\"192.168.9.0/25 via 10.77.3.7\"]\nntp = [\"10.77.3.2\"]\nmtu = 1400\ndomain = \"lab.lxm\"";
    let mut lab = Lab::new(sandbox, settings);
    lab.known_guest(1);
    let hook = sandbox.path("tell");
    fs::write(&hook, "#!/bin/sh\n[ \"$1\" = bound ] && env\n").unwrap();
    run_checked("chmod", &["+x", hook.to_str().unwrap()]);
    let asked = "-O staticroutes -O ntpsrv -O mtu -O domain -O broadcast -O lease";
    let told = lab.run(1, &format!("udhcpc -i eth0 -n -q -f -t 4 -T 1 {asked} -s {} || true", hook.display())).ok();
    for fact in [
        "staticroutes=0.0.0.0/0 10.77.3.1 192.168.9.0/25 10.77.3.7",
        "ntpsrv=10.77.3.2",
        "mtu=1400",
        "domain=lab.lxm",
        "dns=10.77.3.1",
        "hostname=guest-1",
        "broadcast=10.77.3.255",
        "lease=3600",
    ] {
        assert!(told.stdout.lines().any(|line| line == fact), "{fact}: {told}");
    }
}

fn stranger(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "");
    lab.known_guest(1);
    // It comes back with an address of the network that it was in before (RFC 2131, INIT-REBOOT).
    let lease = "lease { interface \"eth0\"; fixed-address 10.99.0.5; option subnet-mask 255.255.255.0; \
                 option dhcp-server-identifier 10.99.0.1; renew 4 2037/01/01 00:00:00; \
                 rebind 4 2037/01/02 00:00:00; expire 4 2037/01/03 00:00:00; }";
    let script = format!(
        "mount -t tmpfs none /var/lib/dhcp; mount -t tmpfs none /run
         echo '{lease}' > /run/leases
         dhclient -1 -v -4 -sf /bin/true -pf /run/pid -lf /run/leases eth0 2>&1
         for n in $(seq 100); do [ -s /run/pid ] && break; sleep 0.1; done; kill $(cat /run/pid)"
    );
    // Its child writes the file after the parent has ended.
    let told = lab.run(1, &script).ok();
    assert!(
        told.stdout.contains("DHCPREQUEST for 10.99.0.5") && told.stdout.contains("DHCPNAK from 10.77.3.1"),
        "{told}"
    );
    assert!(told.stdout.contains("bound to 10.77.3."), "{told}");
    assert!(told.took < SOON, "{told}");
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

fn used_address(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "range = \"10.77.3.10-10.77.3.12\"");
    // Two of three are used by one that never asked.
    lab.guest(9);
    run_checked("ip", &["-n", "g9", "address", "add", "10.77.3.10/24", "dev", "eth0"]);
    run_checked("ip", &["-n", "g9", "address", "add", "10.77.3.11/24", "dev", "eth0"]);
    for n in 1..=4 {
        lab.guest(n);
    }
    let given: Vec<_> = (1..=4).filter_map(|n| lab.lease(n)).collect();
    assert_eq!(given, [Ipv4Addr::new(10, 77, 3, 12)]);
    assert!(lab.log().contains("is used by 10:66:6a:00:00:09 without a lease"), "{}", lab.log());
}

fn killed_server(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "");
    (1..=8).for_each(|n| lab.known_guest(n));
    let given: Vec<_> = (1..=8).map(|n| lab.lease(n).unwrap()).collect();
    for _ in 0..3 {
        lab.end(Signal::SIGKILL);
        lab.start();
        let kept: Vec<_> = (1..=8).map(|n| lab.leased(n)).collect();
        assert_eq!(kept, given);
    }
    // Newcomers get none of them, and the owners get theirs again.
    (11..=18).for_each(|n| lab.known_guest(n));
    assert!((11..=18).all(|n| !given.contains(&lab.lease(n).unwrap())));
    assert_eq!((1..=8).map(|n| lab.lease(n).unwrap()).collect::<Vec<_>>(), given);
    // Even a torn and scribbled-on file costs no more than the torn line.
    lab.end(Signal::SIGKILL);
    let file = sandbox.path("var/lib/lxm/.network").join(BRIDGE).join("leases");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}nonsense\n\u{0}\u{0}\n17954 10:66")).unwrap();
    lab.start();
    assert_eq!((1..=8).map(|n| lab.leased(n)).collect::<Vec<_>>(), given);
}

fn killed_keeper(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "range = \"10.77.3.10-10.77.3.11\"");
    (1..=3).for_each(|n| lab.known_guest(n));
    let kill_keeper = |pid: i32| {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        kill(Pid::from_raw(children.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    };
    kill_keeper(lab.pid());
    let first = lab.lease(1).unwrap();
    lab.lease(2).unwrap();
    // An address that changes hands, which the keeper would have been told of.
    lab.retract(1);
    eventually("the guest is gone", SOON, || lab.status().guests.len() == 2);
    assert_eq!(lab.lease(3), Some(first));
    lab.end(Signal::SIGKILL);
    lab.start();
    assert_eq!(lab.leased(3), first, "it is on file");
    kill_keeper(lab.pid());
    assert_eq!(lab.end(Signal::SIGTERM), 0);
}

fn full_pool(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "range = \"10.77.3.10-10.77.3.11\"");
    (1..=3).for_each(|n| lab.known_guest(n));
    let first = lab.lease(1).unwrap();
    lab.lease(2).unwrap();
    assert_eq!(lab.lease(3), None);
    let words = "no free address on `lxmbr0` for `guest-3`: all from 10.77.3.10 to 10.77.3.11 are taken";
    eventually("the status tells", SOON, || lab.status().exhausted.is_some_and(|text| text.starts_with(words)));
    assert!(lab.log().contains(words), "{}", lab.log());
    // A guest that stops makes room at once, its lease time or not.
    lab.retract(1);
    eventually("the guest is gone", SOON, || lab.status().guests.len() == 2);
    assert_eq!(lab.lease(3), Some(first));
    eventually("the status no longer tells", SOON, || lab.status().exhausted.is_none());
}

/// Numbers that differ, the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as u8
    }
}

fn hostile_packets(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "upstream = [\"127.0.0.9\"]");
    lab.known_guest(1);
    lab.known_guest(2);
    let address = lab.lease(1).unwrap();
    lab.lease(2).unwrap();
    in_guest(2, || {
        let mut noise = Noise(7);
        let socket = UdpSocket::bind("0.0.0.0:68").unwrap();
        socket.set_broadcast(true).unwrap();
        // A whole request of a stranger, then the same cut, changed and followed by noise.
        let mut request = vec![1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0];
        request.resize(28, 0);
        request.extend([0x10, 0x66, 0x6a, 0, 0, 2]);
        request.resize(236, 0);
        request.extend([99, 130, 83, 99, 53, 1, 1, 12, 4, b'e', b'v', b'i', b'l', 52, 1, 3, 81, 3, 0, 0, 0, 255]);
        let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07guest-1\x03lxm\x00\x00\x01\x00\x01";
        let servers: [(Vec<u8>, &str); 2] = [(request, "255.255.255.255:67"), (query.to_vec(), "10.77.3.1:53")];
        for round in 0..6000usize {
            let (whole, server) = &servers[round % 2];
            let mut packet = whole.clone();
            match noise.next() % 4 {
                0 => packet.truncate(round % whole.len()),
                1 => (0..40).for_each(|_| packet.push(noise.next())),
                2 => packet = (0..round % 600).map(|_| noise.next()).collect(),
                _ => {}
            }
            for _ in 0..noise.next() % 8 {
                let at = usize::from(noise.next()) * 2 % packet.len().max(1);
                let byte = noise.next();
                packet.get_mut(at).into_iter().for_each(|slot| *slot = byte);
            }
            socket.send_to(&packet, server.parse::<SocketAddr>().unwrap()).ok();
        }
    });
    assert_eq!(lab.lookup(1, "guest-1.lxm"), [address.to_string()]);
    assert_eq!(lab.lease(1), Some(address));
    assert!(lab.status().leased <= 2, "a guest took leases in the name of others: {:?}", lab.status());
    let resident = fs::read_to_string(format!("/proc/{}/status", lab.pid())).unwrap();
    let pages = resident.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim();
    let kib: u64 = pages.trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 << 10, "the server has grown to {pages}");
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

fn load(sandbox: &Sandbox) {
    let mut lab = Lab::with_subnet(sandbox, "10.64.0.1/16", "");
    ip("netns add g1");
    ip("link add v1 type veth peer name eth0 netns g1");
    ip(&format!("link set v1 master {BRIDGE} up"));
    ip("-n g1 address add 10.64.255.250/16 dev eth0");
    ip("-n g1 link set eth0 up");
    lab.guests.push(1);
    let outcome = lab.run(1, "perfdhcp -4 -r 100 -R 250 -p 3 -W 1000000 -l eth0 10.64.0.1 || true");
    let drops: Vec<f64> = outcome
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("drops ratio: ")?.trim_end_matches(" %").trim().parse().ok())
        .collect();
    assert!(drops.len() >= 2 && drops.iter().all(|ratio| *ratio < 2.0), "{outcome}");
    let file = fs::read_to_string(sandbox.path("var/lib/lxm/.network").join(BRIDGE).join("leases")).unwrap();
    assert!(file.lines().count() >= 200, "{outcome}");
}

fn spawned(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "");
    lab.end(Signal::SIGTERM);
    let layout = sandbox.layout();
    let mut command = sandbox.command();
    // From within the cgroup of somebody whose end is not the server's.
    command.args(["network", "serve", BRIDGE, "--spawned"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = command.spawn().unwrap();
    let mut told = String::new();
    server.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told, "ready\n");
    assert!(netserver::is_running(&layout, BRIDGE).unwrap());
    let group = fs::read_to_string(format!("/proc/{}/cgroup", server.id())).unwrap();
    assert!(group.lines().any(|line| line.ends_with("/.network")), "{group}");
    lxm::net::server::stop(&layout, BRIDGE).unwrap();
    assert!(command::wait(&mut server, SOON).expect("the server ends").success());
    lxm::net::server::stop(&layout, BRIDGE).unwrap();
    // One that cannot serve tells its spawner why, whole.
    ip(&format!("link delete {BRIDGE}"));
    let outcome = sandbox.lxm(&["network", "serve", BRIDGE, "--spawned"]).fails(1);
    let error: lxm::error::Error = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(error.to_string(), "listen on bridge `lxmbr0`: No such device");
    // It has left its group, which an empty one does not keep.
    lxm::net::server::stop(&layout, BRIDGE).unwrap();
}

fn rights_and_end(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "");
    let status = fs::read_to_string(format!("/proc/{}/status", lab.pid())).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert!(!field("Uid:").split_whitespace().any(|uid| uid == "0"), "{status}");
    let bind_low_ports = 1u64 << 10;
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), bind_low_ports, "{set}");
    }
    assert_eq!((field("NoNewPrivs:"), field("Threads:")), ("1".into(), "1".into()));
    // A second one says that it is not needed.
    let second = sandbox.lxm(&["network", "serve", BRIDGE]).fails(4);
    assert!(second.stderr.contains("bridge `lxmbr0` has a lease server already"), "{second}");
    sandbox.lxm(&["network", "serve", "br9"]).fails(3);
    ip(&format!("link delete {BRIDGE}"));
    let mut server = lab.server.take().unwrap();
    let ended = command::wait(&mut server, SOON).expect("the server ends with its bridge");
    assert!(ended.success());
    assert!(lab.log().contains("bridge `lxmbr0` is gone"), "{}", lab.log());
}
