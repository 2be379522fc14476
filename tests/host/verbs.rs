//! What the verbs do to containers that run, and at the same time as others.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use crate::support::{Guest, Sandbox, Trial, command, eventually};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe);
    vec![
        probe("verbs::limits_change_while_the_guest_runs", limits_change),
        probe("verbs::a_limit_that_the_kernel_refuses_changes_nothing", refused_limit),
        probe("verbs::a_limit_that_was_too_low_is_forgotten", low_limit),
        probe("verbs::wait_sees_the_freezer_and_the_boot", wait_sees),
        probe("verbs::a_frozen_guest_is_not_ready_for_anybody", frozen_is_not_ready),
        probe("verbs::start_and_restart_wait_for_what_may_be_already", idempotent),
        probe("verbs::all_and_patterns_are_those_in_a_state_for_it", all_of_them),
        probe("verbs::logs_are_followed_until_the_guest_stops", logs_follow),
        probe("verbs::kill_returns_when_nothing_is_left", kill_buries),
        probe("verbs::gc_leaves_alone_what_lives", gc_leaves_alone),
        probe("verbs::two_destroys_at_once_destroy_once", two_destroys),
        probe("verbs::renames_in_a_circle_do_not_wait_for_each_other", renames_in_a_circle),
        probe("verbs::a_frozen_guest_can_be_looked_at_and_destroyed", frozen),
        Trial::new("verbs::a_changed_configuration_is_in_force_after_a_restart", changed_configuration)
            .guest(Guest::Busybox),
        probe("verbs::a_restart_looks_before_it_stops_the_guest", restart_looks_first).limit(120),
        Trial::new("verbs::how_a_guest_ended_is_told_and_kept", ends).guest(Guest::Busybox).limit(120),
        probe("verbs::a_broken_configuration_keeps_no_guest_running", broken_configuration),
        probe("verbs::a_supervisor_that_cannot_be_reached_can_be_ended", lost_socket),
        probe("verbs::several_containers_are_worked_on_at_once", several_at_once),
    ]
}

/// A file of the guest's group, wherever its controller is.
fn limit(sandbox: &Sandbox, v1: &str, v2: &str) -> String {
    let group = sandbox.info("p", "cgroup");
    let group = group.as_str().expect("it runs");
    let controller = v1.split('.').next().unwrap();
    let places = [
        format!("/sys/fs/cgroup/{controller}/{group}/{v1}"),
        format!("/sys/fs/cgroup/{group}/{v2}"),
        format!("/sys/fs/cgroup/unified/{group}/{v2}"),
    ];
    let found = places.iter().find_map(|file| fs::read_to_string(file).ok());
    found.unwrap_or_else(|| panic!("none of {places:?}")).trim().to_owned()
}

fn limits_change(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let memory = || limit(sandbox, "memory.limit_in_bytes", "memory.max");
    let unlimited = memory();
    let told = sandbox.lxm(&["config", "set", "p", "limits.memory", "64MiB", "limits.pids", "50"]).ok();
    assert_eq!(told.stderr, "", "it is said to take a restart");
    assert_eq!(memory(), (64 << 20).to_string());
    assert!(["50", "51"].contains(&limit(sandbox, "pids.max", "pids.max").as_str()));
    sandbox.lxm(&["config", "set", "p", "limits.memory", "32MiB", "limits.swap", "0"]).ok();
    assert_eq!(memory(), (32 << 20).to_string());
    sandbox.lxm(&["config", "set", "p", "limits.memory", "128MiB"]).ok();
    assert_eq!(memory(), (128 << 20).to_string());
    sandbox.lxm(&["config", "unset", "p", "limits.memory", "limits.swap"]).ok();
    assert_eq!(memory(), unlimited);
    sandbox.lxm(&["config", "set", "p", "security.nesting", "true"]).ok().complains("when it is started again");
}

fn refused_limit(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let before = limit(sandbox, "cpuset.cpus", "cpuset.cpus");
    sandbox.lxm(&["config", "set", "p", "limits.cpuset", "0-4000"]).fails(6).complains("cpuset");
    assert_eq!(limit(sandbox, "cpuset.cpus", "cpuset.cpus"), before);
    assert_eq!(sandbox.lxm(&["config", "get", "p", "limits.cpuset"]).ok().stdout, "");
}

fn low_limit(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    for none in ["0", "1KiB"] {
        sandbox.lxm(&["config", "set", "p", "limits.memory", none]).fails(6).complains("too small to start");
    }
    sandbox.lxm(&["config", "set", "p", "limits.memory", "100KiB", "limits.cpus", "0.5"]).ok();
    sandbox.lxm(&["start", "p"]).fails(1).complains("`limits.memory` is too small").complains("limits.memory");
    sandbox.lxm(&["config", "unset", "p", "limits.memory", "limits.cpus"]).ok();
    // What an earlier lxm took is named at the start and can be taken away.
    for name in ["../../x", "all", "lo", "abcdefghijklmnop"] {
        let key = format!("network.\"{name}\"");
        sandbox.lxm(&["config", "set", "p", &format!("{key}.type"), "none"]).fails(6).complains("name of an interface");
        let file = sandbox.layout().container(&"p".parse().unwrap()).join("config.toml");
        let before = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{before}\n[{key}]\ntype = \"none\"\n")).unwrap();
        sandbox.lxm(&["start", "p"]).fails(6).complains("name of an interface").complains("config unset p");
        sandbox.lxm(&["config", "unset", "p", &key]).ok();
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), before.trim());
    }
    sandbox.lxm(&["start", "p"]).ok();
    let memory = limit(sandbox, "memory.limit_in_bytes", "memory.max");
    assert!(memory == "max" || memory.parse::<u64>().unwrap() > 1 << 60, "{memory}");
    assert!(["-1", "max 100000"].contains(&limit(sandbox, "cpu.cfs_quota_us", "cpu.max").as_str()));
}

fn wait_sees(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let wait = |goal: &str| {
        let mut command = sandbox.command();
        command.args(["wait", "p", "--for", goal, "--timeout", "60s"]).spawn().unwrap()
    };
    let comes_to_pass = |mut waiting: std::process::Child| {
        let ended = command::wait(&mut waiting, Duration::from_secs(10));
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    };
    let booted = wait("booted");
    sandbox.lxm(&["start", "p"]).ok();
    comes_to_pass(booted);
    let frozen = wait("frozen");
    std::thread::sleep(Duration::from_millis(100));
    sandbox.lxm(&["freeze", "p"]).ok();
    comes_to_pass(frozen);
    let running = wait("RUNNING|STOPPED");
    std::thread::sleep(Duration::from_millis(100));
    sandbox.lxm(&["unfreeze", "p"]).ok();
    comes_to_pass(running);
    let stopped = wait("stopped");
    sandbox.lxm(&["kill", "p"]).ok();
    comes_to_pass(stopped);
}

fn logs_follow(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let mut following = sandbox.command();
    let mut following = following.args(["logs", "-f", "p"]).stdout(Stdio::piped()).spawn().unwrap();
    sandbox.lxm(&["kill", "-s", "HUP", "p"]).ok();
    eventually("the guest has the signal", Duration::from_secs(5), || {
        sandbox.console_log("p").contains("PROBE-SIGNAL 1")
    });
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    let ended = command::wait(&mut following, Duration::from_secs(5));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    let mut followed = String::new();
    following.stdout.take().unwrap().read_to_string(&mut followed).unwrap();
    assert_eq!(followed, sandbox.console_log("p"));
    assert!(followed.contains("PROBE-SIGNAL 1"));
}

fn kill_buries(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    sandbox.lxm(&["kill", "p"]).ok();
    sandbox.lxm(&["info", "-s", "-H", "p"]).ok().says("STOPPED");
    sandbox.lxm(&["kill", "p"]).fails(4).complains("not running");
    sandbox.lxm(&["freeze", "p"]).fails(4).complains("not running");
    sandbox.lxm(&["start", "p"]).ok();
}

fn gc_leaves_alone(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    sandbox.create("q", Guest::Probe, &[]);
    let staged = sandbox.path("var/lib/lxm/.staging/being-made");
    fs::create_dir_all(&staged).unwrap();
    let lock = lxm::testing::store::OperationLock::acquire(&sandbox.layout(), &"being-made".parse().unwrap()).unwrap();
    let leader = sandbox.leader("p");
    assert_eq!(sandbox.lxm(&["gc"]).ok().stdout, "");
    assert!(staged.exists());
    assert_eq!(sandbox.leader("p"), leader);
    sandbox.lxm(&["attach", "p", "--", "/bin/probe", "exit", "0"]).ok();
    drop(lock);
    sandbox.lxm(&["gc"]).ok().says("removed staging being-made");
    sandbox.lxm(&["start", "q"]).ok();
}

fn two_destroys(sandbox: &Sandbox) {
    for _ in 0..3 {
        sandbox.boot("p", Guest::Probe, &[]);
        let both = [0, 1].map(|_| sandbox.command().args(["destroy", "-q", "-f", "p"]).spawn().unwrap());
        let statuses =
            both.map(|mut child| command::wait(&mut child, Duration::from_secs(20)).unwrap().code().unwrap());
        assert!(statuses.contains(&0) && statuses.iter().all(|status| [0, 3].contains(status)), "{statuses:?}");
        sandbox.check_leaks();
    }
}

fn renames_in_a_circle(sandbox: &Sandbox) {
    for name in ["a", "b"] {
        sandbox.create(name, Guest::Probe, &[]);
    }
    for _ in 0..5 {
        let pairs = [["a", "b"], ["b", "a"], ["a", "c"], ["c", "a"]];
        let all = pairs.map(|pair| {
            let mut command = sandbox.command();
            command.arg("rename").args(pair).stderr(Stdio::null()).spawn().unwrap()
        });
        for mut child in all {
            let status = command::wait(&mut child, Duration::from_secs(10)).expect("they wait for each other");
            assert!([0, 3, 4].contains(&status.code().unwrap()), "{status}");
        }
    }
    assert_eq!(sandbox.lxm(&["list"]).ok().stdout.lines().count(), 2);
}

fn frozen(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    sandbox.lxm(&["freeze", "p"]).ok();
    // Done already is done.
    sandbox.lxm(&["freeze", "p"]).ok();
    assert!(sandbox.info("p", "memory_bytes").as_u64().unwrap() > 0);
    sandbox.lxm(&["info", "p"]).ok().says("FROZEN");
    assert_eq!(sandbox.lxm(&["list", "--frozen"]).ok().line(), "p");
    assert_eq!(sandbox.lxm(&["list", "--running"]).ok().stdout, "");
    sandbox.lxm(&["destroy", "p"]).fails(4);
    sandbox.lxm(&["destroy", "-f", "p"]).ok();
}

/// Makes the configuration of `web` one that cannot be read; gives what makes it whole again.
fn break_configuration(sandbox: &Sandbox) -> impl FnOnce() {
    let file = sandbox.layout().config_file(&"web".parse().unwrap());
    let whole = fs::read(&file).unwrap();
    fs::write(&file, "version = 1\nuuid\n").unwrap();
    move || fs::write(file, whole).unwrap()
}

fn changed_configuration(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "web"]).ok();
    let set = |key: &str, value: &str| sandbox.lxm(&["config", "set", "web", key, value]).ok();
    let inside = |command: &str| sandbox.lxm(&["attach", "web", "--", "sh", "-c", command]);
    set("environment.COLOUR", "green").complains("when it is started again");
    sandbox.lxm(&["restart", "web"]).ok();
    inside("tr '\\0' '\\n' < /proc/1/environ").ok().says("COLOUR=green\n");
    // A guest that reboots by itself boots as it did: there is no command to report to.
    let leader = sandbox.leader("web");
    let mend = break_configuration(sandbox);
    // It may be ended by the reboot before it has said that all is well.
    drop(inside("reboot"));
    eventually("it has rebooted", Duration::from_secs(20), || {
        sandbox.info("web", "pid").as_i64().is_some_and(|pid| pid != i64::from(leader))
    });
    inside("tr '\\0' '\\n' < /proc/1/environ").ok().says("COLOUR=green\n");
    mend();
    set("boot.init", "/sbin/none");
    sandbox.lxm(&["restart", "web"]).fails(6).complains("`web` runs on").complains("has no `/sbin/none`");
    assert_eq!(sandbox.info("web", "state"), "running");
    sandbox.lxm(&["config", "unset", "web", "boot.init"]).ok();
    // Nor does what the host lacks keep it down after a reboot of its own.
    set("network.eth7.bridge", "nobr");
    let leader = sandbox.leader("web");
    drop(inside("reboot"));
    eventually("it has rebooted", Duration::from_secs(20), || {
        sandbox.info("web", "pid").as_i64().is_some_and(|pid| pid != i64::from(leader))
    });
    sandbox.lxm(&["config", "unset", "web", "network.eth7"]).ok();
    sandbox.lxm(&["restart", "web"]).ok();
    set("security.privileged", "true");
    sandbox.lxm(&["restart", "web"]).fails(4).complains("a reboot is not enough");
    sandbox.lxm(&["stop", "web"]).ok();
    sandbox.lxm(&["start", "web"]).ok();
    assert_eq!(sandbox.info("web", "privileged"), true);
}

fn broken_configuration(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &[]);
    sandbox.lxm(&["start", "web"]).ok();
    let leader = sandbox.leader("web");
    let mend = break_configuration(sandbox);
    // It would not boot again.
    sandbox.lxm(&["restart", "web"]).fails(6).complains("config.toml:2");
    assert_eq!(sandbox.leader("web"), leader);
    sandbox.lxm(&["info", "web"]).ok().complains("config.toml:2");
    sandbox.lxm(&["stop", "web"]).ok().complains("warning: ").complains("config.toml:2");
    sandbox.lxm(&["start", "web"]).fails(6).complains("config.toml:2");
    mend();
    sandbox.lxm(&["start", "web"]).ok();
    sandbox.lxm(&["stop", "-t", "10", "web"]).ok();
}

fn lost_socket(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    fs::remove_file(sandbox.layout().control_socket(&"p".parse().unwrap())).unwrap();
    let supervisor = sandbox.supervisor("p");
    sandbox.lxm(&["stop", "p"]).fails(1).complains(&format!("`kill {supervisor}`"));
    command::run("kill", &[&supervisor.to_string()]).ok();
    eventually("it has stopped", Duration::from_secs(20), || sandbox.info("p", "state") == "stopped");
    sandbox.lxm(&["start", "p"]).ok();
}

fn frozen_is_not_ready(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    sandbox.lxm(&["freeze", "p"]).ok();
    for state in ["booted", "network", "ssh"] {
        sandbox.lxm(&["start", "p", "--wait", state]).fails(4).complains("is frozen").complains("lxm unfreeze p");
        sandbox.lxm(&["wait", "p", "--for", state, "-t", "100ms"]).fails(7).complains("still frozen");
    }
    sandbox.lxm(&["unfreeze", "p"]).ok();
    sandbox.lxm(&["start", "p", "--wait", "booted"]).ok();
    sandbox.lxm(&["wait", "p", "--for", "booted", "-t", "10s"]).ok();
}

fn idempotent(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let leader = sandbox.leader("p");
    sandbox.lxm(&["start", "p", "--wait", "booted"]).ok();
    sandbox.lxm(&["start", "p"]).fails(4).complains("already running");
    sandbox.lxm(&["start", "p", "--wait", "booted", "--ephemeral"]).fails(4).complains("not with `--ephemeral`");
    assert_eq!(sandbox.leader("p"), leader);
    sandbox.lxm(&["restart", "p", "--wait", "booted"]).ok();
    assert_ne!(sandbox.leader("p"), leader);
    sandbox.lxm(&["stop", "p"]).ok();
    sandbox.lxm(&["start", "p", "--wait", "booted", "--ephemeral"]).ok();
    sandbox.lxm(&["start", "p", "--wait", "booted", "--ephemeral"]).ok();
}

fn all_of_them(sandbox: &Sandbox) {
    for name in ["a-1", "a-2", "b"] {
        sandbox.create(name, Guest::Probe, &[]);
    }
    let running = || sandbox.lxm(&["list", "--running"]).ok().stdout;
    sandbox.lxm(&["start", "a-1"]).ok();
    sandbox.lxm(&["start", "a-*"]).ok();
    assert_eq!(running(), "a-1\na-2\n");
    sandbox.lxm(&["start", "--all"]).ok();
    assert_eq!(running(), "a-1\na-2\nb\n");
    sandbox.lxm(&["freeze", "?-1"]).ok();
    sandbox.lxm(&["freeze", "a*"]).ok();
    assert_eq!(running(), "b\n");
    sandbox.lxm(&["unfreeze", "--all"]).ok();
    sandbox.lxm(&["stop", "a*", "b", "a-1"]).ok();
    assert_eq!(running(), "");
}

fn several_at_once(sandbox: &Sandbox) {
    for name in ["a", "b", "c"] {
        sandbox.create(name, Guest::Probe, &[]);
    }
    let states = || ["a", "b", "c"].map(|name| sandbox.info(name, "state").as_str().unwrap().to_lowercase());
    sandbox.lxm(&["start", "a", "b", "c"]).ok();
    assert_eq!(states(), ["running"; 3]);
    sandbox.lxm(&["freeze", "a", "c"]).ok();
    assert_eq!(states(), ["frozen", "running", "frozen"]);
    sandbox.lxm(&["unfreeze", "a", "c"]).ok();
    let leaders = || ["a", "b"].map(|name| sandbox.leader(name));
    let before = leaders();
    sandbox.lxm(&["restart", "a", "b"]).ok();
    assert!(before.iter().zip(leaders()).all(|(before, now)| *before != now));
    // One that cannot be done keeps no other from being done, and is what the status says.
    let told = sandbox.lxm(&["stop", "a", "nobody", "b"]).fails(3).complains("`nobody`");
    assert!(!told.stderr.contains("`c`"), "{told}");
    assert_eq!(states(), ["stopped", "stopped", "running"]);
    sandbox.lxm(&["start", "-F", "a", "b"]).fails(2).complains("--foreground");
    sandbox.lxm(&["kill", "nobody", "c"]).fails(3).complains("`nobody`");
    assert_eq!(states(), ["stopped"; 3]);
    sandbox.lxm(&["enable", "a", "b"]).ok();
    sandbox.lxm(&["copy", "a", "d", "e", "b", "f"]).fails(4).complains("`b`");
    let uuids: std::collections::BTreeSet<String> =
        ["a", "d", "e", "f"].iter().map(|name| sandbox.info(name, "uuid").to_string()).collect();
    assert_eq!(uuids.len(), 4);
    sandbox.lxm(&["start", "d", "e", "f"]).ok();
    let told = sandbox.lxm(&["destroy", "-f", "a", "b", "c", "d", "e", "f"]).ok().stderr;
    let mut lines: Vec<&str> = told.lines().filter(|line| line.starts_with("destroyed")).collect();
    lines.sort();
    assert_eq!(lines, ["a", "b", "c", "d", "e", "f"].map(|name| format!("destroyed `{name}`")), "each in one piece");
    assert_eq!(sandbox.lxm(&["list"]).ok().stdout, "");
}

/// What a start refuses before the guest exists, a restart refuses before the guest is shut down.
fn restart_looks_first(sandbox: &Sandbox) {
    for name in ["p", "other"] {
        sandbox.boot(name, Guest::Probe, &[]);
    }
    let file = |name: &str| sandbox.layout().config_file(&name.parse().unwrap());
    let good = fs::read_to_string(file("p")).unwrap();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ids = sandbox.info("other", "ids");
    let ids = ids.as_str().unwrap();
    for (added, status, says) in [
        ("[network.eth1]\nbridge = \"nobr\"".to_owned(), 3, "no bridge `nobr`"),
        ("[network.eth1]\nbridge = \"lo\"".to_owned(), 6, "`lo` is not a bridge"),
        ("[network.eth1]\ntype = \"macvlan\"\nparent = \"nolink\"".to_owned(), 3, "no link `nolink`"),
        ("[network.eth1]\ntype = \"macvlan\"".to_owned(), 6, "`parent` is not set"),
        (format!("[network.eth1]\npublish = [\"{port}:80\"]"), 4, "is taken"),
        ("[[mount]]\nsource = \"/nonexistent\"\ntarget = \"/mnt\"".to_owned(), 6, "mount `/nonexistent`"),
        ("[[device]]\npath = \"/dev/nonexistent\"".to_owned(), 6, "/dev/nonexistent"),
        ("[[device]]\npath = \"/etc/hostname\"".to_owned(), 6, "is not a device"),
        ("[boot]\ninit = \"/sbin/nonexistent\"".to_owned(), 6, "/sbin/nonexistent"),
        ("[security]\napparmor = \"nosuch\"".to_owned(), 5, "AppArmor"),
        (format!("[security]\nidmap = \"{ids}\""), 4, "`other`"),
        ("[limits]\npids = 0".to_owned(), 6, "limits.pids"),
        ("[limits]\nmemroy = \"1GiB\"".to_owned(), 6, "memroy"),
        ("[[".to_owned(), 6, "config.toml:"),
    ] {
        let leader = sandbox.leader("p");
        fs::write(file("p"), format!("{good}\n{added}\n")).unwrap();
        for restart in [&["restart", "p"][..], &["restart", "-k", "p"], &["restart", "p", "--wait", "booted"]] {
            let refused = sandbox.lxm(restart).fails(status).complains(says);
            assert!(!refused.stderr.contains("warning: "), "said twice: {}", refused.stderr);
            assert!(!refused.stderr.contains("sent SIG"), "{}", refused.stderr);
            assert_eq!(sandbox.leader("p"), leader, "`{added}`: the guest was stopped");
        }
    }
    // Of several the others are restarted.
    let (leader, other) = (sandbox.leader("p"), sandbox.leader("other"));
    sandbox.lxm(&["restart", "--all", "-k"]).fails(6).complains("config.toml:");
    assert_eq!(sandbox.leader("p"), leader);
    assert_ne!(sandbox.leader("other"), other);
    // And what is in order is no obstacle: an optional source, a port that is its own.
    fs::write(file("p"), format!("{good}\n[[mount]]\nsource = \"/nonexistent\"\ntarget = \"/mnt\"\noptional = true\n"))
        .unwrap();
    sandbox.lxm(&["restart", "-k", "p"]).ok();
    assert_ne!(sandbox.leader("p"), leader);
}

/// Puts a program in place of the init of `web`.
fn init_is(sandbox: &Sandbox, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let file = sandbox.path("script");
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.lxm(&["push", file.to_str().unwrap(), "web:/sbin/script"]).ok();
    sandbox.lxm(&["config", "set", "web", "boot.init", "/sbin/script", "boot.init-type", "other"]).ok();
    fs::remove_file(file).unwrap();
}

fn ends(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Busybox, &[]);
    let end = || sandbox.info("web", "last_end");
    let is_stopped = || sandbox.info("web", "state") == "stopped";
    let has_stopped = || eventually("it has stopped", Duration::from_secs(20), is_stopped);
    assert!(end().is_null());
    init_is(sandbox, "printf 'one\\n\\033[31mtwo\\033]0;x\\007\\n'\nexit 3");
    for state in ["booted", "network", "ssh"] {
        let failed = sandbox.lxm(&["start", "web", "--wait", state]).fails(1);
        let failed = failed.complains("its init exited with status 3").complains("\n  | one\n  | two\n");
        failed.complains("`lxm logs web` shows");
        assert!(is_stopped());
    }
    sandbox.lxm(&["info", "web"]).ok().says("its init exited with status 3").says("two");
    let (kept, console) = (end(), serde_json::json!(["one", "two"]));
    assert_eq!((&kept["end"], &kept["status"], &kept["console"]), (&"exited".into(), &3.into(), &console), "{kept}");
    // A start alone waits for its execution; how it ended is known all the same.
    init_is(sandbox, "exit 4");
    sandbox.lxm(&["start", "web"]).ok();
    has_stopped();
    assert_eq!(end()["status"], 4);

    init_is(sandbox, "trap '' TERM; while :; do sleep 1; done");
    sandbox.lxm(&["start", "web", "--wait", "booted"]).ok();
    sandbox.lxm(&["stop", "web", "-t", "1"]).ok().complains("did not shut down within 1s");
    assert_eq!((&end()["end"], &end()["timeout_s"]), (&"timed-out".into(), &1.0.into()));
    let log = fs::read_to_string(sandbox.layout().log_dir(&"web".parse().unwrap()).join("supervisor.log")).unwrap();
    assert!(log.contains("`web` has ended: it did not shut down within 1s and was killed"), "{log}");
    sandbox.lxm(&["start", "web"]).ok();
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    assert_eq!(end()["end"], "killed");

    sandbox.lxm(&["config", "set", "web", "limits.memory", "24MiB", "limits.swap", "0"]).ok();
    init_is(sandbox, "exec tail /dev/zero");
    sandbox.lxm(&["start", "web"]).ok();
    has_stopped();
    assert_eq!((&end()["end"], &end()["signal"]), (&"signalled".into(), &"SIGKILL".into()), "{}", end());
    assert!(end()["oom_kills"].as_u64() >= Some(1), "{}", end());
    sandbox.lxm(&["info", "web"]).ok().says("for want of memory");
    sandbox.lxm(&["config", "unset", "web", "limits.memory", "limits.swap", "boot.init", "boot.init-type"]).ok();

    sandbox.lxm(&["start", "web", "--wait", "booted"]).ok();
    sandbox.lxm(&["stop", "web"]).ok();
    assert_eq!(end()["end"], "shut-down");
    sandbox.lxm(&["start", "web", "--wait", "booted"]).ok();
    sandbox.lxm(&["attach", "web", "--", "poweroff"]).ok();
    has_stopped();
    assert_eq!(end()["end"], "powered-off");
    sandbox.lxm(&["start", "web"]).ok();
    let supervisor = sandbox.supervisor("web");
    command::run("kill", &["-9", &supervisor.to_string()]).ok();
    has_stopped();
    sandbox.lxm(&["start", "web"]).ok();
    assert_eq!(end()["end"], "lost");
}
