//! A server that is killed, attacked, full, or at its limits.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use lxm::testing::netserver;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{BRIDGE, Lab, SOON, in_guest, ip};
use crate::support::sandbox::run_checked;
use crate::support::{Need, Sandbox, Trial, command, eventually};

pub(super) fn trials() -> Vec<Trial> {
    let dig = |name, body: fn(&Sandbox)| Trial::new(name, body).needs(Need::Tool("dig")).needs(Need::Tool("udhcpc"));
    vec![
        dig("netserve::an_address_in_use_is_not_leased", used_address),
        Trial::new("netserve::a_killed_server_has_lost_no_lease", killed_server).needs(Need::Tool("udhcpc")),
        Trial::new("netserve::a_server_whose_watchdog_was_killed_gives_leases", killed_watchdog)
            .needs(Need::Tool("udhcpc")),
        Trial::new("netserve::a_watchdog_that_cannot_repair_ends_with_its_server", failing_watchdog)
            .needs(Need::Tool("nft")),
        Trial::new("netserve::a_full_pool_is_reported_in_words", full_pool).needs(Need::Tool("udhcpc")),
        dig("netserve::hostile_packets_change_nothing", hostile_packets),
        Trial::new("netserve::a_hundred_leases_a_second_are_given", load).needs(Need::Tool("perfdhcp")),
        Trial::new("netserve::a_spawned_server_outlives_its_spawner_until_it_is_stopped", spawned),
        Trial::new("netserve::the_server_has_no_rights_and_ends_with_its_bridge", rights_and_end),
    ]
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

fn killed_watchdog(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "range = \"10.77.3.10-10.77.3.11\"");
    (1..=3).for_each(|n| lab.known_guest(n));
    let kill_keeper = |pid: i32| {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        kill(Pid::from_raw(children.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    };
    kill_keeper(lab.pid());
    let first = lab.lease(1).unwrap();
    lab.lease(2).unwrap();
    // An address that changes its holder, which is reported to the watchdog.
    lab.retract(1);
    eventually("the guest is gone", SOON, || lab.status().guests.len() == 2);
    assert_eq!(lab.lease(3), Some(first));
    lab.end(Signal::SIGKILL);
    lab.start();
    assert_eq!(lab.leased(3), first, "it is on file");
    kill_keeper(lab.pid());
    assert_eq!(lab.end(Signal::SIGTERM), 0);
}

fn failing_watchdog(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "");
    let server = lab.pid();
    let watchdog = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
    let watchdog: i32 = watchdog.trim().parse().unwrap();
    let nft = run_checked("sh", &["-c", "command -v nft"]);
    let (nft, copy) = (nft.trim(), sandbox.path("nft"));
    fs::copy(nft, &copy).unwrap();
    let mut list = std::process::Command::new(&copy);
    list.args(["list", "table", "inet", "lxm"]).stdout(Stdio::null()).stderr(Stdio::null());
    eventually("the rules are made", SOON, || list.status().unwrap().success());
    // For the watchdog there is none that works; ours takes its rules away.
    run_checked("mount", &["--bind", "/bin/false", nft]);
    run_checked(copy.to_str().unwrap(), &["delete", "table", "inet", "lxm"]);
    eventually("it cannot repair", SOON, || lab.log().contains("nft"));
    let lives = || fs::read_to_string(format!("/proc/{watchdog}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(lives());
    assert_eq!(lab.end(Signal::SIGTERM), 0);
    eventually("the watchdog has ended", SOON, || !lives());
    run_checked("umount", &[nft]);
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
        // A whole request of an unknown client, then the same cut, changed and followed by noise.
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
    // What is still in the socket's buffer is served first; what does not fit into it the kernel drops.
    eventually("the name is answered", Duration::from_secs(30), || {
        lab.lookup(1, "guest-1.lxm") == [address.to_string()]
    });
    assert_eq!(lab.lease(1), Some(address));
    assert!(lab.status().leased <= 2, "a guest took leases in the name of others: {:?}", lab.status());
    let resident = fs::read_to_string(format!("/proc/{}/status", lab.pid())).unwrap();
    let pages = resident.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim();
    let kib: u64 = pages.trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 << 10, "the server has grown to {pages}");
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
    // From within the cgroup of a process whose end is not the server's.
    command.args(["network", "serve", BRIDGE, "--spawned"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = command.spawn().unwrap();
    let mut told = String::new();
    server.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told, "ready\n");
    assert!(netserver::is_running(&layout, BRIDGE).unwrap());
    let group = fs::read_to_string(format!("/proc/{}/cgroup", server.id())).unwrap();
    assert!(group.lines().any(|line| line.ends_with("/.network")), "{group}");
    lxm::testing::net::server::stop(&layout, BRIDGE).unwrap();
    assert!(command::wait(&mut server, SOON).expect("the server ends").success());
    lxm::testing::net::server::stop(&layout, BRIDGE).unwrap();
    // One that cannot serve tells its spawner why, whole.
    ip(&format!("link delete {BRIDGE}"));
    let outcome = sandbox.lxm(&["network", "serve", BRIDGE, "--spawned"]).fails(1);
    let error: lxm::testing::error::Error = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(error.to_string(), "listen on bridge `lxmbr0`: No such device");
    // It has left its group, which an empty one does not keep.
    lxm::testing::net::server::stop(&layout, BRIDGE).unwrap();
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
