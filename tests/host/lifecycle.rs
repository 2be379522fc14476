//! The verbs that live with containers: info, list, config, rename, freeze, kill, wait, destroy, gc.

use std::time::Duration;

use crate::support::{Guest, Sandbox, Trial, eventually};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe);
    vec![
        probe("lifecycle::info_has_the_lines_of_lxc_info", info_has_the_lines_of_lxc_info),
        probe("lifecycle::numbers_of_info_are_those_of_the_kernel", numbers_of_info),
        probe("lifecycle::list_shows_all_sorted_and_filtered", list),
        probe("lifecycle::every_verb_takes_the_name_by_option_too", names_by_option),
        probe("lifecycle::unknown_names_are_not_found", unknown_names),
        probe("lifecycle::limits_are_in_force", limits_are_in_force),
        probe("lifecycle::freeze_stops_every_process", freeze),
        probe("lifecycle::kill_sends_the_signal_to_init", kill),
        probe("lifecycle::wait_waits_for_a_state", wait),
        probe("lifecycle::rename_moves_everything", rename),
        probe("lifecycle::destroy_removes_everything", destroy),
        probe("lifecycle::what_is_not_root_s_is_refused", not_root),
        Trial::new("lifecycle::check_tells_what_the_host_offers", check),
    ]
}

fn info_has_the_lines_of_lxc_info(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let stopped = sandbox.lxm(&["info", "p"]).ok();
    stopped.says("Name:           p\n").says("STOPPED");
    sandbox.lxm(&["start", "p", "--wait", "booted"]).ok();
    let told = sandbox.lxm(&["info", "p"]).ok();
    for label in ["Name:", "State:", "PID:", "CPU use:", "BlkIO use:", "Memory use:"] {
        let line = told.stdout.lines().find(|line| line.starts_with(label));
        let line = line.unwrap_or_else(|| panic!("no `{label}` in {told}"));
        // Values begin in column 17, as in lxc-info.
        assert_eq!(line.find(|c: char| c != ' ' && !label.contains(c)).map(|_| &line[..label.len()]), Some(label));
        assert!(line.len() > 16 && line.as_bytes()[15] == b' ' && line.as_bytes()[16] != b' ', "`{line}`");
    }
    let said = told.says("RUNNING");
    assert!(said.stdout.contains(&sandbox.leader("p").to_string()));
}

fn numbers_of_info(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let info = sandbox.lxm(&["info", "p", "--format", "json"]).ok().json();
    let memory = info["memory_bytes"].as_u64().unwrap();
    assert!((50_000..100 << 20).contains(&memory), "{memory} bytes for one small process");
    let cpu = info["cpu_s"].as_f64().unwrap();
    assert!((0.000_1..10.0).contains(&cpu), "{cpu} s for one small process");
    let uptime = info["uptime_s"].as_f64().unwrap();
    assert!((0.0..60.0).contains(&uptime), "{uptime} s");
    assert_eq!(info["name"], "p");
    assert_eq!(info["privileged"], false);
    assert_eq!(info["template"], "archive");
    assert_eq!(info["ipv4"], serde_json::json!([]));
}

fn list(sandbox: &Sandbox) {
    for name in ["b", "a", "c"] {
        sandbox.create(name, Guest::Probe, &[]);
    }
    sandbox.lxm(&["start", "b"]).ok();
    let names = |args: &[&str]| {
        let list = sandbox.lxm(&[&["list", "--format", "json"], args].concat()).ok().json();
        let names = list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["a", "b", "c"]);
    assert_eq!(names(&["--running"]), ["b"]);
    assert_eq!(names(&["--stopped"]), ["a", "c"]);
    let table = sandbox.lxm(&["list", "-f"]).ok();
    let first = table.stdout.lines().next().unwrap();
    for column in ["NAME", "STATE", "PID", "IPV4", "IPV6", "MEMORY", "AUTOSTART", "TEMPLATE", "PRIVILEGED"] {
        assert!(first.contains(column), "no {column} in `{first}`");
    }
    assert!(table.stdout.lines().any(|line| line.starts_with('b') && line.contains("RUNNING")), "{table}");
    for alias in ["ls", "ps"] {
        sandbox.lxm(&[alias]).ok().says("a");
    }
    // It is data: names alone, one a line, where there is no terminal.
    assert_eq!(sandbox.lxm(&["list"]).ok().stdout.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c"]);
}

fn names_by_option(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    for args in [
        &["start", "-n", "p"][..],
        &["info", "--name", "p"],
        &["freeze", "-n", "p"],
        &["unfreeze", "-n", "p"],
        &["logs", "-n", "p"],
        &["stop", "-k", "-n", "p"],
        &["destroy", "-n", "p"],
    ] {
        sandbox.lxm(args).ok();
    }
}

fn unknown_names(sandbox: &Sandbox) {
    for verb in ["start", "stop", "restart", "info", "freeze", "unfreeze", "destroy", "logs", "console", "ssh"] {
        let told = sandbox.lxm(&[verb, "nobody"]).fails(3).complains("`nobody`");
        assert!(told.stderr.starts_with("error: "), "{told}");
        assert_eq!(told.stdout, "", "{told}");
    }
    sandbox.lxm(&["export", "nobody"]).fails(3).complains("`nobody.tar.zst`");
    for bad in ["UPPER", "-dash", "a_b", "", "a/b", "..", &"x".repeat(64)] {
        sandbox.lxm(&["info", "-n", bad]).fails(2);
    }
    let layout = sandbox.layout();
    assert!(!layout.run().join("nobody").exists(), "a look at nothing has left something");
}

fn limits_are_in_force(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    for (key, value) in
        [("limits.memory", "64MiB"), ("limits.pids", "100"), ("limits.cpus", "0.5"), ("limits.cpu-weight", "50")]
    {
        sandbox.lxm(&["config", "set", "p", key, value]).ok();
    }
    sandbox.lxm(&["start", "p"]).ok();
    // Wherever the controller is: v1 trees have one directory each.
    let group = sandbox.layout().cgroup(&"p".parse().unwrap());
    let read = |v1: &str, v2: &str| {
        let (controller, file) = v1.split_once('/').unwrap();
        let places = [format!("/sys/fs/cgroup/{controller}/{group}/{file}"), format!("/sys/fs/cgroup/{group}/{v2}")];
        let found = places.iter().find_map(|place| std::fs::read_to_string(place).ok());
        found.unwrap_or_else(|| panic!("none of {places:?}")).trim().to_owned()
    };
    assert_eq!(read("memory/memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    // A v1 group holds the supervisor too, which is not the guest's to count.
    assert!(["100", "101"].contains(&read("pids/pids.max", "pids.max").as_str()));
    let quota = read("cpu/cpu.cfs_quota_us", "cpu.max");
    assert!(["50000", "50000 100000"].contains(&quota.as_str()), "{quota}");
    // And while it runs.
    sandbox.lxm(&["config", "set", "p", "limits.pids", "200"]).ok();
    assert_eq!(sandbox.lxm(&["config", "get", "p", "limits.pids"]).ok().line(), "200");
}

fn freeze(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let leader = sandbox.leader("p");
    let wakes = || {
        let status = std::fs::read_to_string(format!("/proc/{leader}/status")).unwrap();
        status.lines().find(|line| line.starts_with("State:")).unwrap().to_owned()
    };
    sandbox.lxm(&["pause", "p"]).ok();
    assert!(sandbox.info("p", "state").as_str().unwrap().eq_ignore_ascii_case("frozen"));
    sandbox.lxm(&["info", "p"]).ok().says("FROZEN");
    sandbox.lxm(&["kill", "-s", "HUP", "p"]).ok();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!sandbox.console_log("p").contains("PROBE-SIGNAL 1"), "it took a signal: {}", wakes());
    sandbox.lxm(&["unpause", "p"]).ok();
    eventually("it takes the signal", Duration::from_secs(5), || sandbox.console_log("p").contains("PROBE-SIGNAL 1"));
}

fn kill(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    for (signal, number) in [("HUP", 1), ("SIGWINCH", 28), ("1", 1)] {
        sandbox.lxm(&["kill", "-s", signal, "p"]).ok();
        let shown = format!("PROBE-SIGNAL {number}");
        eventually("init has the signal", Duration::from_secs(5), || sandbox.console_log("p").contains(&shown));
    }
    sandbox.lxm(&["kill", "-s", "NONSENSE", "p"]).fails(2);
    sandbox.lxm(&["kill", "-s", "KILL", "p"]).ok();
    sandbox.lxm(&["wait", "p", "--for", "stopped", "--timeout", "60s"]).ok();
}

fn wait(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    sandbox.lxm(&["wait", "p", "--for", "stopped"]).ok();
    let told = sandbox.lxm(&["wait", "p", "--for", "running", "--timeout", "300ms"]).fails(7);
    assert!(told.took < Duration::from_secs(5), "{told}");
    let mut command = sandbox.command();
    let mut waiting = command.args(["wait", "p", "--for", "running", "--timeout", "60s"]).spawn().unwrap();
    sandbox.lxm(&["start", "p"]).ok();
    assert!(waiting.wait().unwrap().success());
    let mut command = sandbox.command();
    let mut waiting = command.args(["wait", "p", "--for", "stopped", "--timeout", "60s"]).spawn().unwrap();
    sandbox.lxm(&["stop", "p"]).ok();
    assert!(waiting.wait().unwrap().success());
}

fn rename(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    sandbox.lxm(&["rename", "p", "q"]).fails(4).complains("run");
    sandbox.lxm(&["stop", "p"]).ok();
    sandbox.create("other", Guest::Probe, &[]);
    sandbox.lxm(&["rename", "p", "other"]).fails(4).complains("other");
    let uuid = sandbox.info("p", "uuid");
    sandbox.lxm(&["rename", "p", "q"]).ok();
    sandbox.lxm(&["info", "p"]).fails(3).complains("`p`");
    assert_eq!(sandbox.info("q", "uuid"), uuid);
    sandbox.lxm(&["start", "q", "--wait", "booted"]).ok();
    // The log has come along, with the report of the first boot.
    eventually("it has its new name", Duration::from_secs(5), || {
        sandbox.console_log("q").contains("\"hostname\":\"q\"")
    });
}

fn destroy(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    sandbox.lxm(&["destroy", "p"]).fails(4);
    sandbox.lxm(&["destroy", "-f", "p"]).ok();
    assert_eq!(sandbox.lxm(&["list"]).ok().stdout, "");
    let layout = sandbox.layout();
    let name = "p".parse().unwrap();
    for path in [layout.container(&name), layout.log_dir(&name), layout.run_dir(&name)] {
        assert!(!path.exists(), "{} is left", path.display());
    }
    // What it left can be taken again at once.
    sandbox.boot("p", Guest::Probe, &[]);
}

fn not_root(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    for verb in ["start", "destroy"] {
        let mut command = std::process::Command::new("setpriv");
        sandbox.environment(&mut command);
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
        // The directories of the build are not everybody's to read.
        let program = sandbox.path("lxm-for-all");
        std::fs::copy(crate::support::sandbox::program(), &program).unwrap();
        command.arg(&program).args([verb, "p"]);
        let told = crate::support::command::bounded(command, b"", Duration::from_secs(10));
        assert_eq!(told.status, 5, "{told}");
        told.complains("root");
    }
    sandbox.lxm(&["start", "p"]).ok();
}

fn check(sandbox: &Sandbox) {
    let told = sandbox.lxm(&["check"]);
    assert!([0, 5].contains(&told.status), "{told}");
    let checks = sandbox.lxm(&["check", "--format", "json"]);
    let checks = checks.json();
    let text = checks.to_string();
    for subject in ["cgroup", "idmap", "userns"] {
        assert!(told.stdout.to_lowercase().contains(subject) || text.contains(subject), "no word of {subject}: {told}");
    }
}
