//! The privileged suite: every trial is run by root on the real kernel, in namespaces of its own,
//! and ends with a check that nothing of ours is left.
//!
//! `cargo test --test host` runs it; `-- boot::` selects. `support` is the harness, and each other
//! module is the trials of one area.

mod attach;
mod autostart;
mod boot;
mod contract;
mod crash;
mod distributions;
mod download;
#[path = "../escape/mod.rs"]
mod escape;
mod faults;
mod firewalls;
mod guests;
mod harness;
mod image;
mod import;
mod json;
mod lifecycle;
mod many;
mod meaning;
mod neighbours;
mod nesting;
mod netserve;
mod network;
mod peers;
mod storage;
mod support;
mod template;
mod verbs;
mod wiring;

use std::process::ExitCode;

use support::{Trial, isolate};

/// Trials that a machine which runs the suite for real (`LXM_TESTS_MUST_RUN=1`, as `make test`
/// sets it for root) may not skip: a name, or the beginning of names.
#[rustfmt::skip]
const MAY_NOT_BE_SKIPPED: &[&str] = &[
    "attach::",
    "download::",
    "boot::",
    "contract::",
    "create::",
    "crash::",
    "distributions::",
    "escape::",
    "firewalls::",
    "guests::",
    "harness::",
    "image::",
    "import::",
    "json::",
    "lifecycle::",
    "many::",
    "neighbours::",
    "meaning::",
    "netserve::",
    "nesting::",
    "network::",
    "peers::",
    "storage::",
    "template::",
    "verbs::",
    "wiring::",
];

fn trials() -> Vec<Trial> {
    let areas = [
        harness::trials(),
        firewalls::trials(),
        image::trials(),
        import::trials(),
        json::trials(),
        contract::trials(),
        autostart::trials(),
        boot::trials(),
        attach::trials(),
        lifecycle::trials(),
        many::trials(),
        neighbours::trials(),
        meaning::trials(),
        verbs::trials(),
        crash::trials(),
        distributions::trials(),
        download::trials(),
        escape::trials(),
        faults::trials(),
        guests::trials(),
        netserve::trials(),
        nesting::trials(),
        network::trials(),
        peers::trials(),
        storage::trials(),
        template::trials(),
        wiring::trials(),
    ];
    areas.into_iter().flatten().collect()
}

fn main() -> ExitCode {
    let trials = trials();
    if let Some(code) = isolate::run_role(&trials) {
        return code;
    }
    let args = libtest_mimic::Arguments::from_args();
    let (tests, skipped) = support::trial::into_tests(trials, MAY_NOT_BE_SKIPPED);
    if !args.list {
        for (name, reason) in &skipped {
            eprintln!("skip {name}: {reason}");
        }
    }
    libtest_mimic::run(&args, tests).exit_code()
}
