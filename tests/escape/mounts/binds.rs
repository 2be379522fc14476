//! What `[[mount]]` shows, whose its files are, and where it may be shown.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::{host_tree, inside, remove_host_tree, show};
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Sandbox, Trial};

pub fn trials() -> Vec<Trial> {
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox);
    vec![
        busybox("escape::mounts::set_user_id_programs_and_devices_do_not_count", suid_and_dev),
        busybox("escape::mounts::root_of_a_guest_has_no_rights_on_the_host_s_files", nobody_by_default),
        busybox("escape::mounts::ids_are_mapped_as_asked_for_and_no_others", ids_as_asked_for),
        busybox("escape::mounts::a_source_is_not_moved_by_a_user_of_the_host", sources),
        Trial::new("escape::mounts::targets_of_lxm_s_own_are_refused", targets).guest(Guest::Probe),
        busybox("escape::mounts::links_of_the_guest_lead_a_mount_nowhere_else", links_of_the_guest),
        busybox("escape::mounts::places_of_the_kernel_that_are_links_are_refused", places_that_are_links),
        busybox("escape::mounts::a_guest_prepares_nothing_for_its_next_boot", next_boot),
        busybox("escape::mounts::nothing_is_written_to_a_guest_s_own_proc", false_proc),
    ]
}

/// Of the mount and of what is mounted below it; both count where that is asked for.
fn suid_and_dev(sandbox: &Sandbox) {
    let tree = host_tree(sandbox);
    for place in [tree.clone(), tree.join("sub")] {
        run_checked("mknod", &["-m", "666", place.join("null").to_str().unwrap(), "c", "1", "3"]);
    }
    sandbox.create("p", Guest::Busybox, &[]);
    show(sandbox, &tree, "/srv/plain", "");
    show(sandbox, &tree, "/srv/whole", "suid = true\ndev = true");
    show(sandbox, &tree, "/srv/flat", "recursive = false");
    sandbox.lxm(&["start", "p"]).ok();
    let options =
        |at: &str| inside(sandbox, &format!("grep ' {at} ' /proc/self/mountinfo | cut -d' ' -f6")).ok().stdout;
    for at in ["/srv/plain", "/srv/plain/sub"] {
        assert!(options(at).contains("nosuid,nodev"), "{at}: {}", options(at));
        inside(sandbox, &format!("echo x > {at}/null")).fails(1).complains("Permission denied");
    }
    for at in ["/srv/whole", "/srv/whole/sub"] {
        assert!(!options(at).contains("nosuid") && !options(at).contains("nodev"), "{at}: {}", options(at));
        inside(sandbox, &format!("echo x > {at}/null")).ok();
    }
    assert_eq!(options("/srv/flat/sub"), "");
    remove_host_tree(&tree);
}

/// Files of the host's root have the overflow id in a bind mount. What the same guest can do where it is
/// asked for is seen in the next trial.
fn nobody_by_default(sandbox: &Sandbox) {
    let dir = owned_dir(sandbox, "data", 0);
    fs::write(dir.join("tool"), "#!/bin/sh\n").unwrap();
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["config", "set", "p", "mount.0.source", dir.to_str().unwrap(), "mount.0.target", "/srv/data"]).ok();
    sandbox.lxm(&["start", "p"]).ok();
    inside(sandbox, "stat -c %u /srv/data/tool").ok().says("65534");
    for script in
        ["chmod 4755 /srv/data/tool", "chown 0 /srv/data/tool", "echo x > /srv/data/tool", "echo x > /srv/data/new"]
    {
        assert_ne!(inside(sandbox, script).status, 0, "{script}");
    }
    assert_eq!(fs::metadata(dir.join("tool")).unwrap().mode() & 0o7777, 0o644);
}

/// As the table of docs/MOUNTS.md: who a file of the host belongs to in the guest, and who one of the
/// guest's root on the host. nspawn's TEST-13 has the same for rootidmap and owneridmap.
fn ids_as_asked_for(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    let users = owned_dir(sandbox, "users", 1000);
    let roots = owned_dir(sandbox, "roots", 0);
    for dir in [&users, &roots] {
        for uid in [0, 1000, 1001] {
            fs::write(dir.join(uid.to_string()), "").unwrap();
            chown(dir.join(uid.to_string()), Some(uid), Some(uid)).unwrap();
        }
    }
    // The target of `owner` is there, and user 33's.
    sandbox.lxm(&["start", "p"]).ok();
    inside(sandbox, "mkdir -p /srv/owner && chown 33:33 /srv/owner").ok();
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    for (target, idmap, dir) in [
        ("/srv/root", "root", &users),
        ("/srv/owner", "owner", &users),
        ("/srv/pair", "1001:7", &users),
        ("/srv/guest", "guest", &roots),
    ] {
        show(sandbox, dir, target, &format!("idmap = \"{idmap}\""));
    }
    sandbox.lxm(&["start", "p"]).ok();
    // What files of 0, 1000 and 1001 are in the guest.
    for (target, seen) in [
        ("/srv/root", "65534 0 65534"),
        ("/srv/owner", "65534 33 65534"),
        ("/srv/pair", "65534 65534 7"),
        ("/srv/guest", "0 1000 1001"),
    ] {
        let owners = inside(sandbox, &format!("cd {target} && stat -c %u 0 1000 1001")).ok().stdout;
        assert_eq!(owners.split_whitespace().collect::<Vec<_>>().join(" "), seen, "{target}");
    }
    inside(sandbox, "echo x > /srv/root/made && chmod 4755 /srv/root/made").ok();
    inside(sandbox, "echo x > /srv/guest/made && chmod 4755 /srv/guest/made").ok();
    let made = |dir: &Path| fs::metadata(dir.join("made")).map(|meta| (meta.uid(), meta.mode() & 0o7777)).unwrap();
    assert_eq!((made(&users), made(&roots)), ((1000, 0o4755), (0, 0o4755)));
    for target in ["/srv/owner", "/srv/pair"] {
        assert_ne!(inside(sandbox, &format!("echo x > {target}/by-root")).status, 0, "{target}");
    }
    sandbox.lxm(&["attach", "p", "--user", "33", "--", "sh", "-c", "echo x > /srv/owner/by-33"]).ok();
    assert_eq!(fs::metadata(users.join("by-33")).unwrap().uid(), 1000);
    let warned = sandbox.lxm(&["config", "set", "p", "mount.3.optional", "true"]).ok();
    assert!(warned.stderr.contains(&format!("on `{}` the guest's root acts as root of this host", roots.display())));
    assert_eq!(warned.stderr.matches("acts as root").count(), 1, "{warned}");
}

/// A directory of the host's user `uid` that only he can write to.
fn owned_dir(sandbox: &Sandbox, name: &str, uid: u32) -> PathBuf {
    let dir = sandbox.path(name);
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(uid), Some(uid)).unwrap();
    dir
}

/// A guest that shares a directory must not choose what is mounted. The same links, made by root where
/// only root can, are followed.
fn sources(sandbox: &Sandbox) {
    let secret = owned_dir(sandbox, "secret", 0);
    fs::write(secret.join("shadow"), "root's\n").unwrap();
    let home = owned_dir(sandbox, "home", 1000);
    let alone = owned_dir(sandbox, "alone", 0);
    fs::create_dir(home.join("plain")).unwrap();
    symlink(&secret, home.join("link")).unwrap();
    std::os::unix::fs::lchown(home.join("link"), Some(1000), Some(1000)).unwrap();
    symlink(&secret, home.join("by-root")).unwrap();
    fs::hard_link(secret.join("shadow"), home.join("file")).unwrap();
    symlink("../secret", alone.join("link")).unwrap();
    sandbox.create("p", Guest::Busybox, &[]);
    let source = |path: &Path| {
        sandbox.lxm(&["config", "set", "p", "mount.0.source", path.to_str().unwrap(), "mount.0.target", "/srv"]).ok();
        let started = sandbox.lxm(&["start", "p"]);
        sandbox.lxm(&["stop", "-k", "p"]).stdout.clear();
        started
    };
    source(&home.join("link")).fails(6).complains("home/link` is a symbolic link");
    source(&home.join("link/below")).fails(6).complains("home/link` is a symbolic link");
    source(&home.join("by-root")).fails(6).complains("home/by-root` is a symbolic link");
    source(&home.join("file")).fails(6).complains("home/file` is a file with further names");
    source(&home.join("missing")).fails(6).complains("No such file");
    source(&alone.join("link")).ok();
    source(&home.join("plain")).ok();
    // A file, seen through the link of root's.
    sandbox.lxm(&["config", "set", "p", "mount.0.source", alone.join("link/shadow").to_str().unwrap()]).ok();
    sandbox.lxm(&["config", "set", "p", "mount.0.target", "/etc/shown"]).ok();
    sandbox.lxm(&["start", "p"]).ok();
    inside(sandbox, "cat /etc/shown").ok().says("root's");
}

/// A mount below /proc would hide what confines (CVE-2019-16884): by the command line,
/// and in a file that was edited by hand.
fn targets(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let file = sandbox.layout().config_file(&"p".parse().unwrap());
    let before = fs::read_to_string(&file).unwrap();
    for target in
        ["/", "/proc", "/proc/sys", "/proc/kcore", "/dev", "/dev/null", "/sys", "/run/host", "srv", "/a/../proc"]
    {
        let set = ["config", "set", "p", "mount.0.source", "/usr", "mount.0.target", target];
        sandbox.lxm(&set).fails(6).complains(&format!("the target of a mount cannot be `{target}`"));
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
        show(sandbox, Path::new("/usr"), target, "");
        sandbox.lxm(&["start", "p"]).fails(6).complains("`mount.0.target`").complains(&format!("`{target}`"));
        fs::write(&file, &before).unwrap();
    }
    show(sandbox, Path::new("/usr"), "/srv", "");
    sandbox.lxm(&["start", "p"]).ok();
}

/// CVE-2021-30465, CVE-2024-45310, CVE-2019-19921: a guest that has made its own target a link has it
/// followed within its root, and never by the links of /proc.
fn links_of_the_guest(sandbox: &Sandbox) {
    let dir = owned_dir(sandbox, "data", 0);
    fs::write(dir.join("file"), "shown\n").unwrap();
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "p"]).ok();
    inside(
        sandbox,
        "ln -s /../../../.. /up; ln -s /proc/1/root /root-of; ln -s /proc/self/fd /fds; ln -s /up/nowhere /off",
    )
    .ok();
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    let file = sandbox.layout().config_file(&"p".parse().unwrap());
    let before = fs::read_to_string(&file).unwrap();
    show(sandbox, &dir, "/up/made/by-lxm", "");
    sandbox.lxm(&["start", "p"]).ok();
    inside(sandbox, "cat /made/by-lxm/file").ok().says("shown");
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    // One that leads to nothing is followed as well, and what it leads to is made there.
    show(sandbox, &dir, "/off/made", "");
    sandbox.lxm(&["start", "p"]).ok();
    inside(sandbox, "cat /nowhere/made/file").ok().says("shown");
    assert!(!Path::new("/made").exists() && !Path::new("/nowhere").exists());
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    for target in ["/root-of/made", "/fds/5", "/fds/6/made"] {
        fs::write(&file, &before).unwrap();
        show(sandbox, &dir, target, "");
        sandbox.lxm(&["start", "p"]).fails(1).complains(&format!("make the mount point `{target}`"));
        assert!(!Path::new("/made").exists() && !dir.join("made").exists());
    }
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2026-41579: nothing is mounted past a link.
fn places_that_are_links(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &["--storage", "dir"]);
    let rootfs = sandbox.layout().rootfs(&"p".parse().unwrap());
    for place in ["proc", "sys", "dev", "run"] {
        fs::rename(rootfs.join(place), rootfs.join("away")).unwrap();
        symlink("/tmp", rootfs.join(place)).unwrap();
        sandbox.lxm(&["start", "p"]).fails(1).complains(&format!("`/{place}` is not a directory"));
        fs::remove_file(rootfs.join(place)).unwrap();
        fs::rename(rootfs.join("away"), rootfs.join(place)).unwrap();
    }
    sandbox.lxm(&["start", "p"]).ok();
}

/// CVE-2025-31133, CVE-2025-52565: /dev/null and /dev/console are what covers are made of. Those of
/// the next boot are its own, whatever the guest has made of these.
fn next_boot(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "p"]).ok();
    inside(sandbox, "rm /dev/null && ln -s /proc/sysrq-trigger /dev/null && ln -s null /dev/mine").ok();
    inside(sandbox, "mount -t tmpfs own /dev/pts && ln -s /proc/sysrq-trigger /dev/pts/0").ok();
    sandbox.lxm(&["restart", "p"]).ok();
    inside(sandbox, "test -c /dev/null && ! test -e /dev/mine && test -c /dev/console && test -c /dev/pts/0").ok();
    for mask in ["/proc/timer_list", "/proc/keys", "/proc/sysrq-trigger"].iter().filter(|path| Path::new(path).exists())
    {
        inside(sandbox, &format!("stat -c %t:%T {mask}")).ok().says("1:3");
    }
}

/// CVE-2025-52881, CVE-2015-1334: what lxm's verbs read and write of a guest is not looked for in the /proc
/// that its root has put there.
fn false_proc(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "p"]).ok();
    inside(
        sandbox,
        "mount -t tmpfs own /proc && mkdir -p /proc/self/attr /proc/thread-self/attr /proc/1 /proc/sys/kernel && cd /proc &&
         for f in self/attr/exec thread-self/attr/exec self/uid_map self/oom_score_adj 1/status sys/kernel/cap_last_cap; do
             echo false > $f; done",
    )
    .ok();
    inside(sandbox, "true").ok();
    sandbox.lxm(&["config", "set", "p", "limits.pids", "1000"]).ok();
    sandbox.lxm(&["freeze", "p"]).ok();
    sandbox.lxm(&["unfreeze", "p"]).ok();
    let found = inside(sandbox, "cd /proc && find . -type f | wc -l; cat $(find . -type f) | sort -u").ok();
    assert_eq!(found.stdout, "6\nfalse\n");
}
