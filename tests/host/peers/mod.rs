//! Scenarios of other container managers' own suites, on guests of lxm's.
//!
//! A file is one list of one peer, and a trial bears the name of its scenario there. Which scenario is
//! tried where, and which ones do not apply and why: docs/PEERS-SCENARIOS.md.

mod nspawn;
mod runc_dev;
mod runc_groups;
mod runc_mask;
mod runc_mounts;
mod runc_userns;

use std::fs;
use std::path::Path;

use crate::support::{Guest, Outcome, Sandbox, Trial};

pub fn trials() -> Vec<Trial> {
    let lists = [
        nspawn::trials(),
        runc_dev::trials(),
        runc_groups::trials(),
        runc_mask::trials(),
        runc_mounts::trials(),
        runc_userns::trials(),
    ];
    lists.into_iter().flatten().collect()
}

fn busybox(name: &'static str, body: fn(&Sandbox)) -> Trial {
    Trial::new(name, body).guest(Guest::Busybox)
}

/// Runs a script as the root of the guest `p`.
#[track_caller]
fn inside(sandbox: &Sandbox, script: &str) -> Outcome {
    sandbox.lxm(&["attach", "p", "--", "sh", "-c", script])
}

/// Adds to the configuration of the container `p`, as an editor would.
fn configure(sandbox: &Sandbox, toml: &str) {
    let file = sandbox.layout().config_file(&"p".parse().unwrap());
    fs::write(&file, format!("{}\n{toml}\n", fs::read_to_string(&file).unwrap())).unwrap();
}

/// Shows a file or directory of the host in the guest `p` from its next start on.
fn show(sandbox: &Sandbox, source: &Path, target: &str, more: &str) {
    configure(sandbox, &format!("[[mount]]\nsource = \"{}\"\ntarget = \"{target}\"\n{more}", source.display()));
}
