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

use crate::measured::Measured;
use crate::side::{Side, output, program, rest};
use crate::table::{Unit, compare, median, row, row_against};

/// Guests that are started as a batch.
const CROWD: usize = 60;
const SSH: &str = "bench-ssh";
const TIMEOUT: Duration = Duration::from_secs(30);
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
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let args: &[&str] = if side.lxm { &[name, "-i", "-H"] } else { &["-n", name, "-i", "-H"] };
        let told = side.run("info", args)?;
        if let Some(address) = told.lines().filter_map(|line| line.trim().parse().ok()).find(IpAddr::is_ipv4) {
            return Ok(address);
        }
        if Instant::now() >= deadline {
            return Err(format!("`{name}` has no address within {TIMEOUT:?}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until an ssh server greets at `address`, as a client on the host does that begins at once.
fn greeting(address: IpAddr) -> Measured<()> {
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        if let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::new(address, 22), CONNECT) {
            let mut word = [0; 4];
            if stream.read_exact(&mut word).is_ok() && &word == b"SSH-" {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(format!("nothing greets at {address} within {TIMEOUT:?}"))
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
    // What the rules cost is to depend on no other guest, so that all others are there.
    let names: Vec<String> = (0..CROWD).map(|n| format!("bench-port-{n}")).collect();
    let ready = names.iter().try_for_each(|name| {
        lxm.create_on_bridge(name, "busybox")?;
        lxm.start(name).map(drop)
    });
    let measured = ready.and_then(|()| throughputs(lxm, [&names[0], &names[1]]));
    let missing = |e: &String| [Err(e.clone()), Err("not measured".into())];
    for (at, (what, unit, wanted)) in ROWS.into_iter().enumerate() {
        let row = match &measured {
            Ok(rows) => rows[at].map(Ok),
            Err(e) => missing(e),
        };
        row_against(what, unit, wanted, ["lxm", "bare"], row);
    }
    for name in &names {
        lxm.kill(name).ok();
        lxm.destroy(name).ok();
    }
    for n in 1..=2 {
        ip(&format!("link del bench{n}")).ok();
    }
    ip("link del benchbr").ok();
}

/// Beside 58 other guests on the bridge; the second column is a bare veth pair, and a bridge with two of them.
const ROWS: [(&str, Unit, &str); 3] = [
    ("guest to host, iperf3 (bare veth, bridge)", Unit::Gigabits, "ratio >= 0.95"),
    ("guest to guest, iperf3 (bare veth, bridge)", Unit::Gigabits, "ratio >= 0.95"),
    // Of these the rules of the bridge are a larger part.
    ("    the same in packets of 64 bytes", Unit::Thousands, "ratio >= 0.75"),
];

/// The rows, each with lxm's guests and with bare namespaces.
fn throughputs(lxm: &Side, names: [&str; 2]) -> Measured<[[f64; 2]; ROWS.len()]> {
    let mut pids = Vec::new();
    let mut guests = Vec::new();
    for name in names {
        guests.push(address(lxm, name)?);
        pids.push(lxm.info(name)?["pid"].to_string());
    }
    let shown: serde_json::Value = serde_json::from_str(&lxm.run("network", &["show", "lxmbr0", "--format", "json"])?)
        .map_err(|e| format!("lxm network show: {e}"))?;
    let host =
        shown["ipv4"].as_str().and_then(|net| net.split('/').next()?.parse().ok()).ok_or("lxmbr0 has no IPv4")?;
    let bare = [Bare::new(1)?, Bare::new(2)?];
    let bare_pids = bare.each_ref().map(|bare| bare.0.id().to_string());
    let ip = |last: u8| IpAddr::from([10, 111, 0, last]);
    let to_host = [(pids[0].as_str(), host, None), (&bare_pids[0], ip(254), None)];
    let to_guest =
        [(pids[0].as_str(), guests[1], Some(pids[1].as_str())), (&bare_pids[0], ip(2), Some(bare_pids[1].as_str()))];
    let mut rows = [[0.0; 2]; ROWS.len()];
    for (row, (ways, load)) in
        rows.iter_mut().zip([(to_host, Load::Stream), (to_guest, Load::Stream), (to_guest, Load::Packets)])
    {
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..5 {
            for (samples, (from, to, at)) in samples.iter_mut().zip(ways) {
                samples.push(iperf(from, to, at, load)?);
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

/// What iperf3 sends.
#[derive(Clone, Copy)]
enum Load {
    /// TCP.
    Stream,
    /// UDP, 22 bytes each in a frame of 64, as fast as they are taken.
    Packets,
}

/// What comes, from the namespace of a process to an address, which is that of another's: Gbit/s, or thousands of
/// packets a second.
fn iperf(from: &str, to: IpAddr, at: Option<&str>, load: Load) -> Measured {
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
    let options = match load {
        Load::Stream => "",
        Load::Packets => " -u -b 0 -l 22",
    };
    let told = output(nsenter(from, &format!("iperf3 -c {to} -t {SECONDS} -J{options}")));
    server.kill().ok();
    server.wait().ok();
    let told: serde_json::Value = serde_json::from_str(&told?).map_err(|e| format!("iperf3: {e}"))?;
    let end = &told["end"];
    let rate = match load {
        Load::Stream => end["sum_received"]["bits_per_second"].as_f64().map(|bits| bits / 1e9),
        Load::Packets => (|| {
            let came = end["sum"]["packets"].as_f64()? - end["sum"]["lost_packets"].as_f64()?;
            Some(came / end["sum"]["seconds"].as_f64()? / 1e3)
        })(),
    };
    rate.ok_or("iperf3 gives no rate".into())
}
