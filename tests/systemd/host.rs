//! A host whose PID 1 is a real systemd, in namespaces, thrown away when dropped.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::rootfs;
use crate::support::guest::images;
use crate::support::pace::Deadline;
use crate::support::sandbox::{program, source_tree};
use crate::support::{Guest, Outcome, command, eventually};

const CGROUPS: &str = "/sys/fs/cgroup/unified";

/// A booted host. Everything in it is real but the hardware and the kernel's settings.
pub struct SystemdHost {
    release: &'static str,
    lower: PathBuf,
    work: PathBuf,
    cgroup: PathBuf,
    launcher: Child,
    /// Its PID 1, seen from here.
    init: u32,
}

impl SystemdHost {
    /// Boots a host of this Debian release.
    pub fn boot(release: &'static str, guests: &[Guest], installed: Installed) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let lower = rootfs::host(release).unwrap_or_else(|e| panic!("{e}"));
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lxmtest-{:x}-{number:x}", std::process::id());
        let work = Path::new("/var/tmp").join(&name);
        for dir in ["upper", "overlay", "root", "containers"] {
            fs::create_dir_all(work.join(dir)).expect("make the host's directories");
        }
        let mut binds = match installed {
            Installed::Files => {
                furnish(&work.join("upper"));
                vec![format!("{} /usr/bin/lxm", program().display())]
            }
            Installed::Nothing => vec![format!("{} /srv/packages", packages().display())],
        };
        for guest in guests {
            guest.prepare().unwrap_or_else(|e| panic!("{e}"));
        }
        if !guests.is_empty() {
            binds.push(format!("{} /var/cache/lxm/images", images().display()));
        }
        fs::write(work.join("binds"), binds.join("\n") + "\n").expect("list the binds");
        let cgroup = Path::new(CGROUPS).join(&name);
        let (launcher, init) = launch(&lower, &work, &cgroup);
        let host = SystemdHost { release, lower, work, cgroup, launcher, init };
        host.wait_until_up();
        host
    }

    pub fn release(&self) -> &'static str {
        self.release
    }

    fn wait_until_up(&self) {
        eventually("the host is up", Duration::from_secs(60), || {
            let state = self.try_shell("systemctl is-system-running --wait", Duration::from_secs(60)).stdout;
            ["running", "degraded"].contains(&state.trim())
        });
    }

    /// Runs a shell script in the host, as root, at most for two minutes.
    #[track_caller]
    pub fn try_shell(&self, script: &str, limit: Duration) -> Outcome {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"]);
        command.args(["/bin/sh", "-c", script]).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root").env("LC_ALL", "C.UTF-8");
        command::bounded(command, b"", limit)
    }

    /// Runs a shell script that must succeed; gives its output without the last newline.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        let outcome = self.try_shell(script, Duration::from_secs(120));
        outcome.ok().line().to_owned()
    }

    /// Asserts that a shell script fails with this status; gives what it complained.
    #[track_caller]
    pub fn fails(&self, status: i32, script: &str) -> String {
        self.try_shell(script, Duration::from_secs(120)).fails(status).stderr
    }

    /// Makes a container of a guest without a network.
    #[track_caller]
    pub fn create(&self, name: &str, guest: Guest, more: &str) {
        let how = guest.create_arguments().join(" ");
        self.shell(&format!("lxm create {name} --network none {more} {how}"));
    }

    /// Makes and starts one, and waits until it has booted.
    #[track_caller]
    pub fn boot_guest(&self, name: &str, guest: Guest, more: &str) {
        self.create(name, guest, more);
        self.shell(&format!("lxm start {name} --wait booted --timeout 600s"));
    }

    /// A property of a container's unit.
    #[track_caller]
    pub fn property(&self, name: &str, property: &str) -> String {
        self.shell(&format!("systemctl show -p {property} --value lxm@{name}"))
    }

    /// The state that `lxm info` gives.
    #[track_caller]
    pub fn state(&self, name: &str) -> String {
        self.info(name, "state")
    }

    /// Pid of the guest's init, seen in the host.
    #[track_caller]
    pub fn leader(&self, name: &str) -> String {
        self.info(name, "pid")
    }

    /// Whether it starts with the host.
    #[track_caller]
    pub fn autostart(&self, name: &str) -> String {
        self.info(name, "autostart")
    }

    #[track_caller]
    fn info(&self, name: &str, field: &str) -> String {
        let text = self.shell(&format!("lxm info {name} --format json"));
        let info: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let value = &info[field];
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    /// Adds settings to a container's configuration, as an editor would.
    #[track_caller]
    pub fn configure(&self, name: &str, toml: &str) {
        let file = self.work.join("containers").join(name).join("config.toml");
        let mut text = fs::read_to_string(&file).expect("read the configuration");
        text.push_str(toml);
        fs::write(&file, text).expect("write the configuration");
    }

    /// Writes a file of a stopped guest that was made with `--storage dir`.
    #[track_caller]
    pub fn guest_file(&self, name: &str, path: &str, text: &str) {
        let file = self.work.join("containers").join(name).join("rootfs").join(path);
        fs::write(&file, text).unwrap_or_else(|e| panic!("write {}: {e}", file.display()));
    }

    #[track_caller]
    pub fn wait_for(&self, what: &str, claim: impl Fn(&Self) -> bool) {
        eventually(what, Duration::from_secs(60), || claim(self));
    }

    #[track_caller]
    pub fn wait_active(&self, name: &str) {
        self.wait_for("the unit is active", |host| host.property(name, "ActiveState") == "active");
    }

    #[track_caller]
    pub fn wait_inactive(&self, name: &str) {
        self.wait_for("the unit is inactive", |host| host.property(name, "ActiveState") == "inactive");
    }

    /// The last words of the host's journal.
    pub fn journal(&self) -> String {
        let told = self.try_shell("journalctl -b --no-pager -n 150 -o short-monotonic", Duration::from_secs(20));
        told.stdout
    }

    /// Shuts the host down as its admin would, and boots it again from the same disk.
    pub fn reboot(&mut self) {
        self.shut_down();
        remove_cgroups(&self.cgroup);
        (self.launcher, self.init) = launch(&self.lower, &self.work, &self.cgroup);
        self.wait_until_up();
    }

    /// Shuts it down in order; fails when that takes longer than two minutes.
    pub fn shut_down(&mut self) {
        // The connection ends under the client, so its status says nothing.
        let _ = self.try_shell("systemctl poweroff", Duration::from_secs(60));
        let ended = command::wait(&mut self.launcher, Duration::from_secs(120));
        assert!(ended.is_some(), "the host does not shut down\n{}", self.journal());
    }
}

impl Drop for SystemdHost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // It may be the journal that does not answer.
            let journal = catch_unwind(AssertUnwindSafe(|| self.journal()));
            eprintln!("--- journal of the host\n{}", journal.unwrap_or_default());
        }
        // Its PID 1 dies with the launcher, and everything in it with PID 1; mounts go with the
        // mount namespace, and links with the network namespace.
        self.launcher.kill().ok();
        self.launcher.wait().ok();
        fs::write(self.cgroup.join("cgroup.kill"), "1").ok();
        remove_cgroups(&self.cgroup);
        fs::remove_dir_all(&self.work).ok();
    }
}

/// How `lxm` is on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// The program that is tested, with units and templates where the package puts them.
    Files,
    /// Not at all. Packages of it are in /srv/packages: `lxm_1_*.deb` and, newer, `lxm_2_*.deb`.
    Nothing,
}

/// A directory with two packages of the program that is tested, the same but for the version.
fn packages() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = tempfile::tempdir_in("/var/tmp").expect("make a temporary directory");
        for version in ["1", "2"] {
            rootfs::package(&program(), version, dir.path()).unwrap_or_else(|e| panic!("{e}"));
        }
        dir
    });
    made.path()
}

/// Puts units and templates where the package puts them.
fn furnish(upper: &Path) {
    let copy = |from: &str, to: &str| {
        let to = upper.join(to);
        fs::create_dir_all(&to).expect("make a directory");
        let mut command = Command::new("cp");
        command.arg("-r").arg(source_tree().join(from).join(".")).arg(&to);
        command::bounded(command, b"", Duration::from_secs(20)).ok();
    };
    copy("units/system", "usr/lib/systemd/system");
    copy("units/system-preset", "usr/lib/systemd/system-preset");
    copy("units/network", "usr/lib/systemd/network");
    copy("units/tmpfiles.d", "usr/lib/tmpfiles.d");
    copy("units/sysusers.d", "usr/lib/sysusers.d");
    copy("templates", "usr/share/lxm/templates");
    // The journal is kept over a reboot, as on a host with an admin.
    fs::create_dir_all(upper.join("var/log/journal")).expect("make the journal's directory");
}

#[expect(clippy::zombie_processes, reason = "the host that is made of it waits for it")]
fn launch(lower: &Path, work: &Path, cgroup: &Path) -> (Child, u32) {
    fs::create_dir_all(cgroup).expect("make the host's cgroup");
    let log = fs::File::options().create(true).append(true).open(work.join("boot.log")).expect("open the boot log");
    let error = log.try_clone().expect("duplicate a descriptor");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]).arg(cgroup);
    command.arg(source_tree().join("tests/systemd/boot-host")).arg(lower).arg(work);
    let mut launcher = command.stdin(Stdio::null()).stdout(log).stderr(error).spawn().expect("run boot-host");
    let deadline = Deadline::after(Duration::from_secs(20));
    loop {
        if let Some(init) = child_of(launcher.id()).filter(|pid| is_systemd(*pid)) {
            return (launcher, init);
        }
        if deadline.has_passed() {
            launcher.kill().ok();
            launcher.wait().ok();
            let said = fs::read_to_string(work.join("boot.log")).unwrap_or_default();
            panic!("the host's PID 1 did not start:\n{said}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn is_systemd(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "systemd")
}

fn remove_cgroups(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    // The dead are reaped within moments; until then their group is busy.
    let deadline = Deadline::after(Duration::from_secs(5));
    while dir.exists() && fs::remove_dir(dir).is_err() && !deadline.has_passed() {
        std::thread::sleep(Duration::from_millis(5));
    }
}
