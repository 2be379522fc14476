//! Copies and moved directories, and their adoption.

use std::process::Stdio;
use std::time::Duration;

use super::{config, copy_by_hand, elsewhere, place};
use crate::support::{Guest, Sandbox, Trial};

pub(super) fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe).limit(120);
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox).limit(120);
    vec![
        busybox("escape::identity::a_copied_directory_is_no_container_until_it_is_adopted", copied),
        probe("escape::identity::of_two_without_a_home_one_is_the_original", homeless),
        probe("escape::identity::an_adopted_copy_goes_back_to_its_snapshots", restored),
        probe("escape::identity::what_cannot_be_adopted_is_left_as_it_was", not_adopted),
        probe("escape::identity::a_moved_directory_is_the_container_as_before", moved),
        probe("escape::identity::a_killed_adoption_is_begun_again", killed_adoption),
    ]
}

pub(super) fn copied(sandbox: &Sandbox) {
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
    sandbox
        .lxm(&["adopt", "web", "--new-identity"])
        .fails(4)
        .complains("no other container shares its identity")
        .complains("`lxm copy`");
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
    // From a backup, and no other container has its identity.
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
