//! `make bench`: lxm against LXC from Debian, on this machine, in this run.
//!
//! One table of medians. Rounds of the two alternate, so that whatever else the machine does
//! hits both. It says what could not be measured and why, and exits 0 whatever the numbers are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Kept between runs: the image of lxm and the cache of LXC's template.
const CACHE: &str = "/var/cache/lxm-tests/bench";
const RELEASE: &str = "bookworm";
/// Containers that run while they are listed.
const CROWD: usize = 60;

type Measured<T = f64> = Result<T, String>;

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("make bench needs root: it starts containers");
        return;
    }
    let work = Path::new("/var/tmp").join(format!("lxm-bench.{}", std::process::id()));
    let sides = [Side::lxm(), Side::lxc(&work)];
    if let Err(e) = fs::create_dir_all(&work).and_then(|()| fs::create_dir_all(CACHE)) {
        println!("cannot make {}: {e}", work.display());
        return;
    }
    println!("lxm {} against LXC {}", env!("CARGO_PKG_VERSION"), lxc_version());
    println!("{:<46}{:>12}{:>12}{:>8}   wanted", "median of", "lxm", "LXC", "ratio");
    bench_create(&sides);
    bench_busybox(&sides);
    bench_crowd(&sides);
    bench_debian(&sides);
    for side in &sides {
        side.clean();
    }
    fs::remove_dir_all(&work).ok();
}

/// One of the two container managers, told what to do through its own commands.
struct Side {
    name: &'static str,
    lxm: bool,
    /// LXC's directory of containers.
    path: PathBuf,
}

impl Side {
    fn lxm() -> Self {
        Side { name: "lxm", lxm: true, path: PathBuf::new() }
    }

    fn lxc(work: &Path) -> Self {
        Side { name: "LXC", lxm: false, path: work.join("lxc") }
    }

    /// `lxm VERB …`, or `lxc-VERB -P PATH …`.
    fn command(&self, verb: &str, args: &[&str]) -> Command {
        let mut command;
        if self.lxm {
            command = Command::new(env!("CARGO_BIN_EXE_lxm"));
            command.arg(verb).env("LXM_ROOT", CACHE);
            command.env("LXM_TEMPLATES", concat!(env!("CARGO_MANIFEST_DIR"), "/templates"));
        } else {
            command = Command::new(format!("lxc-{verb}"));
            command.arg("-P").arg(&self.path).env("LXC_CACHE_PATH", Path::new(CACHE).join("lxc"));
        }
        command.args(args).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
        command
    }

    fn run(&self, verb: &str, args: &[&str]) -> Measured<String> {
        output(self.command(verb, args))
    }

    /// Milliseconds that a command takes.
    fn time(&self, verb: &str, args: &[&str]) -> Measured {
        let command = self.command(verb, args);
        let begun = Instant::now();
        output(command)?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    fn create(&self, name: &str, template: &str, storage: &str) -> Measured {
        let taken = match (self.lxm, template) {
            (true, "debian") => {
                let args = [name, "-t", "debian", "-r", RELEASE, "--network", "none", "--storage", storage];
                self.time("create", &args)?
            }
            (true, _) => self.time("create", &[name, "-t", template, "--network", "none", "--storage", storage])?,
            (false, "debian") => self.time("create", &["-n", name, "-t", "debian", "--", "-r", RELEASE])?,
            (false, _) => self.time("create", &["-n", name, "-t", template])?,
        };
        if !self.lxm {
            self.unplug(name)?;
        }
        Ok(taken)
    }

    /// No network but the loopback, as `--network none`.
    fn unplug(&self, name: &str) -> Measured<()> {
        let file = self.path.join(name).join("config");
        let text = fs::read_to_string(&file).map_err(|e| format!("read {}: {e}", file.display()))?;
        let mut kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("lxc.net.")).collect();
        kept.push("lxc.net.0.type = empty\n");
        fs::write(&file, kept.join("\n")).map_err(|e| format!("write {}: {e}", file.display()))
    }

    fn start(&self, name: &str) -> Measured {
        if self.lxm { self.time("start", &[name]) } else { self.time("start", &["-d", "-n", name]) }
    }

    fn kill(&self, name: &str) -> Measured {
        if self.lxm { self.time("stop", &["-k", name]) } else { self.time("stop", &["-k", "-n", name]) }
    }

    fn attach(&self, name: &str, command: &[&str]) -> Measured<String> {
        let mut args = if self.lxm { vec![name, "--"] } else { vec!["-n", name, "--"] };
        args.extend(command);
        self.run("attach", &args)
    }

    fn list(&self) -> Measured {
        self.time(if self.lxm { "list" } else { "ls" }, &["-f"])
    }

    fn destroy(&self, name: &str) -> Measured<()> {
        let args: &[&str] = if self.lxm { &["-f", name] } else { &["-f", "-n", name] };
        self.run("destroy", args).map(drop)
    }

    /// Pid of the process that watches over the guest: the parent of its init.
    fn supervisor(&self, name: &str) -> Measured<String> {
        let leader = if self.lxm {
            self.info(name)?["pid"].to_string()
        } else {
            self.run("info", &["-n", name, "-p", "-H"])?.trim().to_owned()
        };
        let status = fs::read_to_string(format!("/proc/{leader}/status")).map_err(|e| format!("pid {leader}: {e}"))?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        Ok(parent.unwrap_or("").trim().to_owned())
    }

    fn info(&self, name: &str) -> Measured<Value> {
        let text = self.run("info", &[name, "--format", "json"])?;
        serde_json::from_str(&text).map_err(|e| format!("lxm info: {e}"))
    }

    /// Removes every container that this run made.
    fn clean(&self) {
        let dir = if self.lxm { Path::new(CACHE).join("var/lib/lxm") } else { self.path.clone() };
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("bench-") && self.destroy(&name).is_err() {
                println!("cannot destroy {} of {}", name, self.name);
            }
        }
        if !self.lxm {
            // An empty cgroup in every hierarchy, which LXC leaves behind.
            let trees = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
            trees.for_each(|tree| drop(fs::remove_dir(tree.path().join("lxc.pivot"))));
        }
    }
}

/// Runs a command to its end; its output, or its complaint.
fn output(mut command: Command) -> Measured<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command.output().map_err(|e| format!("{program}: {e}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("{program}: {}", said.lines().find(|line| !line.is_empty()).unwrap_or("failed without a word")))
}

fn lxc_version() -> String {
    output({
        let mut command = Command::new("lxc-start");
        command.arg("--version");
        command
    })
    .map_or_else(|_| "(not installed)".into(), |text| text.trim().to_owned())
}

/// Measures both sides in turn, `rounds` times, and prints a row.
fn compare(what: &str, unit: Unit, wanted: &str, sides: &[Side; 2], rounds: usize, one: impl Fn(&Side) -> Measured) {
    let mut samples: [Measured<Vec<f64>>; 2] = [Ok(Vec::new()), Ok(Vec::new())];
    for _ in 0..rounds {
        for (side, samples) in sides.iter().zip(&mut samples) {
            // Once a side has failed, trying again only costs time.
            if let Ok(taken) = samples {
                match one(side) {
                    Ok(value) => taken.push(value),
                    Err(e) => *samples = Err(e),
                }
            }
        }
    }
    row(what, unit, wanted, samples.map(|samples| samples.map(|mut samples| median(&mut samples))));
}

#[derive(Clone, Copy)]
enum Unit {
    Milliseconds,
    Kibibytes,
}

fn row(what: &str, unit: Unit, wanted: &str, [ours, theirs]: [Measured; 2]) {
    let show = |value: &Measured| match (value, unit) {
        (Err(_), _) => "-".to_owned(),
        (Ok(ms), Unit::Milliseconds) if *ms >= 1e3 => format!("{:.2} s", ms / 1e3),
        (Ok(ms), Unit::Milliseconds) => format!("{ms:.1} ms"),
        (Ok(kib), Unit::Kibibytes) => format!("{:.2} MB", kib / 1024.0),
    };
    let ratio = match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => format!("{:.2}", ours / theirs),
        _ => "-".to_owned(),
    };
    println!("{what:<46}{:>12}{:>12}{ratio:>8}   {wanted}", show(&ours), show(&theirs));
    for (name, result) in [("lxm", &ours), ("LXC", &theirs)] {
        if let Err(e) = result {
            println!("    {name}: {e}");
        }
    }
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    match samples.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => samples[n / 2],
        n => (samples[n / 2 - 1] + samples[n / 2]) / 2.0,
    }
}

fn bench_create(sides: &[Side; 2]) {
    for side in sides {
        // The first one fills the cache from the archive.
        if let Err(e) = side.create("bench-first", "debian", "dir") {
            println!("    {}: {e}", side.name);
        }
    }
    let once = |side: &Side, storage: &str| {
        let taken = side.create("bench-made", "debian", storage)?;
        side.destroy("bench-made")?;
        Ok(taken)
    };
    let plain = |side: &Side| once(side, "dir");
    compare("create Debian from the cache, full copy", Unit::Milliseconds, "ratio <= 0.33", sides, 3, plain);
    let default = |side: &Side| once(side, "auto");
    compare("create Debian from the cache, default storage", Unit::Milliseconds, "", sides, 3, default);
}

fn bench_busybox(sides: &[Side; 2]) {
    let name = "bench-busy";
    for side in sides {
        if let Err(e) = side.create(name, "busybox", "dir") {
            println!("    {}: {e}", side.name);
        }
    }
    let start = |side: &Side| {
        let taken = side.start(name)?;
        side.kill(name)?;
        Ok(taken)
    };
    compare("start busybox until it runs", Unit::Milliseconds, "ratio <= 0.67", sides, 15, start);
    let kill = |side: &Side| {
        side.start(name)?;
        // Its init is to have started its children, as in a guest that is used.
        std::thread::sleep(Duration::from_millis(100));
        side.kill(name)
    };
    compare("kill a running busybox", Unit::Milliseconds, "ratio <= 0.5", sides, 15, kill);
    for side in sides {
        side.start(name).ok();
    }
    let attach = |side: &Side| {
        let begun = Instant::now();
        side.attach(name, &["/bin/true"])?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    };
    compare("attach /bin/true", Unit::Milliseconds, "ratio <= 0.5", sides, 40, attach);
    let memory = |side: &Side| proportional_kib(&side.supervisor(name)?);
    compare("memory of the supervisor (PSS)", Unit::Kibibytes, "lxm <= 1.0 MB", sides, 1, memory);
    stages(&sides[0], name);
    for side in sides {
        side.kill(name).ok();
    }
}

/// Proportional set size of a process.
fn proportional_kib(pid: &str) -> Measured {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).map_err(|e| format!("pid {pid}: {e}"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("");
    line.trim().trim_end_matches(" kB").parse().map_err(|e| format!("pid {pid}: {e}"))
}

/// Where the time of a start goes: medians of each stage over several starts.
fn stages(side: &Side, name: &str) {
    let mut order: Vec<String> = Vec::new();
    let mut samples: Vec<Vec<f64>> = Vec::new();
    for _ in 0..9 {
        let again = side.kill(name).and_then(|_| side.start(name)).and_then(|_| side.info(name));
        let Ok(info) = again else { return };
        for stage in info["stages"].as_array().into_iter().flatten() {
            let (Some(label), Some(us)) = (stage["stage"].as_str(), stage["us"].as_f64()) else { continue };
            let at = order.iter().position(|known| known == label).unwrap_or_else(|| {
                order.push(label.to_owned());
                samples.push(Vec::new());
                order.len() - 1
            });
            samples[at].push(us / 1e3);
        }
    }
    for (label, samples) in order.iter().zip(&mut samples) {
        println!("    {label:<42}{:>9.2} ms", median(samples));
    }
}

fn bench_crowd(sides: &[Side; 2]) {
    // One side at a time: 120 containers would slow each other down.
    let [ours, theirs] = sides.each_ref().map(|side| {
        let names: Vec<String> = (0..CROWD).map(|n| format!("bench-crowd-{n}")).collect();
        let measured = crowd(side, &names);
        for name in &names {
            side.kill(name).ok();
            side.destroy(name).ok();
        }
        measured
    });
    row(&format!("list -f with {CROWD} running"), Unit::Milliseconds, "ratio <= 0.1", [ours, theirs]);
}

fn crowd(side: &Side, names: &[String]) -> Measured {
    for name in names {
        side.create(name, "busybox", "auto")?;
        side.start(name)?;
    }
    side.list()?;
    let mut samples = (0..10).map(|_| side.list()).collect::<Measured<Vec<f64>>>()?;
    Ok(median(&mut samples))
}

fn bench_debian(sides: &[Side; 2]) {
    let boot = |side: &Side| {
        let name = "bench-first";
        side.start(name)?;
        let taken = user_space_ms(side, name);
        side.kill(name)?;
        taken
    };
    compare("boot Debian to multi-user, in the guest", Unit::Milliseconds, "lxm < 0.6 s", sides, 5, boot);
}

/// From the start of the guest's systemd to the end of its boot, by its own clock.
fn user_space_ms(side: &Side, name: &str) -> Measured {
    let deadline = Instant::now() + Duration::from_secs(60);
    let ask = ["systemctl", "show", "-p", "UserspaceTimestampMonotonic", "-p", "FinishTimestampMonotonic"];
    loop {
        // Until its bus is up, the guest's systemd cannot be asked.
        let told = side.attach(name, &ask).unwrap_or_default();
        let field = |key: &str| told.lines().find_map(|line| line.strip_prefix(key)?.parse::<f64>().ok());
        match (field("UserspaceTimestampMonotonic="), field("FinishTimestampMonotonic=")) {
            (Some(begun), Some(ended)) if ended > 0.0 => return Ok((ended - begun) / 1e3),
            _ if Instant::now() >= deadline => return Err("the guest has not booted within 60 s".into()),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
