//! Claims about the lease and name server, with real clients in network namespaces of their own.

mod clients;
mod names;
mod trouble;

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lxm::testing::netserver::{self, GuestEntry, GuestStatus};
use lxm::testing::types::Mac;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::pace::generous;
use crate::support::sandbox::run_checked;
use crate::support::{Outcome, Sandbox, Trial, command, eventually};

const BRIDGE: &str = "lxmbr0";

const GATEWAY: &str = "10.77.3.1";

const SOON: Duration = Duration::from_secs(5);

pub fn trials() -> Vec<Trial> {
    [clients::trials(), names::trials(), trouble::trials()].into_iter().flatten().collect()
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

    fn status(&self) -> netserver::ServerStatus {
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
        let entry = GuestEntry {
            name,
            mac: mac(n),
            reserved,
            addresses: Vec::new(),
            allowed: Vec::new(),
            allowed_macs: Vec::new(),
        };
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
