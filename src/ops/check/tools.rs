//! The programs that lxm runs.

use std::fs;

use super::{CheckResult, CheckVerdict};
use crate::sys::program::find_program;
use crate::systemd;

/// The oldest systemd whose interfaces lxm uses: Debian 12's.
const SYSTEMD_FLOOR: u32 = 252;

/// One of the programs will do; the Debian package that brings the first; what does not work without.
const TOOLS: [(&[&str], &str, CheckVerdict, &str); 6] = [
    (&["nft"], "nftables", CheckVerdict::Missing, "addresses are not translated, ports not published"),
    (
        &["mmdebstrap", "debootstrap"],
        "mmdebstrap",
        CheckVerdict::Lacks,
        "the templates `debian` and `ubuntu` do not work",
    ),
    (&["gpgv", "sqv"], "gpgv", CheckVerdict::Lacks, "signatures of archives cannot be checked"),
    (&["ssh"], "openssh-client", CheckVerdict::Lacks, "no `lxm ssh`"),
    (&["ssh-keygen"], "openssh-client", CheckVerdict::Lacks, "guests get no ssh host keys"),
    (&["busybox"], "busybox-static", CheckVerdict::Lacks, "no systems from the template `busybox`"),
];

pub(super) fn checks() -> Vec<CheckResult> {
    let mut checks: Vec<CheckResult> = TOOLS.iter().map(tool).collect();
    checks.push(manager());
    checks
}

fn tool((programs, package, without, lost): &(&[&str], &str, CheckVerdict, &str)) -> CheckResult {
    match programs.iter().find(|program| find_program(program).is_some()) {
        Some(program) => CheckResult::ok("tools", programs[0], *program),
        None => CheckResult::not(
            *without,
            "tools",
            programs[0],
            format!("`{}` is not installed: {lost}", programs.join("` or `")),
            format!("`apt install {package}`"),
        ),
    }
}

/// Who keeps the supervisors here.
fn manager() -> CheckResult {
    if !systemd::is_running() {
        let init = fs::read_to_string("/proc/1/comm").unwrap_or_default();
        return CheckResult::ok("host", "manager", format!("a bare host: PID 1 is `{}`, not systemd", init.trim()));
    }
    let version = systemd_version();
    match version {
        Some(version) if version < SYSTEMD_FLOOR => CheckResult::not(
            CheckVerdict::Missing,
            "host",
            "manager",
            format!("systemd {version}; lxm needs {SYSTEMD_FLOOR}"),
            "upgrade the host: Debian 12 and Ubuntu 24.04 will do",
        ),
        Some(version) => CheckResult::ok("host", "manager", format!("systemd {version}")),
        None => CheckResult::ok("host", "manager", "systemd"),
    }
}

/// `systemd 252 (252.22-1~deb12u1)`
fn systemd_version() -> Option<u32> {
    let output = std::process::Command::new("systemctl").arg("--version").output().ok()?;
    String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1)?.parse().ok()
}
