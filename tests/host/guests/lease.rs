//! Where nothing in a guest asks for an address the host does, before init runs, and keeps it.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::application::witness;
use crate::network::{create, inside, start};
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Need, Sandbox, Trial, eventually};

const SOON: Duration = Duration::from_secs(20);

pub fn trials() -> Vec<Trial> {
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox);
    vec![
        busybox("guests::an_application_has_its_address_as_it_begins", at_first).limit(120),
        busybox("guests::a_lease_is_renewed_and_what_is_gone_comes_back", renewed).limit(120),
        busybox("guests::a_foreign_server_gives_a_lease_and_has_it_back", foreign)
            .needs(Need::Tool("dnsmasq"))
            .limit(180),
        busybox("guests::who_configures_the_network_can_be_set", by_setting).limit(120),
        busybox("guests::a_killed_keeper_leaves_nothing_in_the_way", killed).limit(120),
    ]
}

/// What the guest wrote to a file of its root.
fn wrote(sandbox: &Sandbox, name: &str, file: &str) -> String {
    sandbox.lxm(&["pull", &format!("{name}:{file}"), "-"]).ok().stdout
}

fn manager(sandbox: &Sandbox, name: &str) -> String {
    sandbox.info(name, "links")[0]["managed_by"].as_str().unwrap_or_default().to_owned()
}

fn keepers() -> Vec<String> {
    let listed = crate::support::run("pgrep", &["-f", "network lease"]);
    listed.stdout.lines().map(str::to_owned).collect()
}

fn at_first(sandbox: &Sandbox) {
    create(sandbox, "other", "");
    let other = start(sandbox, "other");
    witness(sandbox, "app");
    sandbox.lxm(&["start", "app"]).ok();
    assert_eq!((manager(sandbox, "app"), manager(sandbox, "other")), ("host".into(), "udhcpc".into()));
    let address = sandbox.info("app", "ipv4")[0].as_str().unwrap().to_owned();
    eventually("it has begun", SOON, || wrote(sandbox, "app", "/began").contains("nameserver"));
    let began = wrote(sandbox, "app", "/began");
    assert!(began.contains(&format!("inet {address}/20")) && began.contains("default via"), "{began}");
    assert!(began.contains("search lxm"), "{began}");
    sandbox.lxm(&["list", "-f"]).ok().says(&address);
    sandbox.lxm(&["wait", "app", "--for", "network"]).ok();
    // By name, both ways.
    inside(sandbox, "app", "ping -c 1 -W 5 other").ok().says(&other);
    inside(sandbox, "other", "ping -c 1 -W 5 app").ok().says(&address);
    // IPv6 is the kernel's to configure.
    eventually("it has an IPv6 address", SOON, || {
        sandbox.info("app", "ipv6")[0].as_str().is_some_and(|address| !address.starts_with("fe80"))
    });
    assert_eq!(keepers().len(), 1);
    sandbox.lxm(&["restart", "app"]).ok();
    eventually("it ended in order", SOON, || wrote(sandbox, "app", "/ended") == "in order\n");
    assert_eq!(sandbox.info("app", "ipv4")[0].as_str(), Some(&*address), "its lease is kept for it");
    let stopped = sandbox.lxm(&["stop", "app"]).ok();
    assert!(!stopped.to_string().contains("kill"), "{stopped}");
    eventually("its lease was given back", SOON, || {
        let shown = sandbox.lxm(&["network", "show", "--format", "json"]).ok().json();
        shown[0]["leased"].as_u64() == Some(1)
    });
    assert_eq!(keepers(), [""; 0]);
}

fn renewed(sandbox: &Sandbox) {
    witness(sandbox, "app");
    sandbox.lxm(&["network", "create", "quick"]).ok();
    sandbox.lxm(&["network", "set", "quick", "lease-time", "10s"]).ok();
    sandbox.lxm(&["config", "set", "app", "network.eth0.bridge", "quick"]).ok();
    sandbox.lxm(&["start", "app"]).ok();
    let address = sandbox.info("app", "ipv4")[0].as_str().unwrap().to_owned();
    let host_file = sandbox.path("host-file");
    fs::write(&host_file, "the host's\n").unwrap();
    // Its root may do what it likes with its own network and files.
    let link = format!("ln -sf /../../../..{} /etc/resolv.conf", host_file.display());
    inside(sandbox, "app", &format!("ip addr flush dev eth0; {link}")).ok();
    assert_eq!(sandbox.info("app", "ipv4").as_array().map(Vec::len), Some(0));
    eventually("the renewed lease is set again", SOON, || sandbox.info("app", "ipv4")[0].as_str() == Some(&*address));
    inside(sandbox, "app", "ip route").ok().says("default via");
    assert_eq!(fs::read_to_string(&host_file).unwrap(), "the host's\n");
    // Of a frozen guest the lease is kept too: by the host, which is not frozen with it.
    sandbox.lxm(&["freeze", "app"]).ok();
    let expires = || {
        let shown = sandbox.lxm(&["network", "show", "quick", "--format", "json"]).ok().json();
        shown["guests"][0]["expires"].as_str().unwrap_or_default().to_owned()
    };
    // The server writes down what it knows a moment later. The second change is of a renewal after the freeze.
    for _ in 0..2 {
        let before = expires();
        eventually("its lease is prolonged", SOON, || expires() > before);
    }
    sandbox.lxm(&["unfreeze", "app"]).ok();
    sandbox.lxm(&["stop", "app"]).ok();
    sandbox.lxm(&["network", "delete", "quick"]).ok();
}

/// A bridge of the host's with a DHCP server that is none of lxm's.
struct Foreign(Child);

impl Foreign {
    fn serve(leases: &str) -> Self {
        let mut server = Command::new("dnsmasq");
        server.args([
            "--conf-file=/dev/null",
            "--keep-in-foreground",
            "--port=0",
            "--interface=br9",
            "--bind-interfaces",
        ]);
        server.args(["--dhcp-range=10.77.0.50,10.77.0.60,2m", "--dhcp-option=6,10.77.0.1", "--user=root"]);
        server.args(["--dhcp-option=15,corp.example", "--pid-file", "--dhcp-authoritative"]);
        server.arg(format!("--dhcp-leasefile={leases}")).stdout(Stdio::null()).stderr(Stdio::null());
        Foreign(server.spawn().unwrap())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn foreign(sandbox: &Sandbox) {
    let ip = |args: &str| run_checked("ip", &args.split(' ').collect::<Vec<_>>());
    ip("link add br9 type bridge");
    ip("address add 10.77.0.1/24 dev br9");
    ip("link set br9 up");
    let leases = sandbox.path("leases");
    let leases = leases.to_str().unwrap();
    witness(sandbox, "app");
    sandbox.lxm(&["config", "set", "app", "network.eth0.bridge", "br9"]).ok();
    // Nobody answers: it runs all the same, and has its address when somebody does.
    sandbox.lxm(&["start", "app"]).ok();
    assert_eq!(sandbox.info("app", "ipv4").as_array().map(Vec::len), Some(0));
    let server = Foreign::serve(leases);
    let address = || sandbox.info("app", "ipv4")[0].as_str().unwrap_or_default().to_owned();
    eventually("it has an address", Duration::from_secs(60), || address().starts_with("10.77.0."));
    eventually("it knows the server's resolver", SOON, || {
        let file = wrote(sandbox, "app", "/etc/resolv.conf");
        file.contains("nameserver 10.77.0.1") && file.contains("search corp.example")
    });
    inside(sandbox, "app", "ip route").ok().says("default via 10.77.0.1");
    assert!(fs::read_to_string(leases).unwrap().contains(&address()));
    assert!(fs::read_to_string(leases).unwrap().contains(" app "), "the server is told its name");
    sandbox.lxm(&["stop", "app"]).ok();
    eventually("the lease was given back", SOON, || fs::read_to_string(leases).unwrap().trim().is_empty());
    // With the server there it begins with its address; name servers of the guest's own stay.
    sandbox.lxm(&["start", "app"]).ok();
    assert!(address().starts_with("10.77.0."));
    inside(sandbox, "app", "echo nameserver 9.9.9.9 >/etc/resolv.conf").ok();
    sandbox.lxm(&["restart", "app"]).ok();
    assert_eq!(wrote(sandbox, "app", "/etc/resolv.conf"), "nameserver 9.9.9.9\n");
    sandbox.lxm(&["destroy", "-f", "app"]).ok();
    drop(server);
    ip("link delete br9");
}

fn by_setting(sandbox: &Sandbox) {
    witness(sandbox, "app");
    let set = |name: &str, value: &str| sandbox.lxm(&["config", "set", name, &format!("network.eth0.{value}")]).ok();
    set("app", "managed=guest");
    sandbox.lxm(&["start", "app"]).ok();
    assert_eq!(manager(sandbox, "app"), "guest");
    assert_eq!((sandbox.info("app", "ipv4").as_array().map(Vec::len), keepers().len()), (Some(0), 0));
    sandbox.lxm(&["stop", "app"]).ok();
    // A static address needs no lease, and names are found by the bridge's server.
    set("app", "managed=auto");
    let net = sandbox.lxm(&["network", "show", "--format", "json"]).ok().json()[0]["ipv4"].as_str().unwrap().to_owned();
    let own = net.replace(".1/", ".200/");
    set("app", &format!("ipv4={own}"));
    sandbox.lxm(&["start", "app"]).ok();
    assert_eq!((manager(sandbox, "app"), keepers().len()), ("host".into(), 0));
    let router = net.split('/').next().unwrap();
    eventually("it has begun", SOON, || wrote(sandbox, "app", "/began").contains("nameserver"));
    let began = wrote(sandbox, "app", "/began");
    assert!(began.contains(&format!("inet {own}")) && began.contains(&format!("nameserver {router}")), "{began}");
    // A guest that would ask, and is kept from it.
    create(sandbox, "other", "managed = \"host\"");
    sandbox.lxm(&["start", "other"]).ok();
    assert_eq!(manager(sandbox, "other"), "host");
    inside(sandbox, "other", "ping -c 1 -W 5 app && ! pgrep udhcpc").ok();
    sandbox.lxm(&["config", "set", "app", "network.eth0.managed", "yes"]).fails(6).complains("managed");
}

fn killed(sandbox: &Sandbox) {
    witness(sandbox, "app");
    sandbox.lxm(&["start", "app"]).ok();
    let keeper: i32 = keepers()[0].parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper), nix::sys::signal::Signal::SIGKILL).unwrap();
    // The kernel takes an address away when its time is over.
    inside(sandbox, "app", "ip addr show eth0").ok().says("dynamic").says("valid_lft");
    sandbox.lxm(&["restart", "app"]).ok();
    assert_eq!(keepers().len(), 1);
    // With its supervisor the guest ends, and its keeper with that.
    let supervisor = sandbox.supervisor("app");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("its keeper has ended", SOON, || keepers().is_empty());
    sandbox.lxm(&["start", "app"]).ok();
    assert!(sandbox.info("app", "ipv4")[0].is_string());
    sandbox.lxm(&["stop", "-k", "app"]).ok();
    assert_eq!(keepers(), [""; 0]);
}
