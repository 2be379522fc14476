//! A guest that takes all that it can get: what bounds it, and that its host and other guests have theirs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::means::{compile, give, inside, meanwhile};
use crate::support::{Guest, Need, Outcome, Sandbox, Trial, eventually, run};

const SOON: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    let trial = |name, body| Trial::new(name, body).guest(Guest::Busybox).needs(Need::Tool("gcc"));
    vec![
        trial("escape::floods::inotify_instances", inotify),
        trial("escape::floods::keys", keys),
        trial("escape::floods::nodes_and_attributes_in_dev", nodes),
        trial("escape::floods::groups", groups),
        trial("escape::floods::mounts", mounts),
        trial("escape::floods::processes", processes),
        trial("escape::floods::terminals", terminals),
        trial("escape::floods::text_on_the_console", console),
    ]
}

/// Two guests, `a` that floods and `b` that does not; gives the program for the host.
fn pair(sandbox: &Sandbox) -> PathBuf {
    for guest in ["a", "b"] {
        sandbox.create(guest, Guest::Busybox, &[]);
        sandbox.lxm(&["start", guest]).ok();
        give(sandbox, guest, "floods");
    }
    compile(sandbox, "floods")
}

/// How many it got, and why no more.
fn took(told: &str) -> (u32, String) {
    let (count, why) = told.trim().strip_prefix("took ").and_then(|rest| rest.split_once(": ")).expect(told);
    (count.parse().unwrap(), why.to_owned())
}

/// The guest `a` takes them and stays with them.
fn flood(sandbox: &Sandbox, words: &str) -> (u32, String) {
    meanwhile(sandbox, "a", &format!("STAY=1 /floods {words}"));
    let told = || inside(sandbox, "a", "cat /tmp/told").stdout;
    eventually("it has all that it gets", SOON, || told().starts_with("took"));
    took(&told())
}

/// `stop -k` ends it, and it starts again.
#[track_caller]
fn ends_and_starts(sandbox: &Sandbox) -> Outcome {
    let stopped = sandbox.lxm(&["stop", "-k", "a"]).ok();
    sandbox.lxm(&["start", "a"]).ok();
    stopped
}

/// Of one who has them all, and others: the kernel counts by user namespace and by its owner, who is the first
/// id of the guest's own range (`user.max_inotify_instances`).
fn inotify(sandbox: &Sandbox) {
    let host = pair(sandbox);
    let (count, why) = flood(sandbox, "inotify 1000000");
    let most: u32 = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap().trim().parse().unwrap();
    assert!(count <= most && why == "Too many open files", "{count} {why}");
    // The means: its own processes get none any more, its users neither.
    assert_eq!(took(&inside(sandbox, "a", "/floods inotify 1").stdout).0, 0);
    let user = sandbox.lxm(&["attach", "a", "--user", "1000", "--", "/floods", "inotify", "1"]).ok();
    assert_eq!(took(&user.stdout).0, 0, "{user}");
    assert_eq!(took(&inside(sandbox, "b", "/floods inotify 50").stdout).0, 50);
    assert_eq!(took(&run(host.to_str().unwrap(), &["inotify", "10"]).ok().stdout).0, 10);
    ends_and_starts(sandbox);
}

/// Keys are counted by user of the host (kernel.keys.maxkeys).
fn keys(sandbox: &Sandbox) {
    let host = pair(sandbox);
    let (count, why) = flood(sandbox, "keys 1000000");
    assert_eq!(why, "Disk quota exceeded", "{count}");
    assert_eq!(took(&inside(sandbox, "a", "/floods keys 1").stdout).0, 1, "it may change what it has");
    assert_eq!(took(&inside(sandbox, "b", "/floods keys 50").stdout).0, 50);
    assert_eq!(took(&run(host.to_str().unwrap(), &["keys", "10"]).ok().stdout).0, 10);
    ends_and_starts(sandbox);
}

fn nodes(sandbox: &Sandbox) {
    pair(sandbox);
    let (count, why) = flood(sandbox, "nodes /dev 1000000");
    assert!(count < 1 << 16 && why == "No space left on device", "{count} {why}");
    // Commands and terminals need nothing there.
    inside(sandbox, "a", "true").ok();
    assert_eq!(sandbox.lxm(&["attach", "-t", "a", "--", "true"]).status, 0);
    ends_and_starts(sandbox);
    give(sandbox, "a", "floods");
    let (count, why) = flood(sandbox, "attributes /dev 100000");
    // 64 KiB each; the kernel counts them as nodes (shmem_xattr_alloc), or has none for users before 6.6.
    assert!(count < 2000 && ["No space left on device", "Operation not supported"].contains(&&*why), "{count} {why}");
    ends_and_starts(sandbox);
}

fn groups(sandbox: &Sandbox) {
    pair(sandbox);
    let (count, why) = flood(sandbox, "groups /sys/fs/cgroup 1000000");
    assert!(count < 16_384 && why == "Resource temporarily unavailable", "{count} {why}");
    inside(sandbox, "b", "mkdir /sys/fs/cgroup/own").ok();
    ends_and_starts(sandbox);
}

/// By mount namespace (fs.mount-max).
fn mounts(sandbox: &Sandbox) {
    pair(sandbox);
    let (count, why) = flood(sandbox, "mounts");
    assert!(count >= 10 && why == "No space left on device", "{count} {why}");
    inside(sandbox, "a", "mount -t tmpfs own /mnt && mount --rbind /tmp/many /mnt")
        .complains("No space left on device");
    inside(sandbox, "b", "mount -t tmpfs own /mnt").ok();
    sandbox.lxm(&["info", "a"]).ok();
    ends_and_starts(sandbox);
}

fn processes(sandbox: &Sandbox) {
    pair(sandbox);
    sandbox.lxm(&["config", "set", "a", "limits.pids", "100"]).ok();
    // There is no process left that could say how it went.
    meanwhile(sandbox, "a", "STAY=1 /floods processes 100000 >/dev/console");
    let line = || sandbox.console_log("a").lines().find_map(|line| Some(line[line.find("took ")?..].to_owned()));
    eventually("it has all that it gets", SOON, || line().is_some());
    let (count, why) = took(&line().unwrap());
    assert!(count < 100 && why == "Resource temporarily unavailable", "{count} {why}");
    // What enters is counted too, and gets an error; nothing waits.
    inside(sandbox, "a", "true").fails(125).complains("limits.pids");
    inside(sandbox, "b", "true").ok();
    sandbox.lxm(&["info", "a"]).ok();
    ends_and_starts(sandbox);
}

/// The kernel has a number of terminals for all (kernel.pty.max), and some that are the host's alone. A guest that
/// does not close its own has no more than its share of them; one that mounts a devpts for that has.
fn terminals(sandbox: &Sandbox) {
    pair(sandbox);
    let (count, why) = flood(sandbox, "terminals 1200");
    assert!(count < 1024 && why == "No space left on device", "{count} {why}");
    assert_eq!(took(&inside(sandbox, "b", "/floods terminals 20").stdout).0, 20);
    ends_and_starts(sandbox);
}

fn console(sandbox: &Sandbox) {
    fs::create_dir_all(sandbox.path("etc/lxm")).unwrap();
    fs::write(sandbox.path("etc/lxm/lxm.toml"), "console-log-size = \"64KiB\"\n").unwrap();
    pair(sandbox);
    inside(sandbox, "a", "for n in $(seq 20000); do echo line $n of a flood; done >/dev/console").ok();
    eventually("all has come", SOON, || sandbox.console_log("a").contains("line 20000 of"));
    let log = sandbox.path("var/log/lxm/a");
    let size: u64 = fs::read_dir(log).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    // The means: 400 KiB have come.
    assert!((20_000..200_000).contains(&size), "{size}");
    ends_and_starts(sandbox);
}
