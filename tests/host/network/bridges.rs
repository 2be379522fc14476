//! Bridges and their settings, and what `lxm check` finds about them.

use super::{SOON, address, create, inside, ip, links, start, tables};
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Sandbox, Trial, eventually};

pub(super) fn trials() -> Vec<Trial> {
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox);
    vec![
        busybox("network::what_stands_in_the_way_is_reported_with_a_remedy", findings),
        busybox("network::a_host_without_ipv6_has_a_bridge_and_guests", no_ipv6),
        busybox("network::a_pool_without_a_free_address_is_told", exhausted),
        busybox("network::a_guest_takes_the_mtu_of_its_bridge", bridge_mtu),
        busybox("network::a_bridge_may_be_without_ipv6", without_ipv6),
        Trial::new("network::bridges_are_made_changed_and_removed", bridges),
    ]
}

/// `net.ipv6.conf.all.disable_ipv6=1`, as hardening guides write it.
fn no_ipv6(sandbox: &Sandbox) {
    for links in ["all", "default"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{links}/disable_ipv6"), "1").unwrap();
    }
    create(sandbox, "web", "");
    start(sandbox, "web");
    inside(sandbox, "web", "nslookup web.lxm").ok();
    sandbox.lxm(&["restart", "web"]).ok();
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    sandbox.lxm(&["network", "down"]).ok();
    start(sandbox, "web");
}

fn without_ipv6(sandbox: &Sandbox) {
    let shown =
        |bridge: &str| sandbox.lxm(&["network", "show", bridge, "--format", "json"]).ok().json()["ipv6"].clone();
    sandbox.lxm(&["network", "create", "lab", "--ipv6", "none"]).ok();
    assert!(shown("lab").is_null() && !ip("address show dev lab").contains("inet6 fd"));
    sandbox.lxm(&["network", "set", "lab", "nat", "false"]).ok();
    assert!(shown("lab").is_null(), "another setting leaves it");
    sandbox.lxm(&["network", "delete", "lab"]).ok();
    create(sandbox, "web", "");
    start(sandbox, "web");
    assert!(!shown("lxmbr0").is_null());
    sandbox.lxm(&["network", "set", "lxmbr0", "ipv6", "none"]).ok();
    sandbox.lxm(&["restart", "-k", "web", "--wait", "network"]).ok();
    assert!(shown("lxmbr0").is_null() && !ip("address show dev lxmbr0").contains("inet6 fd"));
    inside(sandbox, "web", "nslookup web.lxm").ok();
    let global = inside(sandbox, "web", "ip -6 address show dev eth0 scope global").ok();
    assert!(!global.stdout.contains("inet6"), "{global}");
    sandbox.lxm(&["network", "set", "lxmbr0", "ipv6", "auto"]).ok();
    assert!(!shown("lxmbr0").is_null());
}

fn exhausted(sandbox: &Sandbox) {
    for name in ["a", "b", "c"] {
        create(sandbox, name, "");
    }
    let of_a = start(sandbox, "a");
    let net = of_a.rsplit_once('.').unwrap().0.to_owned();
    let last: u8 = of_a.rsplit_once('.').unwrap().1.parse().unwrap();
    let other = if last > 100 { last - 1 } else { last + 1 };
    let range = format!("{net}.{}-{net}.{}", last.min(other), last.max(other));
    sandbox.lxm(&["network", "set", "lxmbr0", "range", &range]).ok();
    let of_b = start(sandbox, "b");
    let told = sandbox.lxm(&["start", "c"]).ok();
    assert!(told.stderr.contains("may get no IPv4 address") && told.stderr.contains("lxmbr0"), "{told}");
    eventually("it is told", SOON, || {
        lxm::testing::net::check(&sandbox.layout()).unwrap().iter().any(|finding| finding.id == "leases")
    });
    sandbox.lxm(&["network", "show", "lxmbr0"]).ok().says("no free address");
    sandbox.lxm(&["list", "-f"]).ok().says("(none free)");
    assert_eq!([address(sandbox, "a"), address(sandbox, "b")], [of_a, of_b.clone()], "nobody's is taken away");
    // Another guest's end makes room.
    sandbox.lxm(&["stop", "-k", "b"]).ok();
    eventually("it has the other's", SOON, || {
        // Its client is to ask again.
        inside(sandbox, "c", "kill -USR1 $(cat /run/udhcpc.pid); sleep 1");
        inside(sandbox, "c", "ip -4 address show dev eth0").stdout.contains(&of_b)
    });
    assert!(!sandbox.lxm(&["list", "-f"]).ok().stdout.contains("none free"));
}

/// A bridge takes the smallest MTU of its links: a guest with another must not cut the host's.
fn bridge_mtu(sandbox: &Sandbox) {
    let mtu = |link: &str| std::fs::read_to_string(format!("/sys/class/net/{link}/mtu")).unwrap();
    for name in ["small", "db"] {
        create(sandbox, name, "");
    }
    // The one that makes lxm's own, and one above it.
    for (own, bridge) in [("1400", None), ("9000", None), ("1400", Some("3000"))] {
        if let Some(bridge) = bridge {
            sandbox.lxm(&["network", "set", "lxmbr0", "mtu", bridge]).ok();
        }
        sandbox.lxm(&["config", "set", "small", "network.eth0.mtu", own]).ok();
        sandbox.lxm(&["start", "small", "db"]).ok();
        let wanted = format!("{}\n", bridge.unwrap_or("1500"));
        assert_eq!(
            (mtu("lxmbr0"), inside(sandbox, "small", "cat /sys/class/net/eth0/mtu").ok().stdout.trim()),
            (wanted.clone(), own)
        );
        assert_eq!(inside(sandbox, "db", "cat /sys/class/net/eth0/mtu").ok().stdout, wanted);
        sandbox.lxm(&["stop", "-k", "small", "db"]).ok();
        assert_eq!(mtu("lxmbr0"), wanted, "the last one has gone");
    }
    ip("link add br0 type bridge");
    ip("link add up0 mtu 9000 type veth peer name far0 mtu 9000");
    ip("link set up0 master br0 up");
    ip("link set br0 up");
    create(sandbox, "web", "");
    sandbox.lxm(&["config", "set", "web", "network.eth0.bridge", "br0"]).ok();
    sandbox.lxm(&["start", "web"]).ok();
    assert_eq!(mtu("br0"), "9000\n");
    assert_eq!(inside(sandbox, "web", "cat /sys/class/net/eth0/mtu").ok().stdout, "9000\n");
    // A setting is the guest's end's: the host's keeps to the bridge.
    sandbox.lxm(&["config", "set", "web", "network.eth0.mtu", "1400"]).ok();
    sandbox.lxm(&["restart", "web"]).ok();
    assert_eq!(mtu("br0"), "9000\n");
    assert_eq!(inside(sandbox, "web", "cat /sys/class/net/eth0/mtu").ok().stdout, "1400\n");
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    ip("link delete up0");
    ip("link delete br0");
}

fn findings(sandbox: &Sandbox) {
    let found = || lxm::testing::net::check(&sandbox.layout()).unwrap();
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
    lxm::testing::net::server::stop(&sandbox.layout(), "lxmbr0").unwrap();
    tells("no lease and name server", "lxm network up lxmbr0");
    sandbox.lxm(&["network", "up"]).ok();
    assert!(found().is_empty(), "{:?}", found());
}

pub(super) fn bridges(sandbox: &Sandbox) {
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
