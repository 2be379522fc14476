//! What is of one and must not be reached by another: by links that a guest leaves for the host's commands, and
//! by users of the host in the files of guests.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::{Guest, Sandbox, Trial, run};

pub fn trials() -> Vec<Trial> {
    let trial = |name, body| Trial::new(name, body).guest(Guest::Busybox);
    vec![
        trial("escape::reach::cve_2026_48752_links_in_the_way_of_every_verb", links_at_every_verb).limit(120),
        trial("escape::reach::cve_2025_64507_users_of_the_host", users_of_the_host),
        trial("escape::reach::cve_2024_25621_records_and_logs", records_and_logs),
        trial("escape::reach::cve_2024_9676_users_in_odd_files", odd_files),
    ]
}

/// What lxm writes to or reads of in a guest, when it is made, copied, started and looked at.
const PLACES: [&str; 8] = ["etc", "etc/hostname", "etc/machine-id", "etc/passwd", "etc/ssh", "var", "root", "tmp"];

/// A directory of the host with everything that is looked for.
fn victim(sandbox: &Sandbox) -> PathBuf {
    let victim = sandbox.path("victim");
    for dir in ["ssh", "log", "lib", "etc"] {
        fs::create_dir_all(victim.join(dir)).unwrap();
    }
    let words = ["hostname", "hosts", "machine-id", "shadow", "resolv.conf", "inittab", "secret"];
    for name in words {
        fs::write(victim.join(name), format!("hunter2 {name}\n")).unwrap();
    }
    fs::write(victim.join("passwd"), "root:x:0:0:hunter2:/:/bin/sh\n").unwrap();
    victim
}

/// Every file and directory, with contents, mode and owner.
fn state(dir: &Path) -> BTreeMap<String, String> {
    let list = run("find", &[dir.to_str().unwrap(), "-printf", "%P %y %m %U:%G %l\n"]).ok().stdout;
    let contents = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    list.lines().map(|line| (line.to_owned(), contents(line.split(' ').next().unwrap()))).collect()
}

fn links_at_every_verb(sandbox: &Sandbox) {
    let victim = victim(sandbox);
    let before = state(&victim);
    sandbox.create("seed", Guest::Busybox, &["--storage", "dir"]);
    for place in PLACES {
        sandbox.lxm(&["copy", "seed", "g"]).ok();
        let rootfs = sandbox.layout().rootfs(&"g".parse().unwrap());
        let at = rootfs.join(place);
        let name = at.file_name().unwrap();
        let target = match place {
            "etc" | "var" | "root" | "tmp" => victim.clone(),
            _ => victim.join(name),
        };
        if at.is_dir() && !at.is_symlink() {
            fs::rename(&at, rootfs.join("away")).unwrap();
        } else {
            drop(fs::remove_file(&at));
        }
        symlink(&target, &at).unwrap();
        // The means: whoever goes there by path reaches the host's.
        assert!(at.exists() && at.canonicalize().unwrap().starts_with(&victim), "{place}");
        let file = sandbox.path("file");
        fs::write(&file, "evil").unwrap();
        let (from, into) = (file.to_str().unwrap(), sandbox.path("out"));
        let out = into.to_str().unwrap();
        let verbs: [&[&str]; 13] = [
            &["start", "g"],
            &["attach", "g", "--", "true"],
            &["push", from, &format!("g:/{place}/hostname")],
            &["push", from, &format!("g:/{place}")],
            &["pull", &format!("g:/{place}"), out],
            &["info", "g"],
            &["diff", "g"],
            &["stop", "-k", "g"],
            &["snapshot", "create", "g", "s"],
            &["copy", "g", "h"],
            &["export", "g", "-o", out],
            &["start", "h"],
            &["snapshot", "restore", "g", "s"],
        ];
        for verb in verbs {
            let said = sandbox.lxm(verb);
            assert!(!said.to_string().contains("hunter2"), "{place}: {said}");
            assert!(![101, 134, 139].contains(&said.status), "{place}: {said}");
        }
        assert_eq!(state(&victim), before, "{place}");
        let pulled = run("grep", &["-rl", "hunter2", out]).stdout;
        assert_eq!(pulled, "", "{place}");
        drop((fs::remove_file(&into), fs::remove_dir_all(&into)));
        for name in ["g", "h"] {
            drop(sandbox.lxm(&["destroy", "-f", name]));
        }
    }
}

/// CVE-2025-64507, CVE-2016-1581, CVE-2016-1582: a set-user-id program in a guest is the guest's, wherever its
/// files go, and whatever was switched.
fn users_of_the_host(sandbox: &Sandbox) {
    fs::set_permissions(sandbox.root(), PermissionsExt::from_mode(0o755)).unwrap();
    let find = |as_whom: &[&str], what: &str| {
        let words = [as_whom, &["find", sandbox.root().to_str().unwrap(), "-xdev", "-name", what]].concat();
        run(words[0], &words[1..]).stdout
    };
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let check = |when: &str, at_least: usize| {
        let there = find(&["env"], "set-user-id");
        assert!(there.lines().count() >= at_least, "{when}: the means are there: {there}");
        assert_eq!(find(&nobody, "set-user-id"), "", "{when}");
    };
    for storage in ["dir", "overlay"] {
        sandbox.create("g", Guest::Busybox, &["--storage", storage]);
        sandbox.lxm(&["start", "g"]).ok();
        let make = "cp /bin/busybox /set-user-id; chmod 4755 /set-user-id; chmod 777 /";
        sandbox.lxm(&["attach", "g", "--", "sh", "-c", make]).ok();
        sandbox.lxm(&["stop", "-k", "g"]).ok();
        check(storage, 1);
        sandbox.lxm(&["snapshot", "create", "g", "s"]).ok();
        sandbox.lxm(&["copy", "g", "h"]).ok();
        check("copied", if storage == "dir" { 3 } else { 1 });
        for privileged in ["true", "false"] {
            sandbox.lxm(&["config", "set", "g", "security.privileged", privileged]).ok();
            sandbox.lxm(&["start", "g"]).ok();
            check("privileged, or no more", 1);
            sandbox.lxm(&["stop", "-k", "g"]).ok();
        }
        let file = sandbox.path("export.tar");
        sandbox.lxm(&["export", "g", "-o", file.to_str().unwrap()]).ok();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "an export is its maker's alone");
        fs::remove_file(file).unwrap();
        sandbox.lxm(&["snapshot", "restore", "g", "s"]).ok();
        check("restored", 1);
        for name in ["g", "h"] {
            sandbox.lxm(&["destroy", "-f", name]).ok();
        }
    }
    // The means: what is in an open directory is found.
    fs::write(sandbox.path("set-user-id"), "").unwrap();
    assert_ne!(find(&nobody, "set-user-id"), "");
}

/// What a guest's console shows and what lxm records of it only root can read.
fn records_and_logs(sandbox: &Sandbox) {
    fs::set_permissions(sandbox.root(), PermissionsExt::from_mode(0o755)).unwrap();
    sandbox.boot("g", Guest::Busybox, &[]);
    sandbox.lxm(&["attach", "g", "--", "sh", "-c", "echo hunter2 >/dev/console"]).ok();
    sandbox.lxm(&["config", "set", "g", "credential.a", "hunter2"]).ok();
    let read = |as_whom: &[&str]| {
        let places = ["run/lxm", "var/log/lxm", "var/lib/lxm"].map(|place| sandbox.path(place).display().to_string());
        let places = places.iter().map(String::as_str).collect::<Vec<_>>();
        let words = [as_whom, &["grep", "-rls", "--devices=skip", "hunter2"], &places].concat();
        run(words[0], &words[1..]).stdout
    };
    // A console is written down a moment after it has shown something.
    let both = || read(&["env"]).lines().count() >= 2;
    crate::support::eventually("both are there", std::time::Duration::from_secs(20), both);
    assert_eq!(read(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]), "");
}

/// A guest's lists of users, as something that has no end, or that is never written to.
fn odd_files(sandbox: &Sandbox) {
    sandbox.create("g", Guest::Busybox, &["--storage", "dir"]);
    sandbox.lxm(&["start", "g"]).ok();
    let uid = |user: &str| sandbox.lxm(&["attach", "g", "--user", user, "--", "stat", "-c", "%u", "/proc/self/"]);
    uid("root").ok().says("0");
    for odd in ["mkfifo $f", "mkdir $f", "ln -s /dev/zero $f", "ln -s /dev/console $f", "truncate -s 8G $f", "true"] {
        let make = format!("for f in /etc/passwd /etc/group; do rm -rf $f; {odd}; done");
        sandbox.lxm(&["attach", "g", "--user", "0", "--", "sh", "-c", &make]).ok();
        let by_name = uid("root");
        assert_eq!(by_name.status, 125, "{odd}: {by_name}");
        uid("0").ok().says("0");
        uid("7").ok().says("7");
        let copied = sandbox.lxm(&["copy", "g", "h"]);
        assert!(copied.status == 0 || copied.status == 1, "{odd}: {copied}");
        drop(sandbox.lxm(&["destroy", "-f", "h"]));
    }
}
