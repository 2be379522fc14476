//! A container's limits as the kernel's files know them, v2 and v1.

use std::path::Path;

use super::Hierarchies;
use crate::config::Limits;
use crate::error::{Context, Error, Result};
use crate::types::Size;

/// The group of a privileged guest below the v1 group that its limits are set on.
pub(super) const V1_GUEST: &str = "payload";

/// Length of a cpu quota period, the kernel's default, in microseconds.
const PERIOD_US: u64 = 100_000;

/// File and value for each limit in the v2 tree.
fn v2_files(limits: &Limits) -> Vec<(&'static str, String)> {
    let quota = |cpus: f64| format!("{} {PERIOD_US}", (cpus * PERIOD_US as f64) as u64);
    let files = [
        ("memory.max", limits.memory.map(|size| size.bytes().to_string())),
        ("memory.high", limits.memory_high.map(|size| size.bytes().to_string())),
        ("memory.swap.max", limits.swap.map(|size| size.bytes().to_string())),
        ("cpu.max", limits.cpus.map(quota)),
        ("cpu.weight", limits.cpu_weight.map(|weight| weight.to_string())),
        ("cpuset.cpus", limits.cpuset.clone()),
        ("pids.max", Some(limits.pids.to_string())),
        ("io.weight", limits.io_weight.map(|weight| weight.to_string())),
    ];
    files.into_iter().filter_map(|(file, value)| Some((file, value?))).collect()
}

/// Controller, file and value for each limit in the v1 hierarchies.
fn v1_files(limits: &Limits) -> Vec<(&'static str, &'static str, String)> {
    // Version 1 limits memory and swap together; without a memory limit there is nothing to add to.
    let both = limits.memory.zip(limits.swap).map(|(memory, swap)| (memory.bytes() + swap.bytes()).to_string());
    let files = [
        ("memory", "memory.limit_in_bytes", limits.memory.map(|size| size.bytes().to_string())),
        ("memory", "memory.memsw.limit_in_bytes", both),
        ("cpu", "cpu.cfs_quota_us", limits.cpus.map(|cpus| ((cpus * PERIOD_US as f64) as u64).to_string())),
        // Weight 100 is 1024 shares.
        ("cpu", "cpu.shares", limits.cpu_weight.map(|weight| (weight * 1024 / 100).max(2).to_string())),
        ("cpuset", "cpuset.cpus", limits.cpuset.clone()),
        // The supervisor shares the group: one more.
        ("pids", "pids.max", Some((limits.pids + 1).to_string())),
        ("blkio", "blkio.bfq.weight", limits.io_weight.map(|weight| weight.min(1000).to_string())),
    ];
    files.into_iter().filter_map(|(controller, file, value)| Some((controller, file, value?))).collect()
}

/// What each file says where nothing is limited.
const V2_DEFAULTS: [(&str, &str); 7] = [
    ("memory.max", "max"),
    ("memory.high", "max"),
    ("memory.swap.max", "max"),
    ("cpu.max", "max"),
    ("cpu.weight", "100"),
    ("cpuset.cpus", ""),
    ("io.weight", "100"),
];

/// As [`V2_DEFAULTS`]. Memory with swap comes first: it may never be below memory alone.
const V1_DEFAULTS: [(&str, &str, &str); 5] = [
    ("memory", "memory.memsw.limit_in_bytes", "-1"),
    ("memory", "memory.limit_in_bytes", "-1"),
    ("cpu", "cpu.cfs_quota_us", "-1"),
    ("cpu", "cpu.shares", "1024"),
    ("blkio", "blkio.bfq.weight", "100"),
];

/// Takes all limits of `group` away, those of `pids` apart, which are always set.
pub(super) fn lift(hierarchies: &Hierarchies, group: &str) -> Result<()> {
    if let Some(unified) = &hierarchies.unified {
        for (file, value) in V2_DEFAULTS {
            write_limit(&unified.join(group).join(file), value)?;
        }
    }
    for (controller, file, value) in V1_DEFAULTS {
        if let Some(dir) = hierarchies.v1_dir(controller, group) {
            write_limit(&dir.join(file), value)?;
        }
    }
    // A v1 set of processors is never empty: it has its parent's.
    if let Some(dir) = hierarchies.v1_dir("cpuset", group)
        && let Some(parent) = dir.parent()
        && let Ok(all) = std::fs::read_to_string(parent.join("cpuset.cpus"))
    {
        // A group's processors are always among its parent's: the outer ones grow first.
        write_limit(&dir.join("cpuset.cpus"), all.trim())?;
        write_limit(&dir.join(V1_GUEST).join("cpuset.cpus"), all.trim())?;
    }
    Ok(())
}

/// Sets the limits of the v2 group `dir`. A limit whose controller is elsewhere is not for here.
pub(super) fn apply_v2(dir: &Path, limits: &Limits) -> Result<()> {
    for (file, value) in v2_files(limits) {
        write_limit(&dir.join(file), &value)?;
    }
    Ok(())
}

/// Sets the limits of `group` in the v1 hierarchies that hold their controllers.
pub(super) fn apply_v1(hierarchies: &Hierarchies, group: &str, limits: &Limits) -> Result<()> {
    for (controller, file, value) in v1_files(limits) {
        if let Some(dir) = hierarchies.v1_dir(controller, group) {
            if file == "cpuset.cpus" {
                // The inner ones shrink first.
                write_limit(&dir.join(V1_GUEST).join(file), &value)?;
            }
            write_limit(&dir.join(file), &value)?;
        }
    }
    Ok(())
}

fn write_limit(file: &Path, value: &str) -> Result<()> {
    match super::write_control(file, value) {
        Err(e) if super::is_gone(&e) => Ok(()),
        other => other.context(|| format!("set `{}` to {value}", file.display())).map_err(|e| {
            // What it holds could not be taken back (mem_cgroup_resize_max, mm/memcontrol-v1.c).
            let used = file.parent().and_then(|dir| super::stats::number(&dir.join("memory.usage_in_bytes")));
            if let (Some(libc::EBUSY), Some(used), Ok(limit)) = (e.errno(), used, value.parse()) {
                below_use(used, limit)
            } else if matches!(e.errno(), Some(libc::EINVAL | libc::ERANGE)) {
                e.with_kind(crate::error::Kind::Config)
            } else {
                e
            }
        }),
    }
}

/// What this host has to hold limits with.
#[derive(Debug)]
pub(crate) struct Controllers {
    hierarchies: Hierarchies,
    /// Those of the v2 tree.
    unified: String,
}

impl Controllers {
    /// `None` where no control groups are seen.
    pub(crate) fn of_host() -> Option<Self> {
        let hierarchies = Hierarchies::detect().ok()?;
        let unified = std::fs::read_to_string(hierarchies.unified.as_ref()?.join("cgroup.controllers")).ok()?;
        Some(Controllers { hierarchies, unified })
    }

    /// Whether the controller is in a v1 hierarchy.
    pub(crate) fn is_v1(&self, controller: &str) -> bool {
        self.hierarchies.v1.contains_key(controller)
    }

    pub(crate) fn has(&self, controller: &str) -> bool {
        self.is_v1(controller) || self.unified.split_whitespace().any(|name| name == controller)
    }

    /// Fails as a start would.
    pub(crate) fn require(&self, limits: &Limits) -> Result<()> {
        require_controllers(&self.hierarchies, &self.unified, limits)
    }
}

/// Refuses a limit of memory below what a running container holds and the kernel could not take back:
/// it would kill for it (v2), or refuse with EBUSY (v1).
pub(crate) fn require_unused_memory(hierarchies: &Hierarchies, group: &str, limits: &Limits) -> Result<()> {
    let Some(limit) = limits.memory else { return Ok(()) };
    match super::stats::held_memory(hierarchies, group, limits.swap) {
        Some(held) if held > limit.bytes() => Err(below_use(held, limit.bytes())),
        _ => Ok(()),
    }
}

fn below_use(used: u64, limit: u64) -> Error {
    let [used, limit] = [used.next_multiple_of(1 << 20), limit].map(Size::from_bytes);
    Error::conflict(format!("`limits.memory` cannot be {limit}: the container uses {used} now"))
        .hint("stop some of its programs first, or set it while the container is stopped")
}

/// Fails with `Kind::HostLacks` where a limit is set that no controller of this host can hold.
pub(super) fn require_controllers(hierarchies: &Hierarchies, v2_controllers: &str, limits: &Limits) -> Result<()> {
    let wanted = [
        ("limits.memory", "memory", limits.memory.is_some()),
        ("limits.memory-high", "memory", limits.memory_high.is_some()),
        ("limits.cpus", "cpu", limits.cpus.is_some()),
        ("limits.cpu-weight", "cpu", limits.cpu_weight.is_some()),
        ("limits.cpuset", "cpuset", limits.cpuset.is_some()),
    ];
    let has = |controller: &str| {
        hierarchies.v1.contains_key(controller) || v2_controllers.split_whitespace().any(|name| name == controller)
    };
    match wanted.iter().find(|(_, controller, set)| *set && !has(controller)) {
        None => Ok(()),
        Some((key, controller, _)) => {
            Err(Error::host_lacks(format!("`{key}` is set, but this host has no `{controller}` cgroup controller"))
                .hint(format!("unset `{key}`, and it starts without the limit")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_each_version_reads_them() {
        let limits: Limits =
            toml::from_str("memory = \"1GiB\"\nswap = \"1GiB\"\ncpus = 1.5\ncpu-weight = 200\npids = 10").unwrap();
        let v2 = v2_files(&limits);
        assert!(v2.contains(&("cpu.max", "150000 100000".into())));
        assert!(v2.contains(&("memory.swap.max", (1u64 << 30).to_string())));
        let v1 = v1_files(&limits);
        assert!(v1.contains(&("memory", "memory.memsw.limit_in_bytes", (2u64 << 30).to_string())));
        assert!(v1.contains(&("cpu", "cpu.shares", "2048".into())));
        assert!(v1.contains(&("pids", "pids.max", "11".into())));
    }
}
