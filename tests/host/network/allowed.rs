//! Addresses that are set in a guest: what is dropped is told, and what is allowed by a setting is not dropped.

use super::{SOON, create, inside, ip, start};
use crate::support::{Guest, Sandbox, Trial, eventually};

pub(super) fn trials() -> Vec<Trial> {
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox);
    vec![
        busybox("network::a_guest_s_foreign_address_is_told_and_can_be_allowed", foreign_address),
        busybox("network::a_reserved_address_is_the_guest_s_without_a_lease", reserved),
        busybox("network::an_allowed_address_moves_between_guests", moving).limit(120),
        busybox("network::an_allowed_mac_address_passes_and_no_other", macs),
        busybox("network::what_is_allowed_clashes_with_what_others_have", clashes),
    ]
}

fn gateway(sandbox: &Sandbox) -> String {
    let shown = sandbox.lxm(&["network", "show", "lxmbr0", "--format", "json"]).ok().json();
    shown["ipv4"].as_str().unwrap().split('/').next().unwrap().to_owned()
}

/// Takes the guest's addresses and its client, and sets others as a migrated system does.
fn set_by_itself(sandbox: &Sandbox, name: &str, addresses: &[&str]) {
    let set: String = addresses.iter().map(|address| format!("ip address add {address} dev eth0; ")).collect();
    inside(sandbox, name, &format!("kill $(cat /run/udhcpc.pid); ip address flush dev eth0 scope global; {set}true"))
        .ok();
}

fn reaches(sandbox: &Sandbox, name: &str, address: &str) -> bool {
    inside(sandbox, name, &format!("ping -c 1 -W 1 {address}")).status == 0
}

fn foreign_address(sandbox: &Sandbox) {
    create(sandbox, "web", "");
    start(sandbox, "web");
    ip("address add 192.168.1.1/24 dev lxmbr0");
    ip("-6 address add fd99::1/64 dev lxmbr0 nodad");
    set_by_itself(sandbox, "web", &["192.168.1.9/24", "fd99::9/64"]);
    // From that address: it soon has another one of its own, by the advertisements of the bridge.
    for (from, to) in [("192.168.1.9", "192.168.1.1"), ("fd99::9", "fd99::1")] {
        assert_ne!(inside(sandbox, "web", &format!("ping -c 1 -W 1 -I {from} {to}")).status, 0, "{to}");
    }
    // Duplicate address detection takes a second.
    eventually("both are told", SOON, || {
        reaches(sandbox, "web", "fd99::1");
        sandbox.lxm(&["list", "-f"]).stdout.contains("fd99::9 (blocked)")
    });
    sandbox.lxm(&["list", "-f"]).ok().says("192.168.1.9 (blocked)").says("fd99::9 (blocked)");
    let facts = sandbox.lxm(&["info", "web", "--format", "json"]).ok().json();
    assert!(facts["blocked_packets"].as_u64().unwrap() > 0, "{facts}");
    assert_eq!(facts["blocked_addresses"], serde_json::json!(["192.168.1.9", "fd99::9"]));
    sandbox.lxm(&["info", "web"]).ok().says("192.168.1.9, fd99::9");
    let found = lxm::testing::net::check(&sandbox.layout()).unwrap();
    let told = found.iter().find(|finding| finding.id == "blocked").unwrap();
    assert!(told.remedy.contains("config set web network.eth0.allow-addresses 192.168.1.9,fd99::9"), "{told:?}");
    let waited = sandbox.lxm(&["wait", "web", "--for", "network", "-t", "2"]);
    waited.fails(7).complains("uses 192.168.1.9").complains("allow-addresses");
    // At once, and with the rules written anew as well.
    sandbox.lxm(&["config", "set", "web", "network.eth0.allow-addresses", "192.168.1.9,fd99::/64"]).ok();
    for _ in 0..2 {
        for address in ["192.168.1.1", "fd99::1"] {
            eventually(&format!("{address} is reached"), SOON, || reaches(sandbox, "web", address));
        }
        // It takes from the bridge what others have added.
        sandbox.lxm(&["network", "up"]).ok();
        ip("address replace 192.168.1.1/24 dev lxmbr0");
        ip("-6 address replace fd99::1/64 dev lxmbr0 nodad");
    }
    sandbox.lxm(&["wait", "web", "--for", "network", "-t", "20"]).ok();
    assert!(!sandbox.lxm(&["list", "-f"]).ok().stdout.contains("blocked"));
    set_by_itself(sandbox, "web", &["192.168.1.10/24"]);
    assert!(!reaches(sandbox, "web", "192.168.1.1"), "another address");
    sandbox.lxm(&["config", "set", "web", "network.eth0.allow-addresses", "any"]).ok();
    eventually("any address is", SOON, || reaches(sandbox, "web", "192.168.1.1"));
    sandbox.lxm(&["config", "unset", "web", "network.eth0.allow-addresses"]).ok();
    assert!(!reaches(sandbox, "web", "192.168.1.1"), "no longer");
    // The bridge's own address is nobody's, whatever is allowed.
    let gateway = gateway(sandbox);
    let net = gateway.rsplit_once('.').unwrap().0.to_owned();
    sandbox.lxm(&["config", "set", "web", "network.eth0.allow-addresses", &format!("{net}.0/24")]).ok();
    set_by_itself(sandbox, "web", &[&format!("{gateway}/24")]);
    inside(sandbox, "web", &format!("arping -c 2 -U -I eth0 {gateway}; ping -c 1 -W 1 {net}.77"));
    assert!(!ip("neighbour show dev lxmbr0").lines().any(|line| line.starts_with(&format!("{gateway} "))));
}

fn reserved(sandbox: &Sandbox) {
    create(sandbox, "web", "");
    start(sandbox, "web");
    let gateway = gateway(sandbox);
    let own = format!("{}.200", gateway.rsplit_once('.').unwrap().0);
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    sandbox.lxm(&["config", "set", "web", "network.eth0.ipv4", &own]).ok();
    // No client asks for it.
    inside_stopped(sandbox, "web");
    sandbox.lxm(&["start", "web"]).ok();
    eventually("its init runs", SOON, || inside(sandbox, "web", "true").status == 0);
    inside(sandbox, "web", "kill $(cat /run/udhcpc.pid); ip address flush dev eth0 scope global; true").ok();
    run_nft_forget();
    inside(sandbox, "web", &format!("ip address add {own}/24 dev eth0")).ok();
    eventually("it is its own", SOON, || reaches(sandbox, "web", &gateway));
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    let held = crate::support::sandbox::run_checked("nft", &["list", "set", "bridge", "lxm", "fixed"]);
    assert!(!held.contains("elements"), "it went with the guest: {held}");
}

/// A lease would let it use the address as well.
fn run_nft_forget() {
    crate::support::sandbox::run_checked("nft", &["flush set bridge lxm leased"]);
}

fn inside_stopped(sandbox: &Sandbox, name: &str) {
    assert_eq!(sandbox.lxm(&["info", name, "-s", "-H"]).ok().stdout.trim(), "STOPPED");
}

fn moving(sandbox: &Sandbox) {
    for name in ["a", "b", "c"] {
        create(sandbox, name, "");
        start(sandbox, name);
    }
    let shown = sandbox.lxm(&["network", "show", "lxmbr0", "--format", "json"]).ok().json();
    let prefix = shown["ipv6"].as_str().unwrap().split("::1/").next().unwrap().to_owned();
    let four = format!("{}.253", gateway(sandbox).rsplit_once('.').unwrap().0);
    let six = format!("{prefix}::53");
    for name in ["a", "b"] {
        sandbox.lxm(&["config", "set", name, "network.eth0.allow-addresses", &format!("{four},{six}")]).ok();
    }
    let take = |name: &str| {
        let set = format!("ip address add {four}/32 dev eth0; ip -6 address add {six}/128 dev eth0; true");
        inside(sandbox, name, &set).ok();
        inside(sandbox, name, &format!("arping -c 1 -U -I eth0 {four}; ping -c 1 -W 1 {}", gateway(sandbox)));
    };
    let leave = |name: &str| {
        inside(sandbox, name, &format!("ip address del {four}/32 dev eth0; ip -6 address del {six}/128 dev eth0")).ok();
    };
    let answers = || {
        [&four, &six].into_iter().all(|address| {
            ip("neighbour flush dev lxmbr0");
            std::process::Command::new("ping").args(["-c", "1", "-W", "1", address]).output().unwrap().status.success()
        })
    };
    for name in ["a", "b", "a"] {
        take(name);
        eventually(&format!("{name} has it"), SOON, answers);
        leave(name);
    }
    take("c");
    assert!(!answers(), "nobody has allowed it to c");
    // One of them ends: it is kept for the other.
    sandbox.lxm(&["stop", "-k", "b"]).ok();
    assert!(!answers(), "c still may not");
    leave("c");
    take("a");
    eventually("a has it", SOON, answers);
    // None is leased from it.
    sandbox.lxm(&["stop", "-k", "c"]).ok();
    let net = gateway(sandbox).rsplit_once('.').unwrap().0.to_owned();
    sandbox.lxm(&["network", "set", "lxmbr0", "range", &format!("{net}.252-{net}.254")]).ok();
    sandbox.lxm(&["start", "c"]).ok();
    // The server keeps one for a, whose own is outside by now.
    eventually("c has another", SOON, || {
        let has = inside(sandbox, "c", "ip -4 address show dev eth0").stdout;
        has.contains(&format!("{net}.252")) || has.contains(&format!("{net}.254"))
    });
}

fn macs(sandbox: &Sandbox) {
    create(sandbox, "web", r#"allow-macs = ["02:00:00:00:00:aa"]"#);
    sandbox.lxm(&["config", "set", "web", "network.eth0.allow-addresses", "192.168.1.0/24"]).ok();
    start(sandbox, "web");
    ip("address add 192.168.1.1/24 dev lxmbr0");
    let machine = |mac: &str| {
        let make = format!(
            "ip link delete mv0 2>/dev/null; ip link add mv0 link eth0 type macvlan mode bridge; \
             ip link set mv0 address {mac} up; ip address add 192.168.1.10/24 dev mv0"
        );
        inside(sandbox, "web", &make).ok();
    };
    machine("02:00:00:00:00:aa");
    eventually("a machine in it is on the network", SOON, || reaches(sandbox, "web", "192.168.1.1"));
    let port = std::fs::read_dir("/sys/class/net/lxmbr0/brif").unwrap().next().unwrap().unwrap().file_name();
    ip(&format!("link set {} nomaster", port.to_str().unwrap()));
    eventually("it is again after a repair", SOON, || reaches(sandbox, "web", "192.168.1.1"));
    machine("02:00:00:00:00:bb");
    assert!(!reaches(sandbox, "web", "192.168.1.1"), "another MAC address");
    sandbox.lxm(&["config", "set", "web", "network.eth0.allow-macs", "any"]).ok();
    eventually("any MAC address passes", SOON, || reaches(sandbox, "web", "192.168.1.1"));
    sandbox.lxm(&["config", "unset", "web", "network.eth0.allow-macs"]).ok();
    assert!(!reaches(sandbox, "web", "192.168.1.1"), "no longer");
    machine("02:00:00:00:00:aa");
    assert!(!reaches(sandbox, "web", "192.168.1.1"), "nor the first one");
}

fn clashes(sandbox: &Sandbox) {
    for name in ["web", "db"] {
        create(sandbox, name, "");
    }
    let leased = start(sandbox, "db");
    let gateway = gateway(sandbox);
    let set = |name: &str, key: &str, value: &str| {
        sandbox.lxm(&["config", "set", name, &format!("network.eth0.{key}"), value])
    };
    set("web", "allow-addresses", &leased).fails(4).complains("leased to container `db`");
    set("web", "allow-addresses", &gateway).fails(6).complains("bridge `lxmbr0` itself");
    set("web", "allow-addresses", "10.0.0").fails(6).complains("neither an address nor a network");
    set("web", "allow-macs", "ff:ff:ff:ff:ff:ff").fails(6).complains("unicast");
    set("web", "allow-macs", "02:00:00:00:00:aa").ok();
    set("db", "allow-macs", "02:00:00:00:00:aa").fails(4).complains("web");
    let net = gateway.rsplit_once('.').unwrap().0;
    set("web", "ipv4", &format!("{net}.201/24")).ok();
    set("db", "allow-addresses", &format!("{net}.201")).fails(4).complains("web");
    set("db", "allow-addresses", "192.168.1.0/24").ok();
    set("web", "gateway", &gateway).ok();
    set("web", "ipv4", "192.168.1.7/24").fails(4).complains("db");
    // Who allows it as well does not clash.
    set("web", "allow-addresses", "192.168.1.9").ok();
}
