//! A guest that wants its supervisor, or the host's commands, to block, to leak or to die.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Guest, Need, Outcome, Sandbox, Trial, command, eventually, run};

pub fn trials() -> Vec<Trial> {
    let trial = |name, body, guest| Trial::new(name, body).needs(Need::Tool("gcc")).guest(guest);
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe);
    vec![
        trial("escape::supervisor::takes_no_file_of_the_guests", takes_no_file, Guest::Bookworm).limit(180),
        trial("escape::supervisor::its_guests_init_alone_is_believed", hears_init_alone, Guest::Bookworm).limit(180),
        trial("escape::supervisor::groups_of_a_guest_are_bounded_and_removed", bounded_groups, Guest::Busybox),
        trial("escape::supervisor::v1_groups_as_deep_as_they_like_are_removed", deep_v1_groups, Guest::Busybox),
        trial("escape::supervisor::a_privileged_guest_sees_no_root_of_a_hierarchy", no_v1_root, Guest::Busybox),
        trial("escape::supervisor::a_privileged_guest_keeps_its_device_program", device_program, Guest::Busybox),
        trial("escape::supervisor::starts_from_known_values", known_values, Guest::Busybox),
        probe("escape::supervisor::a_stopped_supervisor_keeps_no_guest", stopped_supervisor).limit(180),
        probe("escape::supervisor::a_guest_that_reboots_forever_is_slowed_down", reboots_forever).limit(120),
        probe("escape::supervisor::without_descriptors_it_lives_on", without_descriptors),
        probe("escape::supervisor::without_a_run_directory_it_is_found", without_run_directory).limit(180),
        probe("escape::supervisor::it_and_its_helpers_keep_few_rights", few_rights),
        Trial::new("escape::supervisor::a_deep_tree_with_fixed_files_is_destroyed", deep_tree).guest(Guest::Probe),
    ]
}

/// Compiles the attacks, a static program for any guest.
fn means(sandbox: &Sandbox) -> PathBuf {
    let program = sandbox.path("means");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/escape/supervisor.c");
    let program_name = program.to_str().unwrap();
    run("gcc", &["-static", "-O1", "-pthread", "-o", program_name, source]).ok();
    program
}

/// A running guest `g` with the attacks at `/means`.
fn boot_with_means(sandbox: &Sandbox, guest: Guest, settings: &[&str]) {
    sandbox.create("g", guest, &[]);
    for setting in settings {
        let (key, value) = setting.split_once('=').unwrap();
        sandbox.lxm(&["config", "set", "g", key, value]).ok();
    }
    let program = means(sandbox);
    sandbox.lxm(&["push", program.to_str().unwrap(), "g:/means"]).ok();
    sandbox.lxm_with(&["start", "g", "--wait", "booted"], b"", Duration::from_secs(120)).ok();
    sandbox.lxm(&["attach", "g", "--", "chmod", "755", "/means"]).ok();
}

fn inside(sandbox: &Sandbox, words: &[&str]) -> Outcome {
    sandbox.lxm(&[&["attach", "g", "--"], words].concat())
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A file that is never flushed hangs whoever closes it, and a file that is received is closed.
fn takes_no_file(sandbox: &Sandbox) {
    boot_with_means(sandbox, Guest::Bookworm, &[]);
    let supervisor = sandbox.supervisor("g");
    let before = descriptors(supervisor);
    let script = "/means fuse </dev/null >/tmp/fuse 2>&1 & \
                  until grep -q ^sent: /tmp/fuse; do sleep 0.2; done; cat /tmp/fuse";
    inside(sandbox, &["sh", "-c", script]).ok().says("means sent: ok").says("means: its taker hangs");
    inside(sandbox, &["/means", "fds"]).ok().says("means: ok");
    // A kernel before 6.16 takes the message, and drops the descriptors.
    eventually("the supervisor has what it had", Duration::from_secs(10), || descriptors(supervisor) <= before + 2);
    inside(sandbox, &["true"]).ok();
    sandbox.lxm(&["stop", "-k", "g"]).ok();
    sandbox.lxm(&["start", "g"]).ok();
}

fn hears_init_alone(sandbox: &Sandbox) {
    boot_with_means(sandbox, Guest::Bookworm, &[]);
    // A user of the guest's does not even get to the socket.
    let told = inside(sandbox, &["setpriv", "--reuid", "65534", "--clear-groups", "/means", "flood"]).ok();
    told.says("connect: Permission denied");
    let told = inside(sandbox, &["/means", "flood"]).ok();
    let taken: u32 = told.stdout.split_whitespace().nth(1).unwrap().parse().unwrap();
    // Its root is listened to as slowly as anybody: the rest stays in the socket.
    assert!((1..10_000).contains(&taken), "{told}");
    let shown = sandbox.lxm(&["info", "g"]).ok();
    assert!(!shown.stdout.contains("flood"), "{shown}");
    inside(sandbox, &["true"]).ok();
}

/// The v2 group of `g` on the host.
fn group(sandbox: &Sandbox) -> PathBuf {
    let record = fs::read_to_string(sandbox.path("run/lxm/g/boot.toml")).unwrap();
    let group = record.lines().find_map(|line| line.strip_prefix("cgroup = ")).unwrap().trim_matches('"').to_owned();
    let hierarchies = lxm::testing::cgroup::Hierarchies::detect().unwrap();
    hierarchies.require_unified().unwrap().join(group)
}

fn depth_reached(told: &Outcome) -> u32 {
    told.stdout.trim().strip_prefix("depth ").unwrap().split(':').next().unwrap().parse().unwrap()
}

fn bounded_groups(sandbox: &Sandbox) {
    boot_with_means(sandbox, Guest::Busybox, &[]);
    let told = inside(sandbox, &["/means", "depth", "/sys/fs/cgroup", "300"]).ok();
    // 62 levels of 200 bytes are longer than any path may be (PATH_MAX is 4096).
    assert!((21..64).contains(&depth_reached(&told)), "{told}");
    let payload = group(sandbox).join("payload");
    assert!(fs::read_to_string(payload.join("cgroup.max.descendants")).unwrap().trim().parse::<u32>().is_ok());
    sandbox.lxm(&["stop", "-k", "g"]).ok();
    assert!(!payload.exists());
    sandbox.lxm(&["start", "g"]).ok();
    // The means: where nothing bounds it, it goes on.
    let free = payload.join("guest/free");
    fs::create_dir(&free).unwrap();
    fs::write(payload.join("cgroup.max.depth"), "max").unwrap();
    let told = run(sandbox.path("means").to_str().unwrap(), &["depth", free.to_str().unwrap(), "300"]).ok();
    assert_eq!(depth_reached(&told), 300);
    sandbox.lxm(&["stop", "-k", "g"]).ok();
    assert!(!payload.exists());
    sandbox.lxm(&["start", "g"]).ok();
}

/// Whether the trial's host has this v1 hierarchy.
fn v1_mount(controller: &str) -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lines = table.lines().filter_map(|line| line.split_once(" - cgroup "));
    let mut with = lines.filter(|(_, rest)| rest.rsplit(',').next().is_some_and(|last| last == controller));
    with.next().map(|(head, _)| head.split(' ').nth(4).unwrap().into())
}

fn deep_v1_groups(sandbox: &Sandbox) {
    if v1_mount("pids").is_none() {
        return;
    }
    boot_with_means(sandbox, Guest::Busybox, &["security.privileged=true"]);
    inside(sandbox, &["mount", "-t", "cgroup", "-o", "pids", "none", "/mnt"]).ok();
    let told = inside(sandbox, &["/means", "depth", "/mnt", "300"]).ok();
    assert_eq!(depth_reached(&told), 300, "the means");
    // Frozen by a hierarchy that cgroup.kill knows nothing of.
    inside(sandbox, &["mkdir", "/tmp/f"]).ok();
    inside(sandbox, &["mount", "-t", "cgroup", "-o", "freezer", "none", "/tmp/f"]).ok();
    inside(
        sandbox,
        &["sh", "-c", "mkdir /tmp/f/x; sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > /tmp/f/x/tasks; echo FROZEN > /tmp/f/x/freezer.state"],
    )
    .ok();
    sandbox.lxm(&["stop", "-k", "g"]).ok();
    sandbox.lxm(&["start", "g"]).ok();
}

fn no_v1_root(sandbox: &Sandbox) {
    boot_with_means(sandbox, Guest::Busybox, &["security.privileged=true", "limits.pids=500"]);
    inside(sandbox, &["mkdir", "/tmp/v1"]).ok();
    let mut seen = 0;
    for name in ["devices", "freezer", "memory", "pids", "cpu", "cpuset", "blkio", "name=systemd"] {
        let Some(mount) = v1_mount(name) else { continue };
        // The means: it may mount them, and the host's root of it has the file.
        inside(
            sandbox,
            &[
                "mount",
                "-t",
                "cgroup",
                "-o",
                if name.contains('=') { "none,name=systemd" } else { name },
                "none",
                "/tmp/v1",
            ],
        )
        .ok();
        let listed = inside(sandbox, &["ls", "/tmp/v1"]).ok().says("tasks");
        assert!(!listed.stdout.contains("release_agent"), "{name}: {listed}");
        if name == "pids" {
            assert!(listed.stdout.contains("pids.max"));
            inside(sandbox, &["sh", "-c", "echo max > /tmp/v1/pids.max"]).ok();
            let outer = fs::read_to_string(mount.join(sandbox.layout().cgroup(&"g".parse().unwrap())).join("pids.max"));
            assert_eq!(outer.unwrap().trim(), "501");
        }
        inside(sandbox, &["umount", "/tmp/v1"]).ok();
        seen += 1;
    }
    // A host of v2 alone has none to be seen, and `mount` of one fails there.
    assert!(seen > 0 || v1_mount("memory").is_none());
}

fn device_program(sandbox: &Sandbox) {
    boot_with_means(sandbox, Guest::Busybox, &["security.privileged=true", "security.nesting=true"]);
    let told = inside(sandbox, &["/means", "bpf"]).ok();
    told.says("means attach: ok").says("means detach: ok").says("programs: ok 0").says("node: Operation not permitted");
}

/// A caller's umask, limits, niceness, processors, masks and ignored signals are not the guest's.
fn known_values(sandbox: &Sandbox) {
    sandbox.create("g", Guest::Busybox, &[]);
    let program = means(sandbox);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.lxm(&["push", program.to_str().unwrap(), "g:/means"]).ok();
    let odd = |words: &[&str]| {
        let mut odd = std::process::Command::new(&program);
        sandbox.environment(&mut odd);
        odd.arg("odd").args(words);
        command::bounded(odd, b"", Duration::from_secs(60))
    };
    // The means: another program has all of it.
    let told = odd(&[program.to_str().unwrap(), "born"]).ok();
    told.says("umask 077 nofile 128").says("rttime 1000000").says("nice 7 cpus 1").says("slack 1000000 child ignored");
    let lxm = sandbox.command().get_program().to_str().unwrap().to_owned();
    odd(&[&lxm, "start", "g", "--wait", "booted"]).ok();
    let (leader, supervisor) = (sandbox.leader("g"), sandbox.supervisor("g"));
    inside(sandbox, &["chmod", "755", "/means"]).ok();
    let told = inside(sandbox, &["/means", "born"]).ok();
    told.says("umask 022 nofile 1024 fsize -1 rttime -1 merge 0 nice 0").says("policy 0 slack 50000 child default");
    for pid in [leader, supervisor] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(field("Umask:"), "0022", "{pid}");
        let all = run("nproc", &["--all"]).ok().line().to_owned();
        let cpus = u32::from_str_radix(&field("Cpus_allowed:").replace(',', ""), 16).unwrap().count_ones().to_string();
        assert_eq!(cpus, all, "{pid}");
        // A supervisor reads the signals that ask its guest to stop, real-time ones too, from a descriptor.
        let blocked = if pid == leader { b'0' } else { b'f' };
        assert_eq!(field("SigBlk:").as_bytes()[0], blocked, "{pid}");
    }
    let stat = fs::read_to_string(format!("/proc/{leader}/stat")).unwrap();
    assert_eq!(stat.rsplit(") ").next().unwrap().split(' ').nth(16), Some("0"), "{stat}");
    // umask 0 makes nothing that others may write to.
    for words in [&["create", "h", "--network", "none", "-t", "busybox"][..], &["start", "h"]] {
        let mut shell = std::process::Command::new("sh");
        sandbox.environment(&mut shell);
        shell.args(["-c", "umask 0; exec \"$0\" \"$@\"", &lxm]).args(words);
        command::bounded(shell, b"", Duration::from_secs(60)).ok();
    }
    for entry in ["run/lxm/h", "run/lxm/h/boot.toml", "var/log/lxm/h", "var/lib/lxm/h", "var/lib/lxm/h/config.toml"] {
        let mode = sandbox.path(entry).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "{entry}: {mode:o}");
    }
}

/// Supervisors that are stopped: every verb that kills does so by itself, and leaves nothing.
fn stopped_supervisor(sandbox: &Sandbox) {
    sandbox.create("g", Guest::Probe, &[]);
    let ways: [&[&str]; 3] = [&["stop", "-k", "g"], &["kill", "g"], &["destroy", "-f", "g"]];
    for way in ways {
        sandbox.lxm(&["start", "g"]).ok();
        let (leader, supervisor) = (sandbox.leader("g"), sandbox.supervisor("g"));
        kill(Pid::from_raw(supervisor), Signal::SIGSTOP).unwrap();
        sandbox.lxm(way).ok().complains("does not answer");
        for pid in [leader, supervisor] {
            assert!(!Path::new(&format!("/proc/{pid}/exe")).exists(), "{way:?}: process {pid} lives");
        }
        if way[0] != "destroy" {
            assert_eq!(sandbox.info("g", "state"), "stopped");
            assert!(!sandbox.path("run/lxm/g/boot.toml").exists());
        }
    }
}

/// Each boot ends in a reboot; the first few are free.
fn reboots_forever(sandbox: &Sandbox) {
    sandbox.boot("g", Guest::Probe, &[]);
    let reports = || sandbox.console_log("g").matches("PROBE {").count();
    let waits = || {
        let log = fs::read_to_string(sandbox.path("var/log/lxm/g/supervisor.log")).unwrap_or_default();
        log.matches("times in a row: it boots again in").count()
    };
    for boots in 1.. {
        eventually("it has booted", Duration::from_secs(60), || reports() >= boots);
        if waits() >= 3 {
            break;
        }
        assert!(boots < 20, "it is never slowed down");
        drop(sandbox.lxm(&["attach", "g", "--", "/bin/probe", "reboot"]));
    }
    // It waits for a second or more now, and hears us.
    eventually("it says that it waits", Duration::from_secs(60), || {
        let waits = sandbox.lxm(&["info", "g"]).ok().stdout.contains("waits before it boots again");
        if !waits {
            drop(sandbox.lxm(&["attach", "g", "--", "/bin/probe", "reboot"]));
        }
        waits
    });
    sandbox.lxm(&["stop", "g"]).ok();
    assert_eq!(sandbox.info("g", "state"), "stopped");
}

/// The host has no more descriptors for it; then it has again.
fn without_descriptors(sandbox: &Sandbox) {
    sandbox.boot("g", Guest::Probe, &[]);
    let (leader, supervisor) = (sandbox.leader("g"), sandbox.supervisor("g"));
    let limit = |soft: usize| run("prlimit", &["--pid", &supervisor.to_string(), &format!("--nofile={soft}:")]).ok();
    limit(descriptors(supervisor));
    // Connections wait; the guest does not end, and a graceful end is still heard by signal.
    let mut clients: Vec<_> =
        (0..3).map(|_| sandbox.command().args(["wait", "g", "--for", "stopped"]).spawn().unwrap()).collect();
    let connected = || fs::read_to_string("/proc/net/unix").unwrap().matches("control.sock").count() >= 2;
    eventually("a process has connected", Duration::from_secs(20), connected);
    std::thread::sleep(Duration::from_secs(1));
    assert!(Path::new(&format!("/proc/{leader}/exe")).exists(), "the guest has ended");
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{supervisor}/stat")).unwrap();
        let fields: Vec<u64> = stat.rsplit(") ").next().unwrap().split(' ').filter_map(|f| f.parse().ok()).collect();
        fields[10] + fields[11]
    };
    let before = ticks();
    std::thread::sleep(Duration::from_secs(2));
    assert!(ticks() - before < 50, "it spins");
    limit(1024);
    sandbox.lxm(&["attach", "g", "--", "/bin/probe", "exit", "0"]).ok();
    assert_eq!(sandbox.leader("g"), leader);
    sandbox.lxm(&["stop", "-k", "g"]).ok();
    clients.iter_mut().for_each(|client| drop(client.wait()));
}

/// /run/lxm was emptied.
fn without_run_directory(sandbox: &Sandbox) {
    sandbox.create("g", Guest::Probe, &[]);
    let lost = || {
        sandbox.lxm(&["start", "g"]).ok();
        let pids = (sandbox.leader("g"), sandbox.supervisor("g"));
        fs::remove_dir_all(sandbox.path("run/lxm")).unwrap();
        pids
    };
    let lives = |pid: i32| Path::new(&format!("/proc/{pid}/exe")).exists();
    let (leader, supervisor) = lost();
    sandbox.lxm(&["start", "g"]).fails(4).complains("still runs").complains("hint: `lxm stop g`");
    drop(sandbox.lxm(&["gc"]));
    sandbox.lxm(&["destroy", "g"]).fails(4);
    assert!(lives(leader) && lives(supervisor), "a live guest was ended by what may not end it");
    sandbox.lxm_with(&["stop", "g"], b"", Duration::from_secs(60)).ok();
    assert!(!lives(leader) && !lives(supervisor));
    let (leader, supervisor) = lost();
    sandbox.lxm(&["stop", "-k", "g"]).ok();
    assert!(!lives(leader) && !lives(supervisor));
    let (leader, _) = lost();
    sandbox.lxm(&["destroy", "-f", "g"]).ok();
    assert!(!lives(leader));
}

/// What a process may do: the field of /proc/PID/status, a set of capabilities as a mask.
fn capabilities(pid: &str, set: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    u64::from_str_radix(status.lines().find_map(|line| line.strip_prefix(set)).unwrap().trim(), 16).unwrap()
}

fn few_rights(sandbox: &Sandbox) {
    const SYS_MODULE: u64 = 1 << 16;
    const SYS_RAWIO: u64 = 1 << 17;
    const SYS_ADMIN: u64 = 1 << 21;
    const NET_ADMIN: u64 = 1 << 12;
    const DAC_OVERRIDE: u64 = 1 << 1;
    // The means: who starts them has more.
    let all = capabilities("self", "CapBnd:");
    assert_ne!(all & SYS_MODULE, 0);
    sandbox.lxm(&[&["create", "g"].map(String::from)[..], &Guest::Probe.create_arguments()].concat()).ok();
    sandbox.lxm(&["config", "set", "g", "network.eth0.publish", "[\"8080:80\"]"]).ok();
    sandbox.lxm(&["start", "g"]).ok();
    let supervisor = sandbox.supervisor("g").to_string();
    for set in ["CapBnd:", "CapPrm:", "CapEff:"] {
        let has = capabilities(&supervisor, set);
        assert_eq!(has & (SYS_MODULE | SYS_RAWIO), 0, "{set} {has:x}");
        assert_ne!(has & SYS_ADMIN, 0, "{set} {has:x}");
    }
    let named = |words: &str| {
        let listed = run("pgrep", &["-f", words]).ok().stdout;
        let pids: Vec<String> = listed.lines().map(str::to_owned).collect();
        assert!(!pids.is_empty(), "no {words}");
        pids
    };
    let confined = |pid: &String, more: u64| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2") && capabilities(pid, "CapBnd:") & !more == 0
    };
    // It answers before it has bound itself.
    let carrier = || {
        let (carrier, guard): (Vec<_>, Vec<_>) =
            named("network publish g").into_iter().partition(|pid| confined(pid, NET_ADMIN));
        // Who starts it again can do no more than a carrier that begins.
        carrier.len() == 1 && guard.iter().all(|pid| capabilities(pid, "CapBnd:") & (SYS_MODULE | SYS_RAWIO) == 0)
    };
    eventually("the carrier is confined", Duration::from_secs(20), carrier);
    let keeper = || named("network lease g").iter().all(|pid| confined(pid, NET_ADMIN | DAC_OVERRIDE));
    eventually("the keeper of the lease is confined", Duration::from_secs(20), keeper);
    // The server has no filter; the watchdog beside it has one, and administers no more than the network.
    let watchdog =
        || named("network serve lxmbr0").iter().any(|pid| confined(pid, all & !(SYS_MODULE | SYS_RAWIO | SYS_ADMIN)));
    eventually("the watchdog is confined", Duration::from_secs(20), watchdog);
    sandbox.lxm(&["destroy", "-f", "g"]).ok();
}

/// As an admin with the usual limits: 1,500 levels, an immutable file and an append-only directory.
fn deep_tree(sandbox: &Sandbox) {
    sandbox.create("g", Guest::Probe, &["--storage", "dir"]);
    let top = sandbox.layout().rootfs(&"g".parse().unwrap()).join("srv");
    fs::create_dir_all(&top).unwrap();
    let make = "for i in $(seq 1500); do mkdir d s && cd -P d || exit 1; done";
    let shell = ["--nofile=64", "sh", "-c", make];
    let mut command_line = std::process::Command::new("prlimit");
    command_line.args(shell).current_dir(&top);
    command::bounded(command_line, b"", Duration::from_secs(60)).ok();
    fs::create_dir(top.join("fixed")).unwrap();
    fs::write(top.join("fixed/file"), "").unwrap();
    run("chattr", &["+i", top.join("fixed/file").to_str().unwrap()]).ok();
    run("chattr", &["+a", top.join("fixed").to_str().unwrap()]).ok();
    assert!(fs::remove_file(top.join("fixed/file")).is_err(), "the means");
    let lxm = sandbox.command().get_program().to_str().unwrap().to_owned();
    let mut destroy = std::process::Command::new("prlimit");
    sandbox.environment(&mut destroy);
    destroy.args(["--nofile=64", &lxm, "destroy", "g"]);
    command::bounded(destroy, b"", Duration::from_secs(60)).ok();
    assert_eq!(fs::read_dir(sandbox.path("var/lib/lxm/.trash")).unwrap().count(), 0);
}
