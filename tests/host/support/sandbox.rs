//! What a trial is given: a host of its own, with `lxm` on it.

use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Guest, Outcome, Trial, command, leaks, pace::Deadline};

/// A bare host of its own: its namespaces are the trial's, its files are below [`Sandbox::root`].
pub struct Sandbox {
    root: PathBuf,
    /// What its host had before the trial.
    before: leaks::Snapshot,
}

impl Sandbox {
    /// Runs a trial's body and the leak check in this process; says whether both were content.
    pub fn run(trial: &Trial, root: PathBuf) -> bool {
        furnish(&root, &trial.guests);
        let sandbox = Sandbox { root, before: leaks::Snapshot::take() };
        let passed = catch_unwind(AssertUnwindSafe(|| {
            (trial.body)(&sandbox);
            sandbox.remove_containers();
            sandbox.check_leaks();
        }));
        passed.is_ok()
    }

    /// Fails the trial when anything of ours is left on its host.
    #[track_caller]
    pub fn check_leaks(&self) {
        leaks::check(self, &self.before, Duration::from_secs(2));
    }

    /// `LXM_ROOT`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path below `LXM_ROOT`.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join(below)
    }

    /// Runs `lxm` with these arguments, at most for a minute.
    #[track_caller]
    #[must_use = "assert the exit status: `.ok()` or `.fails(STATUS)`"]
    pub fn lxm<S: AsRef<OsStr>>(&self, args: &[S]) -> Outcome {
        self.lxm_with(args, b"", Duration::from_secs(60))
    }

    /// Runs `lxm` with something to read, at most for `limit`.
    #[track_caller]
    #[must_use = "assert the exit status: `.ok()` or `.fails(STATUS)`"]
    pub fn lxm_with<S: AsRef<OsStr>>(&self, args: &[S], input: &[u8], limit: Duration) -> Outcome {
        let mut command = self.command();
        command.args(args);
        command::bounded(command, input, limit)
    }

    /// `lxm` without arguments yet, in the environment that every trial gives it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(program());
        self.environment(&mut command);
        command
    }

    pub fn environment(&self, command: &mut Command) {
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("LXM_ROOT", &self.root).env("LXM_TEMPLATES", source_tree().join("templates"));
        command.env("HOME", self.root.join("home")).env("LC_ALL", "C.UTF-8").current_dir("/");
    }

    /// Makes a container of a guest, without a network; further arguments go to `lxm create`.
    #[track_caller]
    pub fn create(&self, name: &str, guest: Guest, more: &[&str]) {
        let mut args: Vec<String> = ["create", name, "--network", "none"].map(String::from).into();
        args.extend(more.iter().map(|arg| arg.to_string()));
        args.extend(guest.create_arguments());
        let limit = Duration::from_secs(120);
        self.lxm_with(&args, b"", limit).ok();
    }

    /// Makes and starts one, and waits until its init says that it has booted.
    #[track_caller]
    pub fn boot(&self, name: &str, guest: Guest, more: &[&str]) {
        self.create(name, guest, more);
        // How long it may take is the harness' to say.
        let start = ["start", name, "--wait", "booted", "--timeout", "600s"];
        self.lxm_with(&start, b"", Duration::from_secs(120)).ok();
        if guest == Guest::Probe {
            // No init that lxm knows, so it is not asked when it is ready.
            eventually("the probe reports", Duration::from_secs(10), || self.console_log(name).contains("PROBE {"));
        }
    }

    /// A field of `lxm info --format json`.
    #[track_caller]
    pub fn info(&self, name: &str, field: &str) -> serde_json::Value {
        self.lxm(&["info", name, "--format", "json"]).ok().json()[field].clone()
    }

    /// Pid of the guest's init, seen from the host.
    #[track_caller]
    pub fn leader(&self, name: &str) -> i32 {
        self.info(name, "pid").as_i64().unwrap_or_else(|| panic!("`{name}` has no leader")) as i32
    }

    #[track_caller]
    pub fn supervisor(&self, name: &str) -> i32 {
        let pid = self.info(name, "supervisor_pid").as_i64();
        pid.unwrap_or_else(|| panic!("`{name}` has no supervisor")) as i32
    }

    /// What the guest's console has shown since the container was made.
    #[track_caller]
    pub fn console_log(&self, name: &str) -> String {
        self.lxm(&["logs", name]).ok().stdout
    }

    /// Destroys what the trial made, as an admin would, so that what is left then is a leak.
    fn remove_containers(&self) {
        let layout = self.layout();
        for name in layout.names().expect("list the containers") {
            self.lxm(&["destroy", "-f", &name.to_string()]).ok();
        }
        for link in leaks::links() {
            // A bridge that a container asked for stays until it is taken down.
            if link == "lxmbr0" {
                self.lxm(&["network", "down"]).ok();
            }
        }
    }

    pub fn layout(&self) -> lxm::testing::store::Layout {
        lxm::testing::store::Layout::new(&self.root)
    }
}

/// What a host has before lxm is used on it.
fn furnish(root: &Path, guests: &[Guest]) {
    run_checked("ip", &["link", "set", "lo", "up"]);
    for guest in guests {
        guest.offer(root);
    }
}

/// The `lxm` under test: the one that cargo built, or the installed one that `LXM_BIN` names.
pub fn program() -> PathBuf {
    std::env::var_os("LXM_BIN").map_or_else(|| env!("CARGO_BIN_EXE_lxm").into(), PathBuf::from)
}

pub fn source_tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program of the host that must work.
#[track_caller]
pub fn run_checked(program: &str, args: &[&str]) -> String {
    command::run(program, args).ok().stdout
}

/// Waits until `claim` holds, at most for `limit` of a quiet machine's time.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut claim: impl FnMut() -> bool) {
    let deadline = Deadline::after(limit);
    while !claim() {
        assert!(!deadline.has_passed(), "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
