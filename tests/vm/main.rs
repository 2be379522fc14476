//! The suite on a whole machine: Debian 12 in qemu, with the built package installed.
//!
//! `cargo test --test vm` runs it. One machine carries all the claims, in the order of an admin's
//! day, since booting one costs as much as most of them together.

mod confined;
mod day;
mod links;
mod machine;
#[path = "../systemd/rootfs.rs"]
#[allow(dead_code, reason = "shared with the suite of the systemd hosts")]
mod rootfs;
mod storage;
#[path = "../host/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the harness of the bare hosts has more than these trials use")]
mod support;

use std::process::ExitCode;

/// Why these trials cannot run on this machine, if they cannot.
fn lacking() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = |tool: &&str| !std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let tools = ["mmdebstrap", "qemu-system-x86_64", "mkfs.ext4"];
    tools.iter().find(|tool| missing(tool)).map(|tool| format!("needs the program {tool}"))
}

fn main() -> ExitCode {
    let args = libtest_mimic::Arguments::from_args();
    let must_run = std::env::var_os("LXM_TESTS_MUST_RUN").is_some_and(|value| value == "1");
    let test = match lacking() {
        None => libtest_mimic::Trial::test("vm::a_day", || {
            Ok(std::panic::catch_unwind(day::a_day).map_err(|_| "it panicked")?)
        }),
        Some(reason) if must_run => {
            libtest_mimic::Trial::test("vm::a_day", move || Err(format!("may not be skipped, yet it {reason}").into()))
        }
        Some(reason) => {
            eprintln!("skip the machine: {reason}");
            libtest_mimic::Trial::test("vm::a_day", || Ok(())).with_kind(reason).with_ignored_flag(true)
        }
    };
    libtest_mimic::run(&args, vec![test]).exit_code()
}
