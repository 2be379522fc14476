//! Two containers that claim what only one may have.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::sandbox::run_checked;
use crate::support::{Guest, Outcome, Sandbox, Trial, command, eventually};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe).limit(120);
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox).limit(120);
    vec![
        probe("escape::identity::one_name_in_two_directories_is_two_containers", two_directories),
        busybox("escape::identity::a_copied_directory_is_no_container_until_it_is_adopted", copied),
        busybox("escape::identity::a_copy_never_writes_to_the_layer_of_what_runs", shared_layer),
        busybox("escape::identity::no_verb_makes_a_copy_the_original", laundered),
        busybox("escape::identity::an_adopted_copy_has_no_layer_that_another_one_writes_to", layers_below),
        probe("escape::identity::what_cannot_be_read_is_told", unreadable),
        probe("escape::identity::of_two_without_a_home_one_is_the_original", homeless),
        probe("escape::identity::a_link_to_a_container_is_none", linked),
        probe("escape::identity::an_adopted_copy_goes_back_to_its_snapshots", restored),
        probe("escape::identity::what_cannot_be_adopted_is_left_as_it_was", not_adopted),
        probe("escape::identity::a_moved_directory_is_the_container_as_before", moved),
        probe("escape::identity::a_killed_adoption_is_begun_again", killed_adoption),
        probe("escape::identity::what_another_one_has_is_refused_with_its_name", taken),
        probe("escape::identity::what_another_one_runs_with_is_refused_at_start", locked),
        probe("escape::identity::what_is_no_container_is_left_alone", no_container),
        busybox("escape::identity::two_state_directories_have_networks_of_their_own", two_roots).limit(180),
        busybox("escape::identity::two_of_one_name_on_a_bridge_have_names_of_their_own", names_on_a_bridge),
    ]
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

fn copied(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Busybox, &[]);
    let (original, copy) = (place(sandbox, "web"), place(sandbox, "web2"));
    copy_by_hand(&original, &copy);
    // The means: to all that is in its files, it is the same.
    for file in ["config.toml", "origin.toml"] {
        assert_eq!(std::fs::read(original.join(file)).unwrap(), std::fs::read(copy.join(file)).unwrap());
    }
    sandbox
        .lxm(&["start", "web2"])
        .fails(4)
        .complains("`web2` is a copy of `web`")
        .complains("lxm adopt web2 --new-identity");
    sandbox.lxm(&["mount", "web2"]).fails(4).complains("is a copy of `web`");
    sandbox.lxm(&["adopt", "web2"]).fails(4).complains("`web`");
    sandbox.lxm(&["check"]).ok().says("`web` and `web2` both have the uuid");
    // The original is not kept from anything.
    sandbox.lxm(&["start", "web"]).ok();
    sandbox.lxm(&["stop", "-k", "web"]).ok();

    sandbox.lxm(&["adopt", "web2", "--new-identity"]).ok();
    sandbox.lxm(&["start", "web", "web2"]).ok();
    assert_ne!(config(sandbox, "web", "uuid"), config(sandbox, "web2", "uuid"));
    assert_ne!(sandbox.info("web", "ids"), sandbox.info("web2", "ids"));
    let inside = |name: &str, shell: &str| sandbox.lxm(&["attach", name, "--", "sh", "-c", shell]).ok().stdout;
    assert_eq!(inside("web2", "hostname; cat /etc/hostname"), "web2\nweb2\n");
    inside("web2", "echo copy >/root/who");
    assert_eq!(inside("web", "cat /root/who 2>/dev/null || echo none"), "none\n", "they share no file");
    let told = sandbox.lxm(&["check"]);
    assert!(!told.stdout.contains("both have"));
    assert_eq!(told.stdout.matches("--- host ---").count(), 1, "{told}");
}

fn shared_layer(sandbox: &Sandbox) {
    sandbox.boot("web", Guest::Busybox, &["--storage", "overlay"]);
    let (original, copy) = (place(sandbox, "web"), place(sandbox, "web2"));
    copy_by_hand(&original, &copy);
    assert_eq!(upper(&original), upper(&copy), "the means: one layer for both");
    // Whatever the files say of whose they are.
    std::fs::remove_file(copy.join("home.toml")).unwrap();
    sandbox.lxm(&["start", "web2"]).fails(4).complains("`web2` is a copy of `web`");
    sandbox.lxm(&["pull", "web2:/etc/hostname", "/dev/null/x"]).fails(4).complains("another process writes to");
    let told = sandbox.lxm(&["adopt", "web2", "--new-identity"]).fails(4);
    told.complains("`web` runs").complains("hint: `lxm stop web` first");
    assert!(!copy.join("home.toml").exists(), "nothing has changed");
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    sandbox.lxm(&["adopt", "web2", "--new-identity"]).ok();
    assert_ne!(upper(&original), upper(&copy));
    sandbox.lxm(&["start", "web", "web2"]).ok();
    sandbox.lxm(&["destroy", "-f", "web2"]).ok();
    sandbox.lxm(&["attach", "web", "--", "ls", "/etc/hostname"]).ok();
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

fn laundered(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Busybox, &["--storage", "overlay"]);
    sandbox.lxm(&["snapshot", "create", "web", "s1"]).ok();
    let copy = place(sandbox, "copy");
    copy_by_hand(&place(sandbox, "web"), &copy);
    let before = stack(&copy);
    for verb in [&["rename", "copy", "db"][..], &["snapshot", "create", "copy"], &["snapshot", "restore", "copy", "s1"]]
    {
        sandbox.lxm(verb).fails(4).complains("`copy` is a copy of `web`");
    }
    assert!(stack(&copy) == before && !place(sandbox, "db").exists());
    // The means: each of them works on the original, and on a copy that is one of its own right.
    for name in ["web", "copy"] {
        sandbox.lxm(&["snapshot", "create", name]).ok();
        sandbox.lxm(&["snapshot", "restore", name, "s1"]).ok();
        sandbox.lxm(&["rename", name, "db"]).ok();
        if name == "web" {
            sandbox.lxm(&["rename", "db", "web"]).ok();
            sandbox.lxm(&["adopt", "copy", "--new-identity"]).ok();
        }
    }
}

fn layers_below(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Busybox, &["--storage", "overlay"]);
    let original = place(sandbox, "web");
    let write = |name: &str, text: &str| {
        sandbox.lxm(&["start", name]).ok();
        sandbox.lxm(&["attach", name, "--", "sh", "-c", &format!("echo {text} >/root/{text}")]).ok();
    };
    write("web", "first");
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    // As of a former version: neither is at home, and a snapshot freezes what the other one writes to.
    let copy = place(sandbox, "copy");
    std::fs::remove_file(original.join("home.toml")).unwrap();
    copy_by_hand(&original, &copy);
    sandbox.lxm(&["snapshot", "create", "copy", "s1"]).ok();
    let written = upper(&original);
    for of_copy in [copy.clone(), copy.join("snapshots/s1")] {
        assert!(stack(&of_copy).contains(&written), "the means: it has the other one's layer below");
    }
    sandbox.lxm(&["adopt", "copy", "--new-identity"]).ok();
    for of_copy in [copy.clone(), copy.join("snapshots/s1")] {
        assert!(!stack(&of_copy).contains(&written));
    }
    write("web", "second");
    sandbox.lxm(&["start", "copy"]).ok();
    sandbox.lxm(&["attach", "copy", "--", "sh", "-c", "ls /root"]).ok().says("first");
    sandbox.lxm(&["attach", "copy", "--", "ls", "/root/second"]).fails(1);
    sandbox.lxm(&["stop", "-k", "web"]).ok();

    // The other way: what the copy writes to is frozen below the original.
    copy_by_hand(&original, &place(sandbox, "late"));
    sandbox.lxm(&["snapshot", "create", "web"]).ok();
    let frozen = upper(&place(sandbox, "late"));
    assert!(stack(&original).contains(&frozen), "the means: it is below the original");
    sandbox.lxm(&["adopt", "late", "--new-identity"]).ok();
    assert!(upper(&place(sandbox, "late")) != frozen && stack(&original).contains(&frozen));
    sandbox.lxm(&["start", "web", "late"]).ok();
}

fn homeless(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &[]);
    let (home, copy) = (place(sandbox, "web").join("home.toml"), place(sandbox, "copy"));
    copy_by_hand(&place(sandbox, "web"), &copy);
    std::fs::remove_file(copy.join("home.toml")).unwrap();
    sandbox.lxm(&["start", "copy"]).fails(4).complains("`copy` is a copy of `web`");
    // The means: it is the record of `web` that tells.
    std::fs::remove_file(&home).unwrap();
    sandbox.lxm(&["start", "web"]).ok();
    std::fs::remove_file(&home).unwrap();
    sandbox.lxm(&["rename", "copy", "db"]).fails(4).complains("`copy` is a copy of `web`");
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    sandbox.lxm(&["start", "copy"]).ok();
    sandbox.lxm(&["start", "web"]).fails(4).complains("`web` is a copy of `copy`");
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

fn restored(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &[]);
    sandbox.lxm(&["snapshot", "create", "web", "s1"]).ok();
    copy_by_hand(&place(sandbox, "web"), &place(sandbox, "copy"));
    sandbox.lxm(&["adopt", "copy", "--new-identity"]).ok();
    let uuid = config(sandbox, "copy", "uuid");
    let then = std::fs::read_to_string(place(sandbox, "copy").join("snapshots/s1/config.toml")).unwrap();
    assert!(then.contains(&config(sandbox, "web", "uuid")), "the means: the snapshot has the other one's");
    sandbox.lxm(&["snapshot", "restore", "copy", "s1"]).ok();
    assert_eq!(config(sandbox, "copy", "uuid"), uuid, "it is who it was");
    sandbox.lxm(&["start", "web", "copy"]).ok();
}

fn not_adopted(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &["--storage", "overlay"]);
    let uuid = config(sandbox, "web", "uuid");
    sandbox.lxm(&["adopt", "web", "--new-identity"]).fails(4).complains("it is no copy").complains("`lxm copy`");
    assert_eq!(config(sandbox, "web", "uuid"), uuid);
    // Moved without its layers, it has lost its files.
    let dir = sandbox.path("srv");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::rename(place(sandbox, "web"), dir.join("web")).unwrap();
    let home = std::fs::read(dir.join("web/home.toml")).unwrap();
    let told = elsewhere(sandbox, &dir, &["adopt", "web"]);
    assert!(told.status != 0 && told.stderr.contains("error:"), "{told}");
    assert_eq!(std::fs::read(dir.join("web/home.toml")).unwrap(), home);
    // The means: with them it is the container as before.
    std::fs::rename(sandbox.layout().containers().join(".layers"), dir.join(".layers")).unwrap();
    elsewhere(sandbox, &dir, &["adopt", "web"]).ok();
    elsewhere(sandbox, &dir, &["start", "web"]).ok();
    elsewhere(sandbox, &dir, &["destroy", "-f", "web"]).ok();
}

fn moved(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &["--storage", "dir"]);
    let uuid = config(sandbox, "web", "uuid");
    std::fs::rename(place(sandbox, "web"), place(sandbox, "db")).unwrap();
    sandbox.lxm(&["start", "db"]).ok();
    sandbox.lxm(&["adopt", "db"]).fails(4).complains("it is running");
    sandbox.lxm(&["stop", "-k", "db"]).ok();
    assert_eq!(config(sandbox, "db", "uuid"), uuid, "it is who it was");
    // By lxm itself it is at home wherever it puts it.
    sandbox.lxm(&["rename", "db", "app"]).ok();
    copy_by_hand(&place(sandbox, "app"), &sandbox.path("backup"));
    sandbox.lxm(&["start", "app"]).ok();
    sandbox.lxm(&["destroy", "-f", "app"]).ok();
    // From a backup, with nobody else who has its identity.
    copy_by_hand(&sandbox.path("backup"), &place(sandbox, "restored"));
    sandbox.lxm(&["adopt", "--all"]).ok().complains("adopted `restored`");
    sandbox.lxm(&["start", "restored"]).ok();
    assert_eq!(config(sandbox, "restored", "uuid"), uuid);
    sandbox.lxm(&["adopt", "nobody"]).fails(3);
}

fn killed_adoption(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &["--storage", "overlay"]);
    let copy = place(sandbox, "copy");
    copy_by_hand(&place(sandbox, "web"), &copy);
    let mut was_half = 0;
    for delay in [1, 4, 8, 12, 16, 20, 30, 50, 80, 120, 200] {
        let mut adopt = sandbox.command();
        adopt
            .args(["adopt", "copy", "--new-identity"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = adopt.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        let home = std::fs::read_to_string(copy.join("home.toml")).unwrap();
        if home.contains("adopting") {
            was_half += 1;
            sandbox.lxm(&["start", "copy"]).fails(4).complains("was interrupted");
            sandbox.lxm(&["adopt", "copy"]).fails(4).complains("--new-identity");
        }
    }
    let home = std::fs::read_to_string(copy.join("home.toml")).unwrap();
    if was_half == 0 || !home.contains("adopting") {
        // However quick this machine is, what a kill in the middle leaves is this.
        std::fs::write(copy.join("home.toml"), home + "adopting = true\n").unwrap();
        sandbox.lxm(&["start", "copy"]).fails(4).complains("was interrupted");
    }
    sandbox.lxm(&["adopt", "copy", "--new-identity"]).ok();
    sandbox.lxm(&["start", "web", "copy"]).ok();
    assert_ne!(sandbox.info("web", "ids"), sandbox.info("copy", "ids"));
    sandbox.lxm(&["gc"]).ok();
    sandbox.lxm(&["stop", "-k", "web", "copy"]).ok();
    sandbox.lxm(&["start", "web", "copy"]).ok();
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
    // Ids that nobody has chosen cannot be unset.
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

    // What strays into the directory of containers is in nobody's way but its namesake's.
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

/// A second state directory on the same host, with the same images.
struct Second {
    root: PathBuf,
}

impl Second {
    fn new(sandbox: &Sandbox) -> Self {
        let root = sandbox.path("second");
        std::fs::create_dir_all(&root).unwrap();
        Guest::Busybox.offer(&root);
        Second { root }
    }

    #[track_caller]
    fn lxm(&self, sandbox: &Sandbox, args: &[&str]) -> Outcome {
        let mut command = sandbox.command();
        command.env("LXM_ROOT", &self.root).args(args);
        command::bounded(command, b"", Duration::from_secs(60))
    }

    fn end(self, sandbox: &Sandbox) {
        self.lxm(sandbox, &["destroy", "-f", "web"]).ok();
        self.lxm(sandbox, &["network", "down"]).ok();
        run_checked("umount", &[self.root.join("var/cache/lxm/images").to_str().unwrap()]);
    }
}

fn two_roots(sandbox: &Sandbox) {
    let create = ["create", "web", "-t", "busybox", "--network", "lxmbr0"];
    let second = Second::new(sandbox);
    sandbox.lxm(&create).ok();
    sandbox.lxm(&["start", "web", "--wait", "network"]).ok();
    let gateway = |told: Outcome| {
        let shown = told.ok().json();
        let ipv4 = shown[0]["ipv4"].as_str().unwrap().to_owned();
        (shown[0]["name"].as_str().unwrap().to_owned(), ipv4.split('/').next().unwrap().to_owned())
    };
    let (bridge, of_first) = gateway(sandbox.lxm(&["network", "show", "--format", "json"]));
    assert_eq!(bridge, "lxmbr0");
    let alias = run_checked("cat", &["/sys/class/net/lxmbr0/ifalias"]);
    assert!(alias.starts_with("lxm:") && alias.contains(sandbox.root().to_str().unwrap()), "{alias}");

    second.lxm(sandbox, &create).ok();
    second.lxm(sandbox, &["start", "web", "--wait", "network"]).ok();
    let (other_bridge, of_second) = gateway(second.lxm(sandbox, &["network", "show", "--format", "json"]));
    assert!(other_bridge.starts_with("lxmbr-"), "{other_bridge}");
    assert_ne!(of_first, of_second);
    let ids = second.lxm(sandbox, &["info", "web", "--format", "json"]).ok().json()["ids"].clone();
    assert_ne!(sandbox.info("web", "ids"), ids);

    // Both networks work, with both sets of rules there; so does that of a guest that comes later.
    sandbox.lxm(&["create", "db", "-t", "busybox", "--network", "lxmbr0"]).ok();
    sandbox.lxm(&["start", "db", "--wait", "network"]).ok();
    let attach = |name: &'static str, shell: String| {
        let told = sandbox.lxm(&["attach", name, "--", "sh", "-c", &shell]);
        assert_eq!(told.status, 0, "{told}");
    };
    let works = || {
        for name in ["web", "db"] {
            attach(name, format!("ping -c 1 -W 5 {of_first}"));
        }
        attach("web", "ping -c 1 -W 5 db.lxm".into());
    };
    works();
    let ping = format!("ping -c 1 -W 5 {of_second}");
    second.lxm(sandbox, &["attach", "web", "--", "sh", "-c", &ping]).ok();
    let tables = run_checked("nft", &["list", "tables"]);
    assert_eq!(tables.lines().filter(|line| line.contains("lxm")).count(), 4, "{tables}");

    // What one takes down is its own.
    second.lxm(sandbox, &["stop", "-k", "web"]).ok();
    second.lxm(sandbox, &["network", "down"]).ok();
    works();
    sandbox.lxm(&["stop", "-k", "db"]).ok();
    sandbox.lxm(&["start", "db", "--wait", "network"]).ok();
    second.lxm(sandbox, &["start", "web", "--wait", "network"]).ok();
    works();

    // A bridge that is another's is neither used as one's own nor taken down.
    let settings = std::fs::read_to_string(sandbox.path("etc/lxm/network.toml")).unwrap();
    let file = second.root.join("etc/lxm/network.toml");
    let own = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, settings).unwrap();
    second.lxm(sandbox, &["network", "up"]).fails(4).complains("belongs to the containers of LXM_ROOT=");
    second.lxm(sandbox, &["network", "delete", "lxmbr0"]).ok();
    assert!(Path::new("/sys/class/net/lxmbr0").exists());
    works();
    std::fs::write(&file, own).unwrap();
    second.end(sandbox);
    works();
    eventually("its tables are gone", Duration::from_secs(5), || {
        run_checked("nft", &["list", "tables"]).lines().filter(|line| line.contains("lxm")).count() == 2
    });
}

fn names_on_a_bridge(sandbox: &Sandbox) {
    let dir = sandbox.path("srv");
    std::fs::create_dir_all(&dir).unwrap();
    let create = ["create", "web", "-t", "busybox", "--network", "lxmbr0"];
    sandbox.lxm(&create).ok();
    elsewhere(sandbox, &dir, &create).ok();
    sandbox.lxm(&["start", "web", "--wait", "network"]).ok();
    elsewhere(sandbox, &dir, &["start", "web", "--wait", "network"]).ok();
    let shown = sandbox.lxm(&["network", "show", "lxmbr0", "--format", "json"]).ok().json();
    let names: Vec<&str> =
        shown["guests"].as_array().unwrap().iter().filter_map(|guest| guest["name"].as_str()).collect();
    assert_eq!(names.len(), 2, "{shown}");
    assert!(names.contains(&"web") && names.iter().any(|name| name.starts_with("web-")), "{names:?}");
    let own = sandbox.info("web", "ipv4")[0].as_str().unwrap().to_owned();
    let other =
        field(elsewhere(sandbox, &dir, &["info", "web", "--format", "json"]), "ipv4")[0].as_str().unwrap().to_owned();
    assert_ne!(own, other);
    let other_name = names.iter().find(|name| **name != "web").unwrap();
    for (name, address) in [("web", &own), (*other_name, &other)] {
        let lookup = format!("nslookup {name}.lxm");
        sandbox.lxm(&["attach", "web", "--", "sh", "-c", &lookup]).ok().says(address);
    }
    elsewhere(sandbox, &dir, &["destroy", "-f", "web"]).ok();
    sandbox.lxm(&["attach", "web", "--", "sh", "-c", "nslookup web.lxm"]).ok().says(&own);
}
