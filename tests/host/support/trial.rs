//! What a trial is, what it needs, and how it becomes a test of libtest-mimic.

use std::time::Duration;

use super::{Guest, Sandbox, isolate};

/// One claim about lxm on a real host.
pub struct Trial {
    pub name: &'static str,
    pub body: fn(&Sandbox),
    pub needs: Vec<Need>,
    pub guests: Vec<Guest>,
    pub limit: Duration,
}

impl Trial {
    pub fn new(name: &'static str, body: fn(&Sandbox)) -> Self {
        Trial { name, body, needs: vec![Need::Root], guests: Vec::new(), limit: Duration::from_secs(60) }
    }

    /// Skipped, with the reason, on a machine that lacks it.
    pub fn needs(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    /// A root file system that is made ready before the trial's time starts to run.
    pub fn guest(mut self, guest: Guest) -> Self {
        self.needs.extend(guest.needs());
        self.guests.push(guest);
        self
    }

    /// After this many seconds of a quiet machine the trial is killed and has failed; 60 unless told.
    pub fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Why it cannot run here, if it cannot.
    fn lacks(&self) -> Option<String> {
        self.needs.iter().find_map(Need::lacks)
    }
}

/// Something of the machine that not every machine has.
#[derive(Clone, Copy)]
pub enum Need {
    Root,
    /// A program in `PATH`.
    Tool(&'static str),
    /// A file system type in the kernel.
    FileSystem(&'static str),
}

impl Need {
    fn lacks(&self) -> Option<String> {
        match self {
            Need::Root => (!nix::unistd::geteuid().is_root()).then(|| "needs root".into()),
            Need::Tool(name) => (!in_path(name)).then(|| format!("needs the program {name}")),
            Need::FileSystem(name) => {
                let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
                let has = known.lines().any(|line| line.split_whitespace().last() == Some(name));
                (!has).then(|| format!("needs the file system {name} in the kernel"))
            }
        }
    }
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Makes libtest-mimic's tests of trials; also gives the names of the skipped ones and why.
///
/// Skips are decided here, when the list is made, and not while running: nextest would count a
/// trial that skips itself as passed.
pub fn into_tests(
    trials: Vec<Trial>,
    may_not_be_skipped: &[&str],
) -> (Vec<libtest_mimic::Trial>, Vec<(&'static str, String)>) {
    let must_run = std::env::var_os("LXM_TESTS_MUST_RUN").is_some_and(|value| value == "1");
    let mut skipped = Vec::new();
    let mut tests = Vec::new();
    for trial in trials {
        let name = trial.name;
        let required = must_run && may_not_be_skipped.iter().any(|prefix| name.starts_with(prefix));
        tests.push(match trial.lacks() {
            None => libtest_mimic::Trial::test(name, move || Ok(isolate::run(&trial)?)),
            Some(reason) if required => {
                libtest_mimic::Trial::test(name, move || Err(format!("may not be skipped, yet it {reason}").into()))
            }
            Some(reason) => {
                skipped.push((name, reason.clone()));
                libtest_mimic::Trial::test(name, || Ok(())).with_kind(reason).with_ignored_flag(true)
            }
        });
    }
    (tests, skipped)
}
