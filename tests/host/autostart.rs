//! Containers that start and stop with a bare host: what its boot scripts run.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Guest, Sandbox, Trial, command, eventually};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe);
    vec![
        probe("autostart::starts_in_order_and_stops_in_the_reverse", in_order),
        probe("autostart::a_failure_is_retried_and_reported", failures),
        probe("autostart::a_missing_or_circular_dependency_stops_no_other", independent),
        probe("autostart::a_rename_is_followed_and_a_destroy_is_said", dependants),
        probe("autostart::who_requires_it_is_stopped_first_and_started_again", requiring),
        probe("autostart::what_is_not_there_yet_is_waited_for", late).limit(120),
        probe("autostart::circles_are_refused_when_set", circles),
    ]
}

/// The report stays until the host boots anew.
fn forget_report(sandbox: &Sandbox) {
    std::fs::remove_file(sandbox.path("run/lxm/.autostart.toml")).expect("remove the boot report");
}

/// A row of the boot report.
fn row(sandbox: &Sandbox, name: &str) -> Value {
    let report = sandbox.lxm(&["boot-report", "--format", "json"]).ok().json();
    let rows = report.as_array().expect("a list").clone();
    rows.into_iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} is not in {report}"))
}

fn seconds(row: &Value, field: &str) -> f64 {
    row[field].as_f64().unwrap_or_else(|| panic!("{field} is no number in {row}"))
}

fn in_order(sandbox: &Sandbox) {
    for name in ["db", "cache", "web", "idle", "disk"] {
        sandbox.create(name, Guest::Probe, &[]);
    }
    sandbox.lxm(&["config", "set", "web", "boot.autostart-after", "db,cache"]).ok();
    sandbox.lxm(&["config", "set", "db", "boot.requires", "disk"]).ok();
    for name in ["db", "cache", "web"] {
        sandbox.lxm(&["enable", name]).ok();
        assert_eq!(sandbox.info(name, "autostart"), true);
    }
    sandbox.lxm(&["autostart"]).ok();
    for (name, state) in
        [("db", "running"), ("cache", "running"), ("web", "running"), ("disk", "running"), ("idle", "stopped")]
    {
        assert_eq!(sandbox.info(name, "state"), state, "{name}");
    }
    let ended = |name| seconds(&row(sandbox, name), "began_s") + seconds(&row(sandbox, name), "took_s");
    let began = |name| seconds(&row(sandbox, name), "began_s");
    for (earlier, later) in [("disk", "db"), ("db", "web"), ("cache", "web")] {
        assert!(
            ended(earlier) <= began(later),
            "{later} began at {}, {earlier} was ready at {}",
            began(later),
            ended(earlier)
        );
    }
    assert!(began("cache") < ended("disk"), "independent containers were not started at once");
    // What runs already is left as it is.
    let leader = sandbox.leader("web");
    sandbox.lxm(&["autostart"]).ok();
    assert_eq!(sandbox.leader("web"), leader);

    sandbox.lxm(&["autostart", "--stop"]).ok();
    for name in ["db", "cache", "web", "disk"] {
        assert_eq!(sandbox.info(name, "state"), "stopped", "{name}");
    }
    sandbox.lxm(&["disable", "web"]).ok();
    assert_eq!(sandbox.info("web", "autostart"), false);
    forget_report(sandbox);
}

/// Files that were edited by hand, or restored without one of them.
fn independent(sandbox: &Sandbox) {
    for name in ["free", "needy", "a", "b", "odd", "broken"] {
        sandbox.create(name, Guest::Probe, &[]);
        sandbox.lxm(&["enable", name]).ok();
    }
    let write = |name: &str, line: &str| {
        let file = sandbox.layout().config_file(&name.parse().unwrap());
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("[boot]\n", &format!("[boot]\n{line}\n"))).unwrap();
    };
    write("needy", "requires = [\"missing\"]");
    write("a", "autostart-after = [\"b\"]");
    write("b", "autostart-after = [\"a\"]");
    write("odd", "requires = [\"../x\"]");
    write("broken", "nonsense = 1");
    sandbox.lxm(&["autostart"]).fails(1).complains("`missing`").complains("ordering cycle");
    assert_eq!(sandbox.info("free", "state"), "running");
    for name in ["needy", "a", "b"] {
        assert_eq!(sandbox.info(name, "state"), "stopped", "{name}");
    }
    assert_eq!(row(sandbox, "a")["state"], "skipped");
    assert_eq!(row(sandbox, "needy")["state"], "skipped");
    sandbox.lxm(&["autostart", "--stop"]).ok();
    forget_report(sandbox);
}

fn dependants(sandbox: &Sandbox) {
    for name in ["db", "web", "mail"] {
        sandbox.create(name, Guest::Probe, &[]);
    }
    sandbox.lxm(&["config", "set", "web", "boot.requires", "db", "boot.autostart-after", "mail,db"]).ok();
    sandbox.lxm(&["rename", "db", "sql"]).ok();
    let get = |key: &str| sandbox.lxm(&["config", "get", "web", key]).ok().line().to_owned();
    assert_eq!((get("boot.requires"), get("boot.autostart-after")), ("[\"sql\"]".into(), "[\"mail\", \"sql\"]".into()));
    sandbox.lxm(&["destroy", "mail"]).ok();
    sandbox.lxm(&["destroy", "sql"]).ok().complains("`web` requires `sql`");
    sandbox.lxm(&["enable", "web"]).ok();
    sandbox.lxm(&["autostart"]).fails(1).complains("`sql`");
    forget_report(sandbox);
}

/// By hand as with the host: nothing runs without what it requires.
fn requiring(sandbox: &Sandbox) {
    for name in ["db", "web", "mail", "free"] {
        sandbox.create(name, Guest::Probe, &[]);
    }
    sandbox.lxm(&["config", "set", "web", "boot.requires", "db"]).ok();
    sandbox.lxm(&["config", "set", "mail", "boot.requires", "web"]).ok();
    let states = || ["db", "web", "mail", "free"].map(|name| sandbox.info(name, "state").as_str() == Some("running"));
    let all = [true, true, true, false];
    sandbox.lxm(&["start", "mail"]).ok().complains("`db` is required and is started first");
    assert_eq!(states(), all);
    // Others are left alone.
    sandbox.lxm(&["stop", "mail"]).ok();
    assert_eq!(states(), [true, true, false, false]);
    sandbox.lxm(&["start", "mail", "free"]).ok();
    let leaders = ["db", "web", "mail", "free"].map(|name| sandbox.leader(name));
    let told = sandbox.lxm(&["restart", "db"]).ok();
    told.complains("`web` requires `db` and is stopped first").complains("`mail` requires `web`");
    assert_eq!(states(), [true; 4]);
    let now = ["db", "web", "mail", "free"].map(|name| sandbox.leader(name));
    let same: Vec<_> = leaders.iter().zip(&now).map(|(before, now)| before == now).collect();
    assert_eq!(same, [false, false, false, true]);
    // What is refused stops nothing.
    let config = sandbox.layout().config_file(&"db".parse().unwrap());
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\nnonsense = 1\n")).unwrap();
    sandbox.lxm(&["restart", "db"]).fails(6);
    assert_eq!(["db", "web", "mail", "free"].map(|name| sandbox.leader(name)), now);
    std::fs::write(&config, text).unwrap();
    let listed = sandbox.lxm(&["stop", "db", "--format", "json"]).ok().json();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["mail", "web", "db"]);
    assert_eq!(states(), [false, false, false, true]);
    // The guest's own end is no request.
    sandbox.lxm(&["start", "web"]).ok();
    sandbox.lxm(&["kill", "db", "-s", "KILL"]).ok();
    sandbox.lxm(&["wait", "db", "--for", "stopped"]).ok();
    assert_eq!(states(), [false, true, false, true]);
    sandbox.lxm(&["start", "web", "db", "--wait", "booted"]).ok();
    sandbox.lxm(&["destroy", "-f", "db"]).ok().complains("`web` requires `db` and is stopped first");
    assert_eq!(sandbox.info("web", "state"), "stopped");
    sandbox.lxm(&["start", "mail"]).fails(3).complains("`db` does not exist").complains("`web` requires `db`");
    sandbox.lxm(&["stop", "--all"]).ok();
}

fn failures(sandbox: &Sandbox) {
    for name in ["good", "bad", "needy", "wrong"] {
        sandbox.create(name, Guest::Probe, &["--storage", "dir"]);
        sandbox.lxm(&["enable", name]).ok();
    }
    sandbox.lxm(&["config", "set", "needy", "boot.requires", "bad"]).ok();
    // One that may pass is tried four times, within seven seconds; a wrong configuration is not.
    let rootfs = sandbox.path("var/lib/lxm/bad/rootfs");
    let away = rootfs.with_file_name("away");
    std::fs::rename(&rootfs, &away).expect("take the root file system away");
    let config = sandbox.path("var/lib/lxm/wrong/config.toml");
    let mut text = std::fs::read_to_string(&config).expect("read the configuration");
    text.push_str("[[mount]]\nsource = \"/run/missing\"\ntarget = \"/srv\"\n");
    std::fs::write(&config, text).expect("write the configuration");
    let begun = Instant::now();
    let told = sandbox.lxm(&["autostart"]).fails(1);
    assert!(begun.elapsed().as_secs_f64() > 6.0, "{told}");
    told.complains("3 containers did not start");
    for (name, state, attempts) in
        [("good", "started", 1), ("bad", "failed", 4), ("needy", "skipped", 0), ("wrong", "failed", 1)]
    {
        let row = row(sandbox, name);
        assert_eq!((row["state"].as_str(), row["attempts"].as_u64()), (Some(state), Some(attempts)), "{row}");
    }
    assert!(row(sandbox, "wrong")["error"].as_str().is_some_and(|error| error.contains("/run/missing")));
    let list = sandbox.lxm(&["list", "--columns", "name,autostart"]).ok();
    for line in ["bad failed", "good true", "needy skipped"] {
        assert!(list.stdout.lines().any(|row| row.split_whitespace().eq(line.split(' '))), "{line}: {list}");
    }
    std::fs::rename(&away, &rootfs).expect("bring the root file system back");
    sandbox.lxm(&["start", "bad"]).ok();
    sandbox.lxm(&["autostart", "--stop"]).ok();
    forget_report(sandbox);
}

fn circles(sandbox: &Sandbox) {
    for name in ["a", "b"] {
        sandbox.create(name, Guest::Probe, &[]);
    }
    sandbox.lxm(&["config", "set", "a", "boot.autostart-after", "b"]).ok();
    sandbox.lxm(&["config", "set", "b", "boot.requires", "a"]).fails(6).complains("cycle");
    assert!(!sandbox.lxm(&["config", "show", "b"]).ok().stdout.contains("requires"));
}

/// A bridge, a parent and a source that come after the boot script has begun.
fn late(sandbox: &Sandbox) {
    let source = sandbox.path("late");
    let source = source.to_str().unwrap();
    for (name, settings) in [
        ("free", &[][..]),
        ("port", &["network.eth0.type", "veth", "network.eth0.bridge", "br9"]),
        ("lan", &["network.eth0.type", "macvlan", "network.eth0.parent", "br9"]),
        ("disk", &["mount.0.source", source, "mount.0.target", "/mnt"]),
        ("never", &["mount.0.source", "/nonexistent", "mount.0.target", "/mnt"]),
        ("optional", &["mount.0.source", "/nonexistent", "mount.0.target", "/mnt", "mount.0.optional", "true"]),
    ] {
        sandbox.create(name, Guest::Probe, &[]);
        sandbox.lxm(&["enable", name]).ok();
        let set: Vec<&str> = ["config", "set", name].into_iter().chain(settings.iter().copied()).collect();
        if !settings.is_empty() {
            sandbox.lxm(&set).ok();
        }
        let limit = if name == "never" { "1s" } else { "1h" };
        sandbox.lxm(&["config", "set", name, "boot.wait-timeout", limit]).ok();
    }
    // Who starts one by hand is told at once.
    for (name, status, says) in [("port", 3, "no bridge `br9`"), ("lan", 3, "no link `br9`"), ("disk", 6, source)] {
        sandbox.lxm(&["start", name]).fails(status).complains(says);
    }
    let mut boot = sandbox.command();
    let mut boot = boot.arg("autostart").spawn().unwrap();
    for name in ["free", "optional"] {
        eventually("it runs", Duration::from_secs(30), || sandbox.info(name, "state") == "running");
    }
    for name in ["port", "lan", "disk"] {
        assert_eq!(sandbox.info(name, "state"), "stopped", "{name}");
    }
    std::fs::create_dir(source).unwrap();
    command::run("ip", &["link", "add", "br9", "type", "bridge"]).ok();
    let ended = command::wait(&mut boot, Duration::from_secs(60)).expect("it ends");
    assert_eq!(ended.code(), Some(1), "`never` did not start");
    for name in ["free", "port", "lan", "disk", "optional"] {
        assert_eq!(sandbox.info(name, "state"), "running", "{name}");
    }
    let never = row(sandbox, "never");
    let error = never["error"].as_str().unwrap();
    assert!(never["state"] == "failed" && error.contains("waited 1s") && error.contains("/nonexistent"), "{never}");
    sandbox.lxm(&["autostart", "--stop"]).ok();
    command::run("ip", &["link", "del", "br9"]).ok();
    forget_report(sandbox);
}
