//! What the host's control groups can do.

use std::fs;
use std::path::Path;

use super::{CheckResult, CheckVerdict};
use crate::cgroup::{CgroupLayout, Hierarchies};
use crate::error::Result;
use crate::systemd;

/// A controller, its name in v1 and what does not work without it.
const CONTROLLERS: [(&str, &str, &str); 5] = [
    ("memory", "memory", "`limits.memory`, and the memory in `info`"),
    ("pids", "pids", "`limits.pids`: a guest can fill the host's table of processes"),
    ("cpu", "cpu", "`limits.cpus` and `limits.cpu-weight`"),
    ("cpuset", "cpuset", "`limits.cpuset`"),
    ("io", "blkio", "`limits.io-weight`, and the input and output in `info`"),
];

pub(super) fn checks() -> Result<Vec<CheckResult>> {
    let hierarchies = Hierarchies::detect()?;
    let mut checks = vec![layout(&hierarchies)];
    let Some(unified) = &hierarchies.unified else { return Ok(checks) };
    checks.push(writable(unified));
    let v2 = fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
    checks.extend(CONTROLLERS.map(|(name, v1, what)| {
        let id = format!("cgroup-{name}");
        if v2.split_whitespace().any(|controller| controller == name) {
            CheckResult::ok("cgroups", id, "v2")
        } else if hierarchies.v1.contains_key(v1) {
            CheckResult::ok("cgroups", id, "v1")
        } else {
            let remedy = format!("boot with a kernel that has it, without `cgroup_disable={name}`");
            CheckResult::not(CheckVerdict::Lacks, "cgroups", id, format!("without it: {what}"), remedy)
        }
    }));
    checks.extend(stray_v1_mount(&hierarchies));
    Ok(checks)
}

fn layout(hierarchies: &Hierarchies) -> CheckResult {
    match hierarchies.layout() {
        CgroupLayout::Unified => CheckResult::ok("cgroups", "cgroup-layout", "version 2"),
        CgroupLayout::Hybrid if systemd::is_running() => CheckResult::not(
            CheckVerdict::Lacks,
            "cgroups",
            "cgroup-layout",
            "hybrid: systemd cannot hold all limits for lxm",
            "boot with `systemd.unified_cgroup_hierarchy=1`",
        ),
        CgroupLayout::Hybrid => CheckResult::ok("cgroups", "cgroup-layout", "hybrid: version 2 beside version 1"),
        CgroupLayout::Legacy => CheckResult::not(
            CheckVerdict::Missing,
            "cgroups",
            "cgroup-layout",
            "version 1 alone",
            "boot with `systemd.unified_cgroup_hierarchy=1`; without systemd, \
             `mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified`",
        ),
    }
}

fn writable(unified: &Path) -> CheckResult {
    use nix::unistd::{AccessFlags, access};
    if !nix::unistd::geteuid().is_root() || access(unified, AccessFlags::W_OK).is_ok() {
        return CheckResult::ok("cgroups", "cgroup-tree", unified.display().to_string());
    }
    CheckResult::not(
        CheckVerdict::Missing,
        "cgroups",
        "cgroup-tree",
        format!("`{}` is read-only", unified.display()),
        "if this host is a container, its manager must delegate a cgroup to it",
    )
}

/// A VPN client or an old script that mounts a v1 hierarchy beside version 2 takes its controller away from
/// the v2 tree (PEERS 2, item 1).
fn stray_v1_mount(hierarchies: &Hierarchies) -> Option<CheckResult> {
    let on_unified_host = hierarchies.unified.as_deref() == Some(Path::new("/sys/fs/cgroup"));
    let (controller, mount) = hierarchies.v1.first_key_value().filter(|_| on_unified_host)?;
    Some(CheckResult::not(
        CheckVerdict::Lacks,
        "cgroups",
        "cgroup-stray",
        format!("the v1 hierarchy of `{controller}` is mounted at `{}`", mount.display()),
        format!("`umount {}`, and have its owner not do it again", mount.display()),
    ))
}
