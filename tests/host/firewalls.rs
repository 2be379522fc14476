//! Claims about the guests' network beside the firewalls that hosts have: docker's rules, ufw and
//! firewalld, all of them real, on the trial's own host.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::network::{Outside, ask, create, inside, start};
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Outcome, Sandbox, Trial, command, eventually, guest};

const SOON: Duration = Duration::from_secs(5);
/// The old iptables does not report its changes.
const LOOKED_AT: Duration = Duration::from_secs(4);

pub fn trials() -> Vec<Trial> {
    let beside = |name, body| Trial::new(name, body).guest(Guest::Busybox).guest(Guest::Firewalls);
    vec![
        beside("firewalls::docker_s_rules_let_guests_through", docker),
        beside("firewalls::docker_s_rules_in_the_old_iptables_let_guests_through", old_docker),
        beside("firewalls::ufw_lets_guests_through", ufw),
        beside("firewalls::firewalld_trusts_the_bridge", firewalld),
    ]
}

/// A Debian with firewalls, whose programs work on the trial's host.
struct Firewalls {
    root: PathBuf,
    daemons: Vec<Child>,
}

impl Firewalls {
    fn new(sandbox: &Sandbox) -> Self {
        let root = sandbox.path("firewalls");
        let dirs = ["upper", "work", "root"].map(|dir| root.join(dir));
        dirs.iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
        let [upper, work, root] = dirs;
        let lower = guest::firewalls();
        let layers = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(layers.as_str())).unwrap();
        for dir in ["proc", "sys", "dev"] {
            let from = PathBuf::from("/").join(dir);
            mount(Some(&from), &root.join(dir), None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
                .unwrap();
        }
        // Where lxm finds the bus, and iptables its lock.
        let run = root.join("run");
        mount(Some("tmpfs"), &run, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        mount(Some(&run), "/run", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Firewalls { root, daemons: Vec::new() }
    }

    fn command(&self, shell: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(["/bin/sh", "-euc", shell]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8").current_dir("/");
        command
    }

    #[track_caller]
    fn run(&self, shell: &str) -> Outcome {
        command::bounded(self.command(shell), b"", Duration::from_secs(20))
    }

    fn daemon(&mut self, shell: &str) {
        let mut command = self.command(&format!("exec {shell}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.daemons.push(command.spawn().unwrap());
    }

    fn end_daemons(&mut self) {
        for mut daemon in self.daemons.drain(..).rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl Drop for Firewalls {
    fn drop(&mut self) {
        self.end_daemons();
        umount2("/run", MntFlags::MNT_DETACH).unwrap();
        umount2(&self.root, MntFlags::MNT_DETACH).unwrap();
        Command::new("nft").args(["flush", "ruleset"]).status().unwrap();
    }
}

/// Two guests, one with a published port, and another machine on a wire.
fn lab(sandbox: &Sandbox) -> Outside {
    let outside = Outside::new();
    create(sandbox, "web", r#"publish = ["8080:80"]"#);
    create(sandbox, "db", "");
    start(sandbox, "db");
    start(sandbox, "web");
    inside(sandbox, "web", "mkdir -p /www; echo from-the-guest > /www/index.html; httpd -h /www").ok();
    eventually("all works before there is a firewall", SOON, || works(sandbox, &outside));
    outside
}

/// Whether guests reach the outside in both families and each other by name, and are reached.
fn works(sandbox: &Sandbox, outside: &Outside) -> bool {
    let out = "ping -c 1 -W 1 192.0.2.9 && ping -6 -c 1 -W 1 2001:db8:1::9 && nslookup db.lxm";
    inside(sandbox, "web", out).status == 0 && outside.inside(|| ask("192.0.2.1:8080")).is_some()
}

/// `lxm check` names what stands in the way, and the command that it gives helps. Without a server, nothing
/// is repaired by itself.
fn check_helps(sandbox: &Sandbox, outside: &Outside, words: &str) {
    let told = sandbox.lxm(&["check"]).stdout;
    assert!(told.contains(words), "{told}");
    let hint = told.split_once(words).unwrap().1.lines().nth(1).unwrap();
    let hint = hint.trim().strip_prefix("hint: ").unwrap();
    assert_eq!(hint, "lxm network up lxmbr0");
    sandbox.lxm(&hint.split(' ').skip(1).collect::<Vec<_>>()).ok();
    assert!(works(sandbox, outside), "the hint helps");
    sandbox.lxm(&["check"]).says("nothing stands between guests and the network");
}

fn stop_server(sandbox: &Sandbox) {
    lxm::testing::net::server::stop(&sandbox.layout(), "lxmbr0").unwrap();
}

fn end(sandbox: &Sandbox) {
    for name in ["web", "db"] {
        sandbox.lxm(&["stop", "-k", name]).ok();
    }
    sandbox.lxm(&["network", "down"]).ok();
}

/// What dockerd asks of iptables when it is started.
const DOCKER: &str = "
    $I -P FORWARD DROP
    for chain in DOCKER DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2 DOCKER-USER; do $I -N $chain; done
    $I -A DOCKER-USER -j RETURN
    $I -A DOCKER-ISOLATION-STAGE-1 -j RETURN
    $I -I FORWARD -j DOCKER-ISOLATION-STAGE-1
    $I -I FORWARD -j DOCKER-USER
    $I -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    $I -A FORWARD -o docker0 -j DOCKER
    $I -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
    $I -t nat -N DOCKER
    $I -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
    $I -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE";

fn docker(sandbox: &Sandbox) {
    beside_docker(sandbox, "iptables-nft", "ip filter DOCKER-USER", SOON);
}

fn old_docker(sandbox: &Sandbox) {
    beside_docker(sandbox, "iptables-legacy", "iptables-legacy DOCKER-USER", LOOKED_AT);
}

fn beside_docker(sandbox: &Sandbox, iptables: &str, chain: &str, limit: Duration) {
    let firewalls = Firewalls::new(sandbox);
    let outside = lab(sandbox);
    let rules = || firewalls.run(&format!("{iptables} -S")).ok().stdout;
    firewalls.run(&format!("I={iptables}; {DOCKER}")).ok();
    eventually("guests are let through", limit, || works(sandbox, &outside));
    assert!(rules().contains("-A DOCKER-USER -i lxmbr0 -j ACCEPT"), "{}", rules());
    assert_eq!(rules().matches("lxmbr0").count(), 2, "nothing more than is needed: {}", rules());
    sandbox.lxm(&["network", "up"]).ok();
    assert_eq!(rules().matches("lxmbr0").count(), 2, "nothing is written twice: {}", rules());
    firewalls.run(&format!("{iptables} -F DOCKER-USER")).ok();
    eventually("and again after an administrator's flush", limit, || works(sandbox, &outside));
    stop_server(sandbox);
    firewalls.run(&format!("{iptables} -F DOCKER-USER")).ok();
    assert!(!works(sandbox, &outside), "docker does stand in the way");
    check_helps(sandbox, &outside, &format!("docker drops what guests of `lxmbr0` send, in the chain `{chain}`"));
    end(sandbox);
    assert!(!rules().contains("lxmbr0"), "{}", rules());
}

fn ufw(sandbox: &Sandbox) {
    let firewalls = Firewalls::new(sandbox);
    let outside = lab(sandbox);
    firewalls.run("ufw --force enable").ok();
    firewalls.run("ufw status verbose").ok().says("deny (incoming), allow (outgoing), deny (routed)");
    eventually("guests are let through", SOON, || works(sandbox, &outside));
    firewalls.run("ufw reload").ok();
    eventually("and after every reload", SOON, || works(sandbox, &outside));
    stop_server(sandbox);
    firewalls.run("ufw disable && ufw --force enable && iptables -F INPUT && iptables -F FORWARD").ok();
    check_helps(sandbox, &outside, "ufw drops what guests of `lxmbr0` send, in the chain `ip filter FORWARD`");
    end(sandbox);
    let left = run_checked("nft", &["list", "ruleset"]);
    assert!(left.contains("ufw-before-forward") && !left.contains("lxm"), "{left}");
}

fn firewalld(sandbox: &Sandbox) {
    let mut firewalls = Firewalls::new(sandbox);
    firewalls.run("mkdir -p /run/dbus").ok();
    firewalls.daemon("dbus-daemon --system --nofork --nopidfile");
    let outside = lab(sandbox);
    firewalls.daemon("firewalld --nofork --nopid");
    let zone = |firewalls: &Firewalls| firewalls.run("firewall-cmd --get-zone-of-interface=lxmbr0").stdout;
    eventually("it is trusted", Duration::from_secs(20), || zone(&firewalls) == "trusted\n");
    eventually("guests are let through", SOON, || works(sandbox, &outside));
    firewalls.run("firewall-cmd --reload").ok();
    eventually("and after every reload", SOON, || zone(&firewalls) == "trusted\n" && works(sandbox, &outside));
    stop_server(sandbox);
    firewalls.run("firewall-cmd --zone=trusted --remove-interface=lxmbr0").ok();
    assert!(!works(sandbox, &outside), "firewalld does stand in the way");
    let told = sandbox.lxm(&["check"]).stdout;
    let remedy = "firewall-cmd --zone=trusted --change-interface=lxmbr0";
    assert!(told.contains("firewalld does not trust bridge `lxmbr0`") && told.contains(remedy), "{told}");
    firewalls.run(remedy).ok();
    sandbox.lxm(&["network", "up"]).ok();
    assert!(works(sandbox, &outside), "the remedy helps");
    end(sandbox);
    assert_ne!(zone(&firewalls), "trusted\n", "nothing of the bridge is left there");
}
