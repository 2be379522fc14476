//! What a container uses, read from the hierarchies that account for it.

use std::fs;
use std::path::{Path, PathBuf};

use super::Hierarchies;
use crate::types::Size;

/// What a container has used; `None` where this host does not account for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub cpu_ns: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// The kernel's memory on behalf of the guest; part of `memory_bytes`.
    pub kmem_bytes: Option<u64>,
    /// Read from and written to block devices.
    pub io_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// Reads all of it. `group` is the container's below each mount point (`lxm/web`).
///
/// In a v1 hierarchy the supervisor is in the group too (see the module's documentation).
pub(crate) fn read(hierarchies: &Hierarchies, group: &str) -> Stats {
    let v1 = |controller, file| hierarchies.v1_dir(controller, group).map(|dir| dir.join(file));
    let payload = payload(hierarchies, group);
    let v2 = |file| payload.as_ref().map(|dir| dir.join(file));
    // Version 2 accounts for time without any controller, and for the guest alone.
    let cpu = v2("cpu.stat").and_then(|file| keyed(&file, "usage_usec")).map(|us| us * 1000);
    Stats {
        cpu_ns: cpu.or_else(|| number(&v1("cpuacct", "cpuacct.usage")?)),
        memory_bytes: memory(hierarchies, group),
        kmem_bytes: match v1("memory", "memory.kmem.usage_in_bytes") {
            Some(file) => number(&file),
            None => v2("memory.stat").and_then(|file| kernel_memory(&fs::read_to_string(file).ok()?)),
        },
        io_bytes: match v1("blkio", "blkio.throttle.io_service_bytes") {
            Some(file) => fs::read_to_string(file).ok().map(|text| v1_io(&text)),
            None => v2("io.stat").and_then(|file| Some(v2_io(&fs::read_to_string(file).ok()?))),
        },
        pids: match v1("pids", "pids.current") {
            Some(file) => number(&file).map(|with_supervisor| with_supervisor.saturating_sub(1)),
            None => v2("pids.current").and_then(|file| number(&file)),
        },
    }
}

/// Reads the memory alone: `list` wants no more.
pub(crate) fn memory(hierarchies: &Hierarchies, group: &str) -> Option<u64> {
    match hierarchies.v1_dir("memory", group) {
        Some(dir) => number(&dir.join("memory.usage_in_bytes")),
        None => number(&payload(hierarchies, group)?.join("memory.current")),
    }
}

/// What of its memory is in no file, so that only swap could take it back; less what there is room for in swap,
/// of which it may have at most `swap_limit`.
pub(crate) fn held_memory(hierarchies: &Hierarchies, group: &str, swap_limit: Option<Size>) -> Option<u64> {
    let (dir, keys): (_, &[&str]) = match hierarchies.v1_dir("memory", group).filter(|dir| dir.is_dir()) {
        Some(dir) => (dir, &["total_rss", "total_shmem"]),
        None => (payload(hierarchies, group)?, &["anon", "shmem", "slab_unreclaimable"]),
    };
    let stat = fs::read_to_string(dir.join("memory.stat")).ok()?;
    let held: u64 = keys.iter().filter_map(|key| value_of(&stat, key)).sum();
    let swap = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("SwapFree:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    let room = (swap.unwrap_or_default() * 1024).min(swap_limit.map_or(u64::MAX, Size::bytes));
    Some(held.saturating_sub(room))
}

/// How many processes of the container the kernel has killed for want of memory, the supervisor included.
pub(crate) fn oom_kills(hierarchies: &Hierarchies, group: &str) -> u64 {
    let v2 = || Some(hierarchies.unified.as_ref()?.join(group).join("memory.events"));
    let file = hierarchies.v1_dir("memory", group).map(|dir| dir.join("memory.oom_control")).or_else(v2);
    file.and_then(|file| keyed(&file, "oom_kill")).unwrap_or_default()
}

/// The same, of the guest alone.
pub(crate) fn oom_kills_of_guest(hierarchies: &Hierarchies, group: &str) -> u64 {
    match hierarchies.v1_dir("memory", group) {
        Some(_) => oom_kills(hierarchies, group),
        // Made anew for each boot.
        None => oom_kills(hierarchies, &format!("{group}/payload")),
    }
}

fn payload(hierarchies: &Hierarchies, group: &str) -> Option<PathBuf> {
    Some(hierarchies.unified.as_ref()?.join(group).join("payload"))
}

pub(super) fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The value of `key` in a file of `key value` lines.
fn keyed(file: &Path, key: &str) -> Option<u64> {
    value_of(&fs::read_to_string(file).ok()?, key)
}

fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The kernel's part of memory.stat: one line since Linux 5.18, a sum before.
fn kernel_memory(stat: &str) -> Option<u64> {
    let parts = ["kernel_stack", "pagetables", "sock", "slab"];
    value_of(stat, "kernel").or_else(|| parts.iter().map(|part| value_of(stat, part)).sum())
}

/// `8:0 rbytes=1 wbytes=2 rios=…`, one line a device.
fn v2_io(text: &str) -> u64 {
    let fields = text.split_whitespace();
    fields
        .filter_map(|field| {
            field.strip_prefix("rbytes=").or_else(|| field.strip_prefix("wbytes="))?.parse::<u64>().ok()
        })
        .sum()
}

/// `8:0 Read 1`, `8:0 Write 2` … `Total 3`: the last line sums all devices up.
fn v1_io(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("Total ")?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_both_versions_are_understood() {
        assert_eq!(v1_io("8:0 Read 4096\n8:0 Write 1\n8:0 Total 4097\nTotal 4097\n"), 4097);
        assert_eq!(v1_io(""), 0);
        assert_eq!(v2_io("8:0 rbytes=10 wbytes=5 rios=1 wios=1 dbytes=7\n8:16 rbytes=1 wbytes=0\n"), 16);
        assert_eq!(kernel_memory("anon 1\nkernel 500\nkernel_stack 3\n"), Some(500));
        assert_eq!(kernel_memory("kernel_stack 1\npagetables 2\nsock 3\nslab 4\n"), Some(10));
        assert_eq!(value_of("usage_usec 12\nuser_usec 3\n", "usage_usec"), Some(12));
    }

    #[test]
    fn each_number_comes_from_the_hierarchy_of_its_controller() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("v2/lxm/web/payload/cpu.stat", "usage_usec 5\n");
        write("v2/lxm/web/payload/memory.current", "700\n");
        write("v2/lxm/web/payload/memory.stat", "kernel 70\n");
        write("v2/lxm/web/payload/pids.current", "3\n");
        write("memory/lxm/web/memory.usage_in_bytes", "900\n");
        write("pids/lxm/web/pids.current", "9\n");
        let mut hierarchies = Hierarchies { unified: Some(dir.path().join("v2")), ..Hierarchies::default() };
        let unified = read(&hierarchies, "lxm/web");
        let wanted =
            Stats { cpu_ns: Some(5000), memory_bytes: Some(700), kmem_bytes: Some(70), io_bytes: None, pids: Some(3) };
        assert_eq!(unified, wanted);
        for controller in ["memory", "pids"] {
            hierarchies.v1.insert(controller.to_owned(), dir.path().join(controller));
        }
        let hybrid = read(&hierarchies, "lxm/web");
        assert_eq!((hybrid.cpu_ns, hybrid.memory_bytes, hybrid.pids), (Some(5000), Some(900), Some(8)));
    }
}
