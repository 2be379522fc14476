//! runc's `cgroups.bats` and `cgroup_delegation.bats`: whose the groups are, and who is in them.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use super::{busybox, inside};
use crate::support::{Guest, Sandbox, Trial, eventually};

pub fn trials() -> Vec<Trial> {
    vec![
        busybox("peers::runc_groups::exec_joins_correct_cgroup", joins),
        busybox("peers::runc_groups::delegation", delegation),
        busybox("peers::runc_groups::pids_limit", pids_limit),
        busybox("peers::runc_groups::non_empty_cgroup", non_empty),
        busybox("peers::runc_groups::pre_existing_frozen_cgroup", frozen),
    ]
}

/// The groups of a process, in all hierarchies, as directories of the host.
fn groups(pid: i32) -> Vec<PathBuf> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounted = |controllers: &str| {
        mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find_map(|fields| {
            let dash = fields.iter().position(|field| *field == "-")?;
            let version2 = controllers.is_empty() && fields[dash + 1] == "cgroup2";
            let options: Vec<&str> = fields[dash + 3].split(',').collect();
            let version1 = fields[dash + 1] == "cgroup"
                && !controllers.is_empty()
                && controllers.split(',').all(|one| options.contains(&one));
            (version1 || version2).then(|| PathBuf::from(fields[4]))
        })
    };
    let of_line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        Some(mounted(controllers)?.join(path.trim_start_matches('/')))
    };
    table.lines().filter_map(of_line).collect()
}

/// A command is in the guest's groups, whatever its hierarchy: what limits one limits the other.
fn joins(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "p"]).ok();
    let mut command = sandbox.command();
    let mut client = command.args(["attach", "p", "--", "sleep", "1234"]).spawn().unwrap();
    let sleeper = || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let is = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001234\0");
        pids.into_iter().find(is)
    };
    eventually("the command runs", Duration::from_secs(10), || sleeper().is_some());
    let (init, attached) = (groups(sandbox.leader("p")), groups(sleeper().unwrap()));
    assert_eq!(init.len(), attached.len());
    for (of_init, of_attached) in init.iter().zip(&attached) {
        // In the one of version 2 it has a leaf of its own beside that of init.
        let guest = of_init.ancestors().find(|dir| dir.ends_with("guest")).unwrap_or(of_init);
        assert!(of_attached.starts_with(guest), "{} is not below {}", of_attached.display(), guest.display());
    }
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    assert_ne!(client.wait().unwrap().code(), Some(0));
}

/// The guest's group is its root's to divide, and what bounds the group itself is not.
fn delegation(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "p"]).ok();
    let owner = |file: &str| inside(sandbox, &format!("stat -c %u /sys/fs/cgroup/{file}")).ok().line().to_owned();
    for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        assert_eq!(owner(file), "0", "{file}");
    }
    for file in ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.freeze"] {
        assert_eq!(owner(file), "65534", "{file}");
        inside(sandbox, &format!("echo 1 > /sys/fs/cgroup/{file}")).fails(1).complains("Permission denied");
        inside(sandbox, &format!("mkdir -p /sys/fs/cgroup/own && echo 1 > /sys/fs/cgroup/own/{file}")).ok();
    }
    inside(sandbox, "umount /sys/fs/cgroup").fails(1).complains("Invalid argument");
}

fn pids_limit(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["config", "set", "p", "limits.pids", "0"]).fails(6).complains("limits.pids");
    sandbox.lxm(&["config", "set", "p", "--", "limits.pids", "-1"]).fails(6).complains("limits.pids");
    sandbox.lxm(&["config", "set", "p", "limits.pids", "40"]).ok();
    sandbox.lxm(&["start", "p"]).ok();
    let fork = "for i in $(seq 60); do sleep 30 & done; wait -n 2>/dev/null; true";
    let told = inside(sandbox, &format!("{fork}; kill $(jobs -p)"));
    assert!(told.stderr.contains("can't fork") || told.stderr.contains("Resource temporarily"), "{told}");
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    // Unset is unlimited but for lxm's own default.
    sandbox.lxm(&["config", "unset", "p", "limits.pids"]).ok();
    sandbox.lxm(&["start", "p"]).ok();
    inside(sandbox, "for i in $(seq 60); do sleep 0 & done; wait").ok();
}

/// The group in which init is, in the hierarchy of version 2, and a process of the host's in it.
fn with_a_stranger(sandbox: &Sandbox) -> (PathBuf, Child) {
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "p"]).ok();
    let group = groups(sandbox.leader("p")).pop().unwrap();
    sandbox.lxm(&["stop", "p"]).ok();
    assert!(!group.exists(), "{} is left", group.display());
    fs::create_dir_all(&group).unwrap();
    let stranger = Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(group.join("cgroup.procs"), stranger.id().to_string()).unwrap();
    (group, stranger)
}

/// What is in a group of the container's own name is what an earlier start has left: it is ended, frozen
/// or not, and is never in the guest's group.
fn is_swept(sandbox: &Sandbox, group: &Path, mut stranger: Child) {
    sandbox.lxm(&["start", "p"]).ok();
    assert_eq!(stranger.wait().unwrap().signal(), Some(libc::SIGKILL));
    inside(sandbox, "true").ok();
    assert_eq!(groups(sandbox.leader("p")).pop().as_deref(), Some(group));
    assert_eq!(fs::read_to_string(group.join("cgroup.freeze")).unwrap_or("0".into()).trim(), "0");
}

fn non_empty(sandbox: &Sandbox) {
    let (group, stranger) = with_a_stranger(sandbox);
    is_swept(sandbox, &group, stranger);
}

fn frozen(sandbox: &Sandbox) {
    let (group, stranger) = with_a_stranger(sandbox);
    fs::write(group.join("cgroup.freeze"), "1").unwrap();
    is_swept(sandbox, &group, stranger);
}
