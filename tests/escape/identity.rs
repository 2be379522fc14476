//! Two containers that claim what only one may have.

#[path = "identity/adoption.rs"]
mod adoption;
#[path = "identity/layers.rs"]
mod layers;
#[path = "identity/networks.rs"]
mod networks;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::sandbox::run_checked;
use crate::support::{Guest, Outcome, Sandbox, Trial, command};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe).limit(120);
    let own = vec![
        probe("escape::identity::one_name_in_two_directories_is_two_containers", two_directories),
        probe("escape::identity::what_cannot_be_read_is_reported", unreadable),
        probe("escape::identity::a_link_to_a_container_is_none", linked),
        probe("escape::identity::what_another_one_has_is_refused_with_its_name", taken),
        probe("escape::identity::what_another_one_runs_with_is_refused_at_start", locked),
        probe("escape::identity::what_is_no_container_is_left_alone", no_container),
    ];
    own.into_iter().chain(adoption::trials()).chain(layers::trials()).chain(networks::trials()).collect()
}

fn place(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.layout().container(&name.parse().unwrap())
}

/// As an admin copies it.
fn copy_by_hand(from: &Path, to: &Path) {
    run_checked("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
}

/// `lxm` with the containers of another directory.
#[track_caller]
fn elsewhere(sandbox: &Sandbox, dir: &Path, args: &[&str]) -> Outcome {
    let args: Vec<&str> = ["-P", dir.to_str().unwrap()].into_iter().chain(args.iter().copied()).collect();
    sandbox.lxm_with(&args, b"", Duration::from_secs(60))
}

fn field(told: Outcome, key: &str) -> Value {
    told.ok().json()[key].clone()
}

fn config(sandbox: &Sandbox, name: &str, key: &str) -> String {
    sandbox.lxm(&["config", "get", name, key]).ok().line().to_owned()
}

fn two_directories(sandbox: &Sandbox) {
    let dir = sandbox.path("srv/other");
    std::fs::create_dir_all(&dir).unwrap();
    let link = sandbox.path("srv/link");
    std::os::unix::fs::symlink("other", &link).unwrap();
    sandbox.boot("web", Guest::Probe, &[]);
    let production = sandbox.leader("web");
    // Its state was that of the one above.
    elsewhere(sandbox, &dir, &["stop", "web"]).fails(3);
    let create = ["create", "web", "--network", "none"].map(String::from).into_iter();
    let create: Vec<String> = create.chain(Guest::Probe.create_arguments()).collect();
    elsewhere(sandbox, &dir, &create.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    elsewhere(sandbox, &dir, &["stop", "web"]).fails(4);
    let start = format!("hint: `lxm --path {} start web`", dir.canonicalize().unwrap().display());
    elsewhere(sandbox, &dir, &["attach", "web", "--", "/bin/probe", "report"]).fails(125).complains(&start);
    let state = field(elsewhere(sandbox, &dir, &["info", "web", "--format", "json"]), "state");
    assert!(state.as_str().unwrap().eq_ignore_ascii_case("stopped"), "{state}");

    elsewhere(sandbox, &dir, &["start", "web"]).ok();
    let info = |key: &str| field(elsewhere(sandbox, &dir, &["info", "web", "--format", "json"]), key);
    let other = info("pid").as_i64().unwrap() as i32;
    assert_ne!(other, production);
    assert_ne!(info("ids"), sandbox.info("web", "ids"), "no two share ids, wherever they are");
    // What is proposed to be typed is about this one.
    let there = format!("`lxm --path {}", dir.canonicalize().unwrap().display());
    elsewhere(sandbox, &dir, &["freeze", "web"]).ok();
    let told = elsewhere(sandbox, &dir, &["attach", "web", "--", "/bin/probe", "report"]).fails(125);
    told.complains(&format!("{there} unfreeze web`"));
    elsewhere(sandbox, &dir, &["unfreeze", "web"]).ok();
    let told = elsewhere(sandbox, &dir, &["rename", "web", "web2"]).fails(4);
    told.complains("rename `web` to `web2`: it is running").complains(&format!("{there} stop web`"));
    elsewhere(sandbox, &dir, &["snapshot", "create", "web", "s"]).ok();
    let told = elsewhere(sandbox, &dir, &["snapshot", "restore", "web", "s"]).fails(4);
    told.complains("restore snapshot `s` of `web`: it is running").complains(&format!("{there} stop web`"));
    elsewhere(sandbox, &dir, &["config", "unset", "web", "limits.none"]).fails(6).complains("configure `web`: ");
    elsewhere(sandbox, &dir, &["info", "web9"]).fails(3).complains(&format!("{there} list`"));
    // By whatever path its directory is named.
    let pid = field(elsewhere(sandbox, &link, &["info", "web", "--format", "json"]), "pid");
    assert_eq!(pid.as_i64(), Some(i64::from(other)));
    elsewhere(sandbox, &link, &["start", "web"]).fails(4);
    elsewhere(sandbox, &dir, &["stop", "-k", "web"]).ok();
    elsewhere(sandbox, &dir, &["destroy", "-f", "web"]).ok();
    assert_eq!(sandbox.leader("web"), production, "it is as it was");
    sandbox.lxm(&["gc"]).ok();
    assert_eq!(sandbox.leader("web"), production);
}

/// The layer that a container writes to.
fn upper(place: &Path) -> String {
    let text = stack(place);
    let upper = text.lines().find_map(|line| line.strip_prefix("upper = ")).expect("it has an upper layer");
    upper.to_owned()
}

fn stack(place: &Path) -> String {
    std::fs::read_to_string(place.join("overlay.toml")).unwrap()
}

fn unreadable(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &[]);
    // The directories of the build are not everybody's to read.
    let program = sandbox.path("lxm-for-all");
    std::fs::copy(crate::support::sandbox::program(), &program).unwrap();
    let as_user = |args: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        sandbox.environment(&mut command);
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(&program).args(args);
        command::bounded(command, b"", Duration::from_secs(30))
    };
    let identity = |told: Outcome| {
        let checks = told.json();
        let checks = checks.as_array().cloned().unwrap_or_else(|| panic!("no list: {checks}"));
        let found = checks.into_iter().find(|check| check["id"] == "identity").expect("it is looked at");
        found["verdict"].as_str().unwrap().to_owned()
    };
    std::fs::set_permissions(place(sandbox, "web"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let told = as_user(&["list"]);
    assert!(told.stdout.contains("web") || told.status != 0, "{told}");
    let told = as_user(&["info", "web"]);
    assert!(told.stderr.contains("Permission denied") && !told.stderr.contains("is not a container"), "{told}");
    assert_eq!(identity(as_user(&["check", "--format", "json"])), "unknown");
    // The means: root reads it.
    assert_eq!(identity(sandbox.lxm(&["check", "--format", "json"])), "ok");
}

fn linked(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &[]);
    let dir = sandbox.path("srv");
    std::fs::create_dir_all(&dir).unwrap();
    std::os::unix::fs::symlink(place(sandbox, "web"), dir.join("link")).unwrap();
    // The means: by the link it has all that a container has.
    assert!(dir.join("link/origin.toml").is_file());
    for verb in [&["destroy", "-f", "link"][..], &["rename", "link", "x"], &["start", "link"]] {
        elsewhere(sandbox, &dir, verb).fails(3).complains("it is a symbolic link");
    }
    assert_eq!(elsewhere(sandbox, &dir, &["list"]).ok().stdout, "");
    sandbox.lxm(&["start", "web"]).ok();
}

fn taken(sandbox: &Sandbox) {
    for name in ["db", "web"] {
        sandbox.create(name, Guest::Probe, &[]);
        sandbox.lxm(&["config", "set", name, "network.eth0.type", "veth"]).ok();
    }
    let ids = sandbox.info("db", "ids");
    let ids = ids.as_str().unwrap().to_owned();
    let uuid = config(sandbox, "db", "uuid");
    let settings = [
        ("network.eth0.mac", "02:6c:78:00:00:01"),
        ("network.eth0.ipv4", "10.99.0.5"),
        ("network.eth0.publish", "8080:80"),
    ];
    for (key, value) in settings {
        sandbox.lxm(&["config", "set", "db", key, value]).ok();
    }
    for (key, value) in settings.into_iter().chain([("security.idmap", ids.as_str()), ("uuid", uuid.as_str())]) {
        let before = std::fs::read(place(sandbox, "web").join("config.toml")).unwrap();
        let told = sandbox.lxm(&["config", "set", "web", key, value]).fails(4);
        told.complains("container `db` has ").complains("hint: ");
        assert_eq!(std::fs::read(place(sandbox, "web").join("config.toml")).unwrap(), before, "{key}");
    }
    sandbox.lxm(&["config", "set", "web", "network.eth0.publish", "81:80,81:81"]).fails(6).complains("twice");
    // The means: with the first one gone each is free.
    sandbox.lxm(&["destroy", "db"]).ok();
    for (key, value) in settings {
        sandbox.lxm(&["config", "set", "web", key, value]).ok();
    }
}

fn locked(sandbox: &Sandbox) {
    for name in ["db", "web"] {
        sandbox.create(name, Guest::Probe, &[]);
    }
    sandbox.lxm(&["start", "db"]).ok();
    let file = place(sandbox, "web").join("config.toml");
    let sane = std::fs::read_to_string(&file).unwrap();
    let (own, others) = (config(sandbox, "web", "uuid"), config(sandbox, "db", "uuid"));
    let origin = std::fs::read_to_string(place(sandbox, "db").join("origin.toml")).unwrap();
    let ids = origin.lines().find_map(|line| line.strip_prefix("ids = ")).unwrap().to_owned();
    for (by_hand, what) in
        [(sane.replace(&own, &others), "the uuid"), (format!("{sane}\n[security]\nidmap = {ids}\n"), "ids of")]
    {
        std::fs::write(&file, by_hand).unwrap();
        let told = sandbox.lxm(&["start", "web"]).fails(4).complains(&format!("the running container `db` has {what}"));
        if what == "ids of" {
            told.complains("`lxm config unset web security.idmap`");
        }
    }
    // Ids that were not chosen cannot be unset.
    let record = place(sandbox, "web").join("origin.toml");
    let own_record = std::fs::read_to_string(&record).unwrap();
    let copied = own_record
        .lines()
        .map(|line| if line.starts_with("ids = ") { format!("ids = {ids}\n") } else { format!("{line}\n") });
    std::fs::write(&record, copied.collect::<String>()).unwrap();
    std::fs::write(&file, &sane).unwrap();
    sandbox.lxm(&["start", "web"]).fails(4).complains("has ids of").complains("`lxm adopt web --new-identity`");
    std::fs::write(&record, own_record).unwrap();
    std::fs::write(&file, format!("{sane}\n[security]\nidmap = {ids}\n")).unwrap();
    // The means: as soon as it does not run, nothing is in the way.
    sandbox.lxm(&["stop", "-k", "db"]).ok();
    sandbox.lxm(&["start", "web"]).ok();
    sandbox.lxm(&["start", "db"]).fails(4).complains("the running container `web` has ids of");
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    std::fs::write(&file, sane).unwrap();
    sandbox.lxm(&["start", "web", "db"]).ok();
}

fn no_container(sandbox: &Sandbox) {
    let dir = sandbox.path("srv");
    std::fs::create_dir_all(dir.join("photos/2026")).unwrap();
    std::fs::create_dir_all(dir.join("containerd")).unwrap();
    std::fs::write(dir.join("containerd/config.toml"), "version = 2\n").unwrap();
    std::fs::write(dir.join("hosts"), "127.0.0.1 localhost\n").unwrap();
    for name in ["photos", "containerd", "hosts"] {
        for verb in [&["destroy", name][..], &["destroy", "-f", name], &["rename", name, "x"], &["start", name]] {
            elsewhere(sandbox, &dir, verb).fails(3).complains("is not a container");
        }
    }
    assert!(dir.join("photos/2026").is_dir() && dir.join("hosts").is_file());
    assert_eq!(elsewhere(sandbox, &dir, &["list"]).ok().stdout, "");

    // A foreign file in the directory of containers is in the way of its namesake alone.
    let containers = sandbox.layout().containers().to_owned();
    std::fs::create_dir_all(containers.join("notes")).unwrap();
    std::fs::write(containers.join("stray"), "").unwrap();
    std::fs::create_dir_all(containers.join("broken")).unwrap();
    for file in ["broken/origin.toml", "broken/config.toml", "broken/overlay.toml"] {
        std::fs::write(containers.join(file), "storage = ").unwrap();
    }
    sandbox.create("web", Guest::Probe, &[]);
    sandbox.lxm(&["copy", "web", "web2"]).ok();
    let archive = sandbox.path("web.tar");
    sandbox.lxm(&["export", "web", "-o", archive.to_str().unwrap()]).ok();
    sandbox.lxm(&["import", archive.to_str().unwrap(), "-n", "web3"]).ok();
    for name in ["stray", "notes"] {
        let told = sandbox.lxm(&["copy", "web", name]).fails(4);
        assert!(told.stderr.contains("is in the way") && !told.stderr.contains("destroy"), "{told}");
    }
    assert!(containers.join("stray").is_file());
    sandbox.lxm(&["destroy", "web2"]).ok();
    let told = sandbox.lxm(&["gc"]);
    assert!(told.stderr.contains("broken/overlay.toml"), "{told}");
    // One that has lost its record is a container all the same, and can be removed.
    sandbox.lxm(&["destroy", "broken"]).ok();
    std::fs::remove_file(containers.join("stray")).unwrap();
    std::fs::remove_dir(containers.join("notes")).unwrap();
}
