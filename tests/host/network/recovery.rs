//! What a kill or others leave of the network, and that it is mended.

use std::net::TcpListener;
use std::time::Duration;

use lxm::testing::netserver;
use lxm::testing::supervisor::Stage;
use lxm::testing::types::Generation;

use super::{SOON, address, ask, create, inside, links, start, tables};
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Sandbox, Trial, command, eventually};

pub(super) fn trials() -> Vec<Trial> {
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox);
    vec![
        busybox("network::a_killed_supervisor_leaves_nothing_that_lasts", killed_supervisor),
        busybox("network::flushed_rules_are_back_within_a_second", flushed),
        busybox("network::a_killed_server_is_back_with_its_leases", killed_server),
        busybox("network::a_death_at_any_stage_leaves_no_link_and_no_port", dies_at_any_stage).limit(180),
        busybox("network::a_killed_start_command_leaves_a_network_that_works", killed_start).limit(120),
    ]
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

pub(super) fn server(sandbox: &Sandbox) -> Option<Generation> {
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
