//! What others do to a bridge and its ports is put right, and who fights is given up on.

use std::time::Duration;

use super::{SOON, ask, create, inside, ip, start};
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Sandbox, Trial, eventually};

pub(super) fn trials() -> Vec<Trial> {
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox);
    vec![
        busybox("network::what_others_change_of_a_link_is_put_right", links_heal),
        busybox("network::a_deleted_bridge_is_back_with_its_guests", deleted_bridge),
        busybox("network::ipv6_that_is_turned_on_later_is_served", late_ipv6),
        busybox("network::flushed_chains_are_filled_again", flushed_chains),
        busybox("network::a_killed_carrier_of_ports_is_started_again", killed_carrier),
        busybox("network::who_fights_is_told_and_given_up_on", fight).limit(120),
    ]
}

fn gateway(sandbox: &Sandbox) -> String {
    let shown = sandbox.lxm(&["network", "show", "lxmbr0", "--format", "json"]).ok().json();
    shown["ipv4"].as_str().unwrap().split('/').next().unwrap().to_owned()
}

fn faults(sandbox: &Sandbox) -> Vec<String> {
    let shown = sandbox.lxm(&["network", "show", "lxmbr0", "--format", "json"]).ok().json();
    shown["faults"].as_array().unwrap().iter().map(|fault| fault.as_str().unwrap().to_owned()).collect()
}

/// The host's end of the only guest's interface.
fn port() -> String {
    let names = std::fs::read_dir("/sys/class/net").unwrap();
    let mut names = names.map(|link| link.unwrap().file_name().into_string().unwrap());
    names.find(|name| name.starts_with("lxm") && !name.starts_with("lxmbr")).unwrap()
}

fn reaches(sandbox: &Sandbox, address: &str) -> bool {
    inside(sandbox, "web", &format!("ping -c 1 -W 1 {address}")).status == 0
}

fn links_heal(sandbox: &Sandbox) {
    create(sandbox, "web", "");
    start(sandbox, "web");
    let (gateway, port) = (gateway(sandbox), port());
    assert_eq!(faults(sandbox), [""; 0]);
    ip("link add other type bridge");
    // One, to bound how often each is mended.
    let changes = [
        "address flush dev lxmbr0".to_owned(),
        "link set lxmbr0 down".into(),
        "link set lxmbr0 mtu 1400".into(),
        "link set lxmbr0 address 02:00:00:00:00:07".into(),
        format!("link set {port} nomaster"),
        format!("link set {port} master other"),
        format!("link set {port} down"),
        format!("link set {port} mtu 1280"),
        format!("link set {port} group 0"),
    ];
    for change in changes {
        ip(&change);
        eventually(&format!("`{change}` is put right"), SOON, || faults(sandbox).is_empty());
        eventually(&format!("after `{change}` the guest reaches the host"), SOON, || reaches(sandbox, &gateway));
    }
    run_checked("bridge", &["link", "set", "dev", &port, "locked", "off"]);
    eventually("it is locked again", SOON, || faults(sandbox).is_empty());
    // A second address that an admin has given it stays.
    ip("address add 192.0.2.1/24 dev lxmbr0");
    ip("link set lxmbr0 mtu 1400");
    eventually("it is put right", SOON, || faults(sandbox).is_empty());
    assert!(ip("address show dev lxmbr0").contains("192.0.2.1/24"));
    ip("link delete other");
    // What cannot be put right is told.
    ip(&format!("link delete {port}"));
    eventually("it is told", SOON, || faults(sandbox).iter().any(|fault| fault.contains("is gone")));
    let found = lxm::testing::net::check(&sandbox.layout()).unwrap();
    assert!(found.iter().any(|finding| finding.id == "links" && finding.remedy == "lxm restart web"), "{found:?}");
    sandbox.lxm(&["restart", "-k", "web"]).ok();
    assert_eq!(faults(sandbox), [""; 0]);
}

fn deleted_bridge(sandbox: &Sandbox) {
    create(sandbox, "web", "");
    let address = start(sandbox, "web");
    let gateway = gateway(sandbox);
    for again in [false, true] {
        ip("link delete lxmbr0");
        if again {
            // By somebody else, and bare.
            let _ = std::process::Command::new("ip").args(["link", "add", "lxmbr0", "type", "bridge"]).status();
        }
        eventually("it is back", SOON, || reaches(sandbox, &gateway) && faults(sandbox).is_empty());
        inside(sandbox, "web", "nslookup web.lxm").ok().says(&address);
    }
    // Taken down on purpose it stays away.
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    sandbox.lxm(&["network", "down"]).ok();
    std::thread::sleep(Duration::from_millis(600));
    assert!(!std::path::Path::new("/sys/class/net/lxmbr0").exists());
    // So does one that nobody is on.
    sandbox.lxm(&["network", "up"]).ok();
    ip("link delete lxmbr0");
    eventually("its server ends", SOON, || !lxm::testing::netserver::is_running(&sandbox.layout(), "lxmbr0").unwrap());
    std::thread::sleep(Duration::from_millis(600));
    assert!(!std::path::Path::new("/sys/class/net/lxmbr0").exists());
    eventually("its rules are gone with it", SOON, || !super::tables().contains("lxm"));
    sandbox.lxm(&["network", "up"]).ok();
}

fn set_ipv6(off: &str) {
    for links in ["default", "all"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{links}/disable_ipv6"), off).unwrap();
    }
}

fn late_ipv6(sandbox: &Sandbox) {
    create(sandbox, "web", "");
    set_ipv6("1");
    start(sandbox, "web");
    for _ in 0..2 {
        set_ipv6("0");
        eventually("the guest has an address of the bridge's network", SOON, || {
            inside(sandbox, "web", "ip -6 address show dev eth0 scope global").stdout.contains("inet6 fd")
        });
        assert_eq!(faults(sandbox), [""; 0]);
        let read = |path: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{path}")).unwrap();
        assert_eq!((read("all/forwarding"), read("lxmbr0/accept_ra")), ("1\n".into(), "0\n".into()));
        set_ipv6("1");
        eventually("it is gone", SOON, || !ip("address show dev lxmbr0").contains("inet6"));
        inside(sandbox, "web", "ip -6 address flush dev eth0 scope global").ok();
        assert_eq!(faults(sandbox), [""; 0], "what the host has turned off is not missed");
    }
}

fn flushed_chains(sandbox: &Sandbox) {
    create(sandbox, "web", "");
    start(sandbox, "web");
    let rules = |table: &str| run_checked("nft", &["-t", "list", "table", table, "lxm"]).lines().count();
    for (table, flush) in [
        ("inet", "flush table inet lxm"),
        ("inet", "flush chain inet lxm postrouting"),
        ("bridge", "flush chain bridge lxm check4"),
        ("bridge", "flush chain bridge lxm prerouting; delete chain bridge lxm lease"),
    ] {
        let before = rules(table);
        if flush.contains("delete") {
            run_checked("nft", &["flush chain bridge lxm learn"]);
        }
        run_checked("nft", &[flush]);
        eventually(&format!("`{flush}` is put right"), SOON, || rules(table) == before);
    }
}

fn killed_carrier(sandbox: &Sandbox) {
    create(sandbox, "web", r#"publish = ["8080:80"]"#);
    start(sandbox, "web");
    inside(sandbox, "web", "mkdir -p /www; echo from-the-guest > /www/index.html; httpd -h /www").ok();
    let carrier = || -> Option<i32> {
        let text = std::fs::read_to_string(sandbox.path("run/lxm/web/publish.toml")).ok()?;
        let pid = text.lines().find_map(|line| line.split("pid = ").nth(1))?;
        pid.split([',', ' ', '}']).next()?.parse().ok()
    };
    for _ in 0..2 {
        eventually("it answers", SOON, || ask("127.0.0.1:8080").is_some());
        let killed = carrier().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(killed), nix::sys::signal::Signal::SIGKILL).unwrap();
        eventually("another carries", SOON, || carrier() != Some(killed) && ask("127.0.0.1:8080").is_some());
        let translated = || run_checked("nft", &["list", "chain", "inet", "lxm", "prerouting"]).contains("dnat ip to");
        eventually("it is reached from outside", SOON, translated);
    }
    let found = || lxm::testing::net::check(&sandbox.layout()).unwrap();
    assert!(!found().iter().any(|finding| finding.id == "published"), "{:?}", found());
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    drop(std::net::TcpListener::bind("0.0.0.0:8080").unwrap());
}

fn fight(sandbox: &Sandbox) {
    create(sandbox, "web", "");
    start(sandbox, "web");
    let given_up = || faults(sandbox).iter().any(|fault| fault.contains("again and again"));
    eventually("it gives up", Duration::from_secs(30), || {
        ip("link set lxmbr0 down");
        given_up()
    });
    ip("link set lxmbr0 down");
    std::thread::sleep(Duration::from_secs(1));
    assert!(faults(sandbox).iter().any(|fault| fault.contains("down")), "{:?}", faults(sandbox));
    let found = lxm::testing::net::check(&sandbox.layout()).unwrap();
    assert!(found.iter().any(|finding| finding.what.contains("again and again")), "{found:?}");
    sandbox.lxm(&["network", "up"]).ok();
    assert_eq!(faults(sandbox), [""; 0]);
    ip("address flush dev lxmbr0");
    eventually("it is put right again", SOON, || faults(sandbox).is_empty());
}
