//! The suite on hosts whose PID 1 is systemd: the real systemd, D-Bus, machined and journald of
//! Debian releases, booted in namespaces, with `systemctl`, `machinectl` and `journalctl` as the
//! clients. Every trial has a host of its own.
//!
//! `cargo test --test systemd` runs it; `-- bookworm::` or `-- machined` selects. The newest
//! systemd, which may break any day, is asked for by `LXM_TESTS_SID=1`.

mod host;
mod rootfs;
#[path = "../host/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the harness of the bare hosts has more than these trials use")]
mod support;

mod autostart;
mod harness;
mod lifecycle;
mod machined;
mod netserve;
mod network;
mod package;
mod signals;
mod trouble;
mod unit;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use host::{Installed, SystemdHost};
use support::Guest;

/// One claim, tried on every release of the host.
pub struct Trial {
    pub name: &'static str,
    pub body: fn(&mut SystemdHost),
    pub guests: &'static [Guest],
    pub installed: Installed,
}

impl Trial {
    /// On a host that has the program that is tested.
    fn new(name: &'static str, guests: &'static [Guest], body: fn(&mut SystemdHost)) -> Self {
        Trial { name, body, guests, installed: Installed::Files }
    }
}

fn trials() -> Vec<Trial> {
    [
        harness::trials(),
        lifecycle::trials(),
        machined::trials(),
        netserve::trials(),
        network::trials(),
        trouble::trials(),
        signals::trials(),
        unit::trials(),
        autostart::trials(),
        package::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn releases() -> Vec<&'static str> {
    let newest = std::env::var_os("LXM_TESTS_SID").is_some_and(|value| value == "1");
    if newest { vec!["sid"] } else { vec!["bookworm", "trixie"] }
}

/// Why these trials cannot run on this machine, if they cannot.
fn lacking() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = |tool: &&str| !std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    ["mmdebstrap", "unshare", "nsenter", "dpkg-deb", "strip"]
        .iter()
        .find(|tool| missing(tool))
        .map(|tool| format!("needs the program {tool}"))
}

fn run(release: &'static str, trial: &Trial) -> Result<(), libtest_mimic::Failed> {
    let begun = Instant::now();
    let told = catch_unwind(AssertUnwindSafe(|| {
        let mut host = SystemdHost::boot(release, trial.guests, trial.installed);
        (trial.body)(&mut host);
    }));
    eprintln!("{:5.1}s {release}::{}", begun.elapsed().as_secs_f64(), trial.name);
    told.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        text.unwrap_or("it panicked").into()
    })
}

fn main() -> ExitCode {
    let args = libtest_mimic::Arguments::from_args();
    let lacking = lacking();
    let must_run = std::env::var_os("LXM_TESTS_MUST_RUN").is_some_and(|value| value == "1");
    let mut tests = Vec::new();
    for release in releases() {
        for trial in trials() {
            let name = format!("{release}::{}", trial.name);
            tests.push(match lacking.clone() {
                None => libtest_mimic::Trial::test(name, move || run(release, &trial)),
                Some(reason) if must_run => {
                    libtest_mimic::Trial::test(name, move || Err(format!("may not be skipped, yet it {reason}").into()))
                }
                Some(reason) => libtest_mimic::Trial::test(name, || Ok(())).with_kind(reason).with_ignored_flag(true),
            });
        }
    }
    if let (Some(reason), false) = (lacking, args.list) {
        eprintln!("skip the systemd hosts: {reason}");
    }
    libtest_mimic::run(&args, tests).exit_code()
}
