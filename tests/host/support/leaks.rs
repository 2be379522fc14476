//! What must be gone at the end of a trial: links, firewall tables, mounts, cgroups, processes,
//! locks and files of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lxm::testing::store::FileLock;

use super::{Sandbox, pace::Deadline};

/// What the host had before the trial.
pub struct Snapshot {
    links: BTreeSet<String>,
    mounts: BTreeMap<u32, String>,
    processes: BTreeSet<String>,
}

impl Snapshot {
    pub fn take() -> Self {
        Snapshot { links: links(), mounts: mounts(), processes: processes() }
    }
}

/// Fails the trial when something is left. What was told to end is given `grace` to do so.
pub fn check(sandbox: &Sandbox, before: &Snapshot, grace: Duration) {
    let deadline = Deadline::after(grace);
    loop {
        let found = find(sandbox, before);
        if found.is_empty() {
            return;
        }
        assert!(!deadline.has_passed(), "left behind:\n  {}", found.join("\n  "));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn find(sandbox: &Sandbox, before: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    let mut all = |what: &str, left: Vec<String>| found.extend(left.into_iter().map(|item| format!("{what} {item}")));
    all("link", links().difference(&before.links).cloned().collect());
    let mounts = mounts().into_iter().filter(|(id, _)| !before.mounts.contains_key(id));
    all("mount", mounts.map(|(_, what)| what).collect());
    all("process", processes().difference(&before.processes).cloned().collect());
    all("cgroup", cgroups());
    all("file", files(sandbox.root()));
    all("lock held", locks(&sandbox.layout().run()));
    all("firewall table", firewall_tables());
    found
}

/// Names of the network links of this network namespace.
pub fn links() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Mounts by their ids: their paths change when a directory above them is renamed.
fn mounts() -> BTreeMap<u32, String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(describe_mount).collect()
}

/// Id; what is mounted, where, and its type: `/ /sys/fs/cgroup/unified - cgroup2`.
fn describe_mount(line: &str) -> Option<(u32, String)> {
    let (head, tail) = line.split_once(" - ")?;
    let fields: Vec<&str> = head.split(' ').collect();
    let (root, at) = (fields.get(3)?, fields.get(4)?);
    Some((fields[0].parse().ok()?, format!("{root} {at} - {}", tail.split(' ').next()?)))
}

/// Command lines of all processes but PID 1 and this one; the dead ones count until reaped.
fn processes() -> BTreeSet<String> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != 1 && *pid != own).filter_map(describe_process).collect()
}

fn describe_process(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let name = stat.split(')').next().unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).unwrap_or("?");
    Some(format!("{name}) {state} {command}"))
}

/// Cgroups below this cgroup namespace's root, in every hierarchy, but `harness`.
fn cgroups() -> Vec<String> {
    let mounts = mounts();
    let is_cgroup = |line: &&String| line.ends_with(" - cgroup") || line.ends_with(" - cgroup2");
    let points = mounts.values().filter(is_cgroup).filter_map(|line| line.split(' ').nth(1));
    let mut found = Vec::new();
    // What is mounted elsewhere shows more than this host's own.
    for point in points.filter(|point| point.starts_with("/sys/fs/cgroup")) {
        let dirs = directories(Path::new(point)).into_iter().filter(|dir| !dir.ends_with("harness"));
        found.extend(dirs.map(|dir| dir.display().to_string()));
    }
    found
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// What is below the directories of `LXM_ROOT` that belong to containers which are all destroyed.
///
/// Images and the logs of their making, the admin's configuration and lock files stay: the latter
/// are never unlinked.
fn files(root: &Path) -> Vec<String> {
    let emptied = ["var/lib/lxm/.staging", "var/lib/lxm/.trash", "var/log/lxm"];
    let mut found: Vec<String> = emptied.iter().flat_map(|dir| entries(&root.join(dir))).collect();
    found.retain(|path| !has_name(path, &[".images"]));
    found.extend(
        entries(&root.join("var/lib/lxm"))
            .into_iter()
            .filter(|path| !has_name(path, &[".staging", ".trash", ".network", ".elsewhere"])),
    );
    found.extend(entries(&root.join("run/lxm")).into_iter().filter(|path| !has_name(path, &[".lock", ".network"])));
    // Of containers in other directories (`--path`): the directory of all stays.
    let (apart, mut found): (Vec<_>, Vec<_>) = found.into_iter().partition(|path| path.contains("/.path-"));
    found.extend(apart.iter().flat_map(|dir| entries(Path::new(dir))));
    found
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

fn has_name(path: &str, names: &[&str]) -> bool {
    Path::new(path).file_name().and_then(|name| name.to_str()).is_some_and(|name| names.contains(&name))
}

/// Files below `dir` that a process holds a lock on.
fn locks(dir: &Path) -> Vec<String> {
    let mut held = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => held.extend(locks(&path)),
            Ok(kind) if kind.is_file() && FileLock::is_held(&path).unwrap_or(true) => {
                held.push(path.display().to_string());
            }
            _ => {}
        }
    }
    held
}

fn firewall_tables() -> Vec<String> {
    let told = std::process::Command::new("nft").args(["list", "tables"]).output();
    let told = told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    told.lines().filter(|line| line.contains("lxm")).map(String::from).collect()
}
