//! The network: start to the first word of ssh, a batch of guests with addresses, the rate of
//! leases, and throughput beside a bare veth pair.
//!
//! All of it happens in a network namespace of its own, LXC's part with the bridge, the rules and the
//! dnsmasq that its own `lxc-net` starts.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::side::{Side, output, program, rest};
use crate::table::{Measured, Unit, compare, median, row, row_against};

/// Guests that are started as a batch.
const CROWD: usize = 60;
const SSH: &str = "bench-ssh";
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client waits for a guest that may have no address yet: ssh waits longer.
const CONNECT: Duration = Duration::from_secs(10);
/// What a run of iperf3 takes.
const SECONDS: u32 = 2;
const LXC_NET: &str = "/usr/libexec/lxc/lxc-net";

/// Everything of this file, in namespaces of a thread of its own.
pub fn measure(sides: &[Side; 2]) {
    // Before there is a namespace, which has no mirror of Debian.
    let made = sides.each_ref().map(|side| side.create_on_bridge(SSH, "debian"));
    let measured = || match enter() {
        Ok(place) => {
            for side in sides {
                if let Err(e) = bridge(side, "up") {
                    println!("    {}: {e}", side.name);
                }
            }
            first_word(sides, &made);
            throughput(&sides[0]);
            batch(sides);
            leases();
            for side in sides {
                bridge(side, "down").ok();
            }
            drop(place);
        }
        Err(e) => println!("the network is not measured: {e}"),
    };
    std::thread::scope(|scope| drop(scope.spawn(measured).join()));
}

/// Holds the directory that the cgroups are kept in while another sysfs is mounted.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
        fs::remove_dir(&self.0).ok();
    }
}

/// Moves this thread to a host without links, whose /sys shows that.
fn enter() -> Measured<Place> {
    let kept = Place(std::env::temp_dir().join(format!("lxm-bench-cgroup.{}", std::process::id())));
    let enter = || -> Result<(), Box<dyn std::error::Error>> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        fs::create_dir_all(&kept.0)?;
        mount(Some("/sys/fs/cgroup"), &kept.0, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
        umount2("/sys", MntFlags::MNT_DETACH)?;
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)?;
        mount(Some(&kept.0), "/sys/fs/cgroup", none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
        // What lxc-net remembers is of this namespace alone.
        for dir in ["/run/lxc", "/var/lib/misc"] {
            fs::create_dir_all(dir)?;
            mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), none)?;
        }
        Ok(())
    };
    enter().map_err(|e| e.to_string())?;
    ip("link set lo up")?;
    Ok(kept)
}

fn ip(args: &str) -> Measured<String> {
    let mut command = Command::new("ip");
    command.args(args.split(' '));
    output(command)
}

fn bridge(side: &Side, verb: &str) -> Measured<()> {
    if side.lxm {
        return side.run("network", &[verb]).map(drop);
    }
    let mut command = Command::new(LXC_NET);
    command.arg(if verb == "up" { "start" } else { "stop" });
    // dnsmasq stays, and would keep a pipe open.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{LXC_NET}: {status}")),
        Err(e) => Err(format!("{LXC_NET}: {e}")),
    }
}

/// The address of a running guest, once it has one.
fn address(side: &Side, name: &str) -> Measured<IpAddr> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let args: &[&str] = if side.lxm { &[name, "-i", "-H"] } else { &["-n", name, "-i", "-H"] };
        let told = side.run("info", args)?;
        if let Some(address) = told.lines().filter_map(|line| line.trim().parse().ok()).find(IpAddr::is_ipv4) {
            return Ok(address);
        }
        if Instant::now() >= deadline {
            return Err(format!("`{name}` has no address within {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until an ssh server greets at `address`, as a client on the host does that begins at once.
fn greeting(address: IpAddr) -> Measured<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::new(address, 22), CONNECT) {
            let mut word = [0; 4];
            if stream.read_exact(&mut word).is_ok() && &word == b"SSH-" {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(format!("nobody greets at {address} within {PATIENCE:?}"))
}

fn first_word(sides: &[Side; 2], made: &[Measured<()>; 2]) {
    let prepare = |side: &Side| -> Measured<IpAddr> {
        made[usize::from(!side.lxm)].clone()?;
        // Its first boot makes keys, and the first lease is probed.
        side.start(SSH)?;
        let address = address(side, SSH)?;
        greeting(address)?;
        side.kill(SSH)?;
        Ok(address)
    };
    let addresses = sides.each_ref().map(prepare);
    let once = |side: &Side| {
        let address = addresses[usize::from(!side.lxm)].clone()?;
        rest();
        let begun = Instant::now();
        side.start(SSH)?;
        greeting(address)?;
        let taken = begun.elapsed().as_secs_f64() * 1e3;
        side.kill(SSH)?;
        Ok(taken)
    };
    compare("start Debian until ssh greets", Unit::Milliseconds, "ratio <= 0.67", sides, 7, once);
}

/// The first start of all, for whom addresses are found, and later ones, who have theirs.
fn batch(sides: &[Side; 2]) {
    let names: Vec<String> = (0..CROWD).map(|n| format!("bench-batch-{n}")).collect();
    let measured = sides.each_ref().map(|side| {
        let round = || {
            let begun = Instant::now();
            side.autostart()?;
            names.iter().try_for_each(|name| address(side, name).map(drop))?;
            let taken = begun.elapsed().as_secs_f64() * 1e3;
            names.iter().for_each(|name| drop(side.kill(name)));
            Ok(taken)
        };
        let made = names.iter().try_for_each(|name| {
            side.create_on_bridge(name, "busybox")?;
            if !side.lxm {
                side.make_alike(name)?;
            }
            side.enable(name)
        });
        let first = made.and_then(|()| round());
        let later = first.clone().and_then(|_| (0..3).map(|_| round()).collect::<Measured<Vec<f64>>>());
        names.iter().for_each(|name| drop(side.destroy(name)));
        (first, later.map(|mut rounds| median(&mut rounds)))
    });
    let [(our_first, our_later), (their_first, their_later)] = measured;
    println!("autostart {CROWD} busyboxes until all have an address");
    row("    the first time", Unit::Milliseconds, "ratio <= 0.5", [our_first, their_first]);
    row("    again", Unit::Milliseconds, "ratio <= 0.5", [our_later, their_later]);
}

/// Prints its own row.
fn leases() {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/network.sh"));
    match output({
        command.env("LXM_BIN", program());
        command
    }) {
        Ok(line) => print!("{line}"),
        Err(e) => println!("leases a second are not measured: {e}"),
    }
}

fn throughput(lxm: &Side) {
    let measured = throughputs(lxm);
    let [to_host, to_guest] = match measured {
        Ok(rows) => rows.map(|[ours, bare]| [Ok(ours), Ok(bare)]),
        Err(e) => [[Err(e.clone()), Err("not measured".into())], [Err(e), Err("not measured".into())]],
    };
    let wanted = "ratio >= 0.95";
    row_against("guest to host, iperf3 (bare veth, bridge)", Unit::Gigabits, wanted, ["lxm", "bare"], to_host);
    row_against("guest to guest, iperf3 (bare veth, bridge)", Unit::Gigabits, wanted, ["lxm", "bare"], to_guest);
    for name in ["bench-near", "bench-far"] {
        lxm.kill(name).ok();
        lxm.destroy(name).ok();
    }
    for n in 1..=2 {
        ip(&format!("link del bench{n}")).ok();
    }
    ip("link del benchbr").ok();
}

/// Guest to host and guest to guest, each with lxm's guests and with bare namespaces, in Gbit/s.
fn throughputs(lxm: &Side) -> Measured<[[f64; 2]; 2]> {
    let mut pids = Vec::new();
    let mut guests = Vec::new();
    for name in ["bench-near", "bench-far"] {
        lxm.create_on_bridge(name, "busybox")?;
        lxm.start(name)?;
        guests.push(address(lxm, name)?);
        pids.push(lxm.info(name)?["pid"].to_string());
    }
    let shown: serde_json::Value = serde_json::from_str(&lxm.run("network", &["show", "lxmbr0", "--format", "json"])?)
        .map_err(|e| format!("lxm network show: {e}"))?;
    let host =
        shown["ipv4"].as_str().and_then(|net| net.split('/').next()?.parse().ok()).ok_or("lxmbr0 has no IPv4")?;
    let bare = [Bare::new(1)?, Bare::new(2)?];
    let ours = [(pids[0].as_str(), host, None), (&pids[0], guests[1], Some(pids[1].as_str()))];
    let bare_pids = bare.each_ref().map(|bare| bare.0.id().to_string());
    let ip = |last: u8| IpAddr::from([10, 111, 0, last]);
    let theirs = [(bare_pids[0].as_str(), ip(254), None), (&bare_pids[0], ip(2), Some(bare_pids[1].as_str()))];
    let mut rows = [[0.0; 2]; 2];
    for (row, (our, their)) in rows.iter_mut().zip(ours.into_iter().zip(theirs)) {
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..5 {
            for (samples, (from, to, at)) in samples.iter_mut().zip([our, their]) {
                samples.push(iperf(from, to, at)?);
            }
        }
        *row = samples.map(|mut samples| median(&mut samples));
    }
    Ok(rows)
}

/// A process with a network namespace and a veth to a bridge, and nothing else.
struct Bare(Child);

impl Bare {
    fn new(n: u8) -> Measured<Self> {
        if n == 1 {
            ip("link add benchbr type bridge")?;
            ip("address add 10.111.0.254/24 dev benchbr")?;
            ip("link set benchbr up")?;
        }
        let child = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().map_err(|e| e.to_string())?;
        let bare = Bare(child);
        let pid = bare.0.id();
        std::thread::sleep(Duration::from_millis(200));
        ip(&format!("link add bench{n} type veth peer name eth0 netns {pid}"))?;
        ip(&format!("link set bench{n} master benchbr up"))?;
        for args in ["link set lo up", &format!("address add 10.111.0.{n}/24 dev eth0"), "link set eth0 up"] {
            output(nsenter(&pid.to_string(), &format!("ip {args}")))?;
        }
        Ok(bare)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn nsenter(pid: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-t", pid, "-n"]).args(program.split(' '));
    command
}

/// Gbit/s over TCP from the namespace of a process to an address, which is that of another's.
fn iperf(from: &str, to: IpAddr, at: Option<&str>) -> Measured {
    let program = "iperf3 -s -1";
    let mut server = match at {
        Some(pid) => nsenter(pid, program),
        None => {
            let mut server = Command::new("iperf3");
            server.args(["-s", "-1"]);
            server
        }
    };
    let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut server = server.map_err(|e| format!("iperf3: {e}"))?;
    std::thread::sleep(Duration::from_millis(200));
    let told = output(nsenter(from, &format!("iperf3 -c {to} -t {SECONDS} -J")));
    server.kill().ok();
    server.wait().ok();
    let told: serde_json::Value = serde_json::from_str(&told?).map_err(|e| format!("iperf3: {e}"))?;
    told["end"]["sum_received"]["bits_per_second"].as_f64().map(|bits| bits / 1e9).ok_or("iperf3 gives no rate".into())
}
