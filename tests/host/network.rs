//! Claims about the network of real guests: first use, names, the outside, published ports, ssh,
//! and firewalls of others.

mod allowed;
mod bridges;
mod healing;
mod publish;
mod recovery;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command};
use std::time::Duration;

use crate::support::pace::generous;
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Need, Outcome, Sandbox, Trial, command, eventually};

const SOON: Duration = Duration::from_secs(10);

pub fn trials() -> Vec<Trial> {
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox);
    let own = vec![
        busybox("network::the_first_use_needs_no_set_up", first_use),
        busybox("network::guests_find_each_other_by_name", neighbours),
        busybox("network::the_outside_is_reached_under_the_host_s_address", outside),
        busybox("network::a_guest_has_its_address_for_life", stable_address),
        busybox("network::a_static_address_stays_whatever_the_guest_s_client_does", static_address)
            .guest(Guest::Bookworm)
            .limit(120),
        busybox("network::a_reboot_that_waits_for_another_command_is_waited_for", slow_reboot).limit(120),
        busybox("network::a_guest_is_reached_as_soon_as_it_has_its_address", acquainted),
        busybox("network::sixty_guests_start_at_once", sixty).limit(180),
        Trial::new("network::a_debian_guest_is_logged_in_to_by_ssh", login)
            .guest(Guest::Bookworm)
            .needs(Need::Tool("ssh"))
            .limit(120),
    ];
    let of_files = [allowed::trials(), bridges::trials(), healing::trials(), publish::trials(), recovery::trials()];
    own.into_iter().chain(of_files.into_iter().flatten()).collect()
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
    assert!(net.prefix() == 20 && net.contains(address.parse().unwrap()), "{address} in {net}");
    inside(sandbox, "web", &format!("ping -c 1 -W 2 {}", net.ip())).ok();
    inside(sandbox, "web", "ip route").ok().says(&format!("default via {}", net.ip()));
    let prefix: ipnetwork::Ipv6Network = bridge["ipv6"].as_str().unwrap().parse().unwrap();
    eventually("it has an IPv6 address of the bridge's network", SOON, || {
        sandbox.info("web", "ipv6")[0].as_str().is_some_and(|address| prefix.contains(address.parse().unwrap()))
    });
    let shown = sandbox.lxm(&["info", "web", "-i", "-H"]).ok().stdout;
    assert_eq!(shown.lines().next(), Some(address.as_str()));
    assert!(shown.lines().last().unwrap().starts_with("fe80:"), "link-local comes last: {shown}");
    sandbox.lxm(&["list", "-f"]).ok().says(&address);
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
    let bridge = sandbox.lxm(&["network", "show", "lxmbr0", "--format", "json"]).ok().json();
    let gateway = bridge["ipv4"].as_str().unwrap().split_once('/').unwrap().0.to_owned();
    create(sandbox, "other", "");
    let file = sandbox.layout().config_file(&"other".parse().unwrap());
    let sane = std::fs::read_to_string(&file).unwrap();
    let (outside, bridges, of_web) = ("10.255.255.9".to_owned(), gateway, format!("{net}.200"));
    for (address, status, when_set, at_start) in [
        (&outside, 6, "is outside", "the network of `lxmbr0`"),
        (&bridges, 6, "the bridge `lxmbr0` itself", "the network of `lxmbr0`"),
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
    sandbox.lxm(&["stop", "-k", "other"]).ok();
    sandbox.lxm(&["start", "other"]).fails(6).complains("leases are of IPv4 alone");
}

/// As when many reboot at once: the supervisor says nothing while it wires the guest.
fn slow_reboot(sandbox: &Sandbox) {
    create(sandbox, "web", "");
    start(sandbox, "web");
    let before = sandbox.leader("web");
    let held = lxm::testing::store::FileLock::acquire(&sandbox.layout().network_run().join("nft.lock")).unwrap();
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
    // A bridge of the host's own, where lxm gives no leases.
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

fn tables() -> String {
    run_checked("nft", &["list", "tables"])
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
    eventually("the host knows its MAC address", SOON, || known().contains("lladdr"));
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
    eventually("the host knows its MAC address again", SOON, || known().contains("REACHABLE"));
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
    sandbox.lxm(&["ssh", "web", "-i", key, "exit", "7"]).fails(7);
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
    sandbox.lxm(&["wait", "web", "--for", "network"]).ok();
    sandbox.lxm(&["wait", "web", "--for", "ssh", "--timeout", "30s"]).ok();
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
    let own = |user: &str| {
        lxm::testing::ops::ssh::login(&sandbox.layout(), &"own".parse().unwrap(), Some(user.into())).unwrap()
    };
    assert!(own("debian").identity.is_some() && own("root").identity.is_none());
    assert_eq!(std::fs::read_dir(sandbox.path("etc/lxm")).unwrap().count(), 2, "the key and the bridges, no scratch");
}
