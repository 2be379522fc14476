//! The two container managers, told what to do through their own commands.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::measured::Measured;

/// Kept between runs: the image of lxm and the cache of LXC's template.
pub const CACHE: &str = "/var/cache/lxm-tests/bench";
pub const RELEASE: &str = "bookworm";

/// One of the two container managers, told what to do through its own commands.
pub struct Side {
    pub name: &'static str,
    pub lxm: bool,
    /// LXC's directory of containers.
    pub path: PathBuf,
}

impl Side {
    pub fn lxm() -> Self {
        Side { name: "lxm", lxm: true, path: PathBuf::new() }
    }

    pub fn lxc(work: &Path) -> Self {
        Side { name: "LXC", lxm: false, path: work.join("lxc") }
    }

    /// `lxm VERB …`, or `lxc-VERB -P PATH …`.
    pub fn command(&self, verb: &str, args: &[&str]) -> Command {
        let mut command;
        if self.lxm {
            command = Command::new(program());
            command.arg(verb).env("LXM_ROOT", CACHE);
            command.env("LXM_TEMPLATES", concat!(env!("CARGO_MANIFEST_DIR"), "/templates"));
        } else {
            command = Command::new(format!("lxc-{verb}"));
            command.arg("-P").arg(&self.path).env("LXC_CACHE_PATH", Path::new(CACHE).join("lxc"));
        }
        command.args(args).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
        command
    }

    pub fn run(&self, verb: &str, args: &[&str]) -> Measured<String> {
        output(self.command(verb, args))
    }

    /// Milliseconds that a command takes.
    pub fn time(&self, verb: &str, args: &[&str]) -> Measured {
        let command = self.command(verb, args);
        let begun = Instant::now();
        output(command)?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    pub fn create(&self, name: &str, template: &str, storage: &str) -> Measured {
        // Neither pays for what the other has yet to write.
        nix::unistd::sync();
        let taken = self.make(name, template, storage, "none")?;
        if !self.lxm {
            self.connect(name, "lxc.net.0.type = empty\n")?;
        }
        Ok(taken)
    }

    /// A container on the bridge that each side makes by itself.
    pub fn create_on_bridge(&self, name: &str, template: &str) -> Measured<()> {
        self.make(name, template, "auto", "lxmbr0")?;
        if !self.lxm {
            let mut mac = [0u8; 4];
            name.bytes()
                .enumerate()
                .for_each(|(at, byte)| mac[at % 4] = mac[at % 4].wrapping_mul(31).wrapping_add(byte));
            let [a, b, c, d] = mac;
            let veth = "lxc.net.0.type = veth\nlxc.net.0.link = lxcbr0\nlxc.net.0.flags = up";
            self.connect(name, &format!("{veth}\nlxc.net.0.hwaddr = 02:16:{a:02x}:{b:02x}:{c:02x}:{d:02x}\n"))?;
        }
        Ok(())
    }

    fn make(&self, name: &str, template: &str, storage: &str, network: &str) -> Measured {
        match (self.lxm, template) {
            (true, "debian") => {
                let args = [name, "-t", "debian", "-r", RELEASE, "--network", network, "--storage", storage];
                self.time("create", &args)
            }
            (true, _) => self.time("create", &[name, "-t", template, "--network", network, "--storage", storage]),
            (false, "debian") => self.time("create", &["-n", name, "-t", "debian", "--", "-r", RELEASE]),
            (false, _) => self.time("create", &["-n", name, "-t", template]),
        }
    }

    /// Gives a busybox of LXC's the tree that lxm's template makes: the same guest on both sides.
    pub fn make_alike(&self, name: &str) -> Measured<()> {
        let tree = "bench-tree";
        if !Side::root_of(tree).exists() {
            Side::lxm().create(tree, "busybox", "dir")?;
        }
        let (from, to) = (Side::root_of(tree), self.path.join(name).join("rootfs"));
        let mut copy = Command::new("bash");
        copy.args(["-c", "rm -rf \"$2\" && cp -a \"$1\" \"$2\"", "copy"]).args([from, to]);
        output(copy)?;
        // Its own busybox is linked to the host's libraries, for which this tree has no place.
        self.rewrite(name, |line| !line.starts_with("lxc.mount.entry = /"), "")
    }

    /// Keeps the lines of LXC's configuration of a container that `keep` says, and adds some.
    fn rewrite(&self, name: &str, keep: impl Fn(&str) -> bool, added: &str) -> Measured<()> {
        let file = self.path.join(name).join("config");
        let text = fs::read_to_string(&file).map_err(|e| format!("read {}: {e}", file.display()))?;
        let mut lines: Vec<&str> = text.lines().filter(|line| keep(line)).collect();
        lines.push(added);
        fs::write(&file, lines.join("\n")).map_err(|e| format!("write {}: {e}", file.display()))
    }

    /// Starts a container with the host.
    pub fn enable(&self, name: &str) -> Measured<()> {
        if self.lxm {
            return self.run("enable", &[name]).map(drop);
        }
        self.rewrite(name, |_| true, "lxc.start.auto = 1\n")
    }

    /// Starts all that are started with the host.
    pub fn autostart(&self) -> Measured<()> {
        self.run("autostart", if self.lxm { &[] } else { &["-a"] }).map(drop)
    }

    /// Replaces LXC's network of a container by these lines.
    fn connect(&self, name: &str, lines: &str) -> Measured<()> {
        self.rewrite(name, |line| !line.starts_with("lxc.net."), lines)
    }

    pub fn start(&self, name: &str) -> Measured {
        if self.lxm { self.time("start", &[name]) } else { self.time("start", &["-d", "-n", name]) }
    }

    pub fn kill(&self, name: &str) -> Measured {
        if self.lxm { self.time("stop", &["-k", name]) } else { self.time("stop", &["-k", "-n", name]) }
    }

    pub fn attach(&self, name: &str, command: &[&str]) -> Measured<String> {
        let mut args = if self.lxm { vec![name, "--"] } else { vec!["-n", name, "--"] };
        args.extend(command);
        self.run("attach", &args)
    }

    pub fn list(&self) -> Measured {
        self.time(if self.lxm { "list" } else { "ls" }, &["-f"])
    }

    pub fn destroy(&self, name: &str) -> Measured<()> {
        let args: &[&str] = if self.lxm { &["-f", name] } else { &["-f", "-n", name] };
        self.run("destroy", args).map(drop)
    }

    /// Where a container of lxm's that is a full copy has its files.
    pub fn root_of(name: &str) -> PathBuf {
        Path::new(CACHE).join("var/lib/lxm").join(name).join("rootfs")
    }

    /// Pid of the process that watches over the guest: the parent of its init.
    pub fn supervisor(&self, name: &str) -> Measured<String> {
        let leader = if self.lxm {
            self.info(name)?["pid"].to_string()
        } else {
            self.run("info", &["-n", name, "-p", "-H"])?.trim().to_owned()
        };
        let status = fs::read_to_string(format!("/proc/{leader}/status")).map_err(|e| format!("pid {leader}: {e}"))?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        Ok(parent.unwrap_or("").trim().to_owned())
    }

    pub fn info(&self, name: &str) -> Measured<Value> {
        let text = self.run("info", &[name, "--format", "json"])?;
        serde_json::from_str(&text).map_err(|e| format!("lxm info: {e}"))
    }

    /// Removes every container that this run made.
    pub fn clean(&self) {
        let dir = if self.lxm { Path::new(CACHE).join("var/lib/lxm") } else { self.path.clone() };
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("bench-") && self.destroy(&name).is_err() {
                println!("cannot destroy {} of {}", name, self.name);
            }
        }
        if !self.lxm {
            // Empty groups in every hierarchy, which LXC leaves behind; others are not removed by this.
            let list = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
            for group in list(Path::new("/sys/fs/cgroup")).flat_map(|tree| list(&tree.path())) {
                let name = group.file_name().to_string_lossy().into_owned();
                if name == "lxc.pivot"
                    || name.starts_with("lxc.monitor.bench-")
                    || name.starts_with("lxc.payload.bench-")
                {
                    fs::remove_dir(group.path()).ok();
                }
            }
        }
    }
}

/// Lets the kernel forget the command before. What moves a process between groups, as LXC and every
/// systemd do, waits for an RCU grace period, but not within some milliseconds of another move
/// (`rcu_sync` in the kernel): straight after each other, the two sides would measure one another's.
pub fn rest() {
    std::thread::sleep(Duration::from_millis(100));
}

/// Names of containers that stay until all of a row is measured: ext4 without a journal looks at every
/// inode that was removed in the last minutes before it makes one (`recently_deleted` in
/// fs/ext4/ialloc.c), so to remove a tree between two rounds makes the next one take seconds longer.
pub struct Fresh {
    stem: &'static str,
    given: Cell<usize>,
}

impl Fresh {
    pub fn new(stem: &'static str) -> Self {
        Fresh { stem, given: Cell::new(0) }
    }

    /// One that was never used.
    pub fn name(&self) -> String {
        self.given.set(self.given.get() + 1);
        format!("{}-{}", self.stem, self.given.get())
    }

    pub fn destroy(self, sides: &[Side; 2]) {
        for n in 1..=self.given.get() {
            // Each name is of one side.
            sides.iter().for_each(|side| drop(side.destroy(&format!("{}-{n}", self.stem))));
        }
    }
}

/// The `lxm` that is measured: the one that cargo built, or another that `LXM_BIN` names.
pub fn program() -> PathBuf {
    std::env::var_os("LXM_BIN").map_or_else(|| env!("CARGO_BIN_EXE_lxm").into(), PathBuf::from)
}

/// Runs a command to its end; its output, or its complaint.
pub fn output(mut command: Command) -> Measured<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command.output().map_err(|e| format!("{program}: {e}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("{program}: {}", said.lines().find(|line| !line.is_empty()).unwrap_or("failed without a word")))
}

pub fn lxc_version() -> String {
    output({
        let mut command = Command::new("lxc-start");
        command.arg("--version");
        command
    })
    .map_or_else(|_| "(not installed)".into(), |text| text.trim().to_owned())
}
