//! Published ports.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::{Outside, SOON, ask, create, in_network_of, inside, links, start};
use crate::support::pace::generous;
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Sandbox, Trial, eventually};

pub(super) fn trials() -> Vec<Trial> {
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox);
    vec![
        busybox("network::published_ports_are_reached_from_everywhere", published),
        busybox("network::a_taken_port_is_refused_with_the_name_of_who_has_it", taken_ports),
    ]
}

fn published(sandbox: &Sandbox) {
    let outside = Outside::new();
    let ports =
        r#"publish = ["8080:80", "127.0.0.1:8081:80/tcp", "[::]:8082:80/tcp", "192.0.2.1:8083:80", "5353:53/udp"]"#;
    create(sandbox, "web", ports);
    start(sandbox, "web");
    // A child of theirs that is about to execute a program goes by their name for a moment, with all signals
    // blocked (posix_spawn(3)); what is deaf itself stays so.
    eventually("server, watchdog and carrier receive signals", SOON, || {
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
