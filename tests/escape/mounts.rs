//! What a guest may do with what is mounted for it.

mod binds;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::sandbox::run_checked;
use crate::support::{Guest, Outcome, Sandbox, Trial, eventually};

pub fn trials() -> Vec<Trial> {
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox);
    let of_guests = vec![
        busybox("escape::mounts::none_of_a_guest_s_mounts_comes_off", none_comes_off),
        busybox("escape::mounts::no_flag_of_a_guest_s_mounts_comes_off", no_flag_comes_off),
        busybox("escape::mounts::nesting_locks_as_much", nesting_locks_as_much),
        busybox("escape::mounts::what_a_read_only_mount_shows_stays_as_it_is", read_only),
        busybox("escape::mounts::what_the_host_covered_stays_covered", covered),
        busybox("escape::mounts::a_privileged_guest_s_mounts_are_its_own", privileged),
        busybox("escape::mounts::proc_and_sys_are_mounted_anew_by_a_guest", mounted_anew),
    ];
    of_guests.into_iter().chain(binds::trials()).collect()
}

/// Runs a script as the guest's root.
#[track_caller]
fn inside(sandbox: &Sandbox, script: &str) -> Outcome {
    sandbox.lxm(&["attach", "p", "--", "sh", "-c", script])
}

/// A directory of the host shown in the guest `p`, with `settings` beside source and target.
fn show(sandbox: &Sandbox, source: &Path, target: &str, settings: &str) {
    let file = sandbox.layout().config_file(&"p".parse().unwrap());
    let text = format!("\n[[mount]]\nsource = \"{}\"\ntarget = \"{target}\"\n{settings}\n", source.display());
    fs::write(&file, fs::read_to_string(&file).unwrap() + &text).unwrap();
}

/// A tree on the host with a file, and a second file system on `sub` that covers a secret.
fn host_tree(sandbox: &Sandbox) -> PathBuf {
    let tree = sandbox.path("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("file"), "the host's\n").unwrap();
    fs::write(tree.join("sub/secret"), "covered\n").unwrap();
    run_checked("mount", &["-t", "tmpfs", "-o", "mode=0777", "lxm-trial", tree.join("sub").to_str().unwrap()]);
    fs::write(tree.join("sub/shown"), "shown\n").unwrap();
    tree
}

fn remove_host_tree(tree: &Path) {
    run_checked("umount", &[tree.join("sub").to_str().unwrap()]);
}

/// Boots a busybox guest that is shown the tree at `/srv/ro`, read-only.
fn boot_with_tree(sandbox: &Sandbox, more: &[&str]) -> PathBuf {
    let tree = host_tree(sandbox);
    sandbox.create("p", Guest::Busybox, more);
    show(sandbox, &tree, "/srv/ro", "read-only = true");
    sandbox.lxm(&["start", "p"]).ok();
    tree
}

/// Tries to take off every mount; prints those that came off.
const TAKE_OFF: &str = "mkdir -p /tmp/own; mount -t tmpfs own /tmp/own && echo mounted
    cut -d' ' -f5 /proc/self/mountinfo | grep -v '^/$' | sort -r | while read at; do
        umount $at 2>/dev/null && echo off $at; umount -l $at 2>/dev/null && echo off $at
    done; true";

/// Tries to take each restriction off every mount, the others left as they are.
const TAKE_FLAGS: &str = "mkdir -p /tmp/own; mount -t tmpfs -o ro,nosuid,nodev,noexec own /tmp/own && echo mounted
    while read _ _ _ _ at options _; do
        for flag in ro nosuid nodev noexec; do
            case ,$options, in *,$flag,*) ;; *) continue;; esac
            without=$(echo ,$options, | sed \"s/,$flag,/,/; s/^,//; s/,$//\")
            [ $flag = ro ] && without=$without,rw
            mount -o remount,bind,$without none $at 2>/dev/null && echo off $at $flag
        done
    done < /proc/self/mountinfo; true";

/// Takes off the /run that busybox's rcS mounts on lxm's.
#[track_caller]
fn take_off_its_own_run(sandbox: &Sandbox) {
    let runs = "grep -c ' /run rw' /proc/self/mountinfo";
    eventually("rcS has mounted /run", Duration::from_secs(30), || inside(sandbox, runs).line() == "2");
    inside(sandbox, "umount -l /run").ok();
}

#[track_caller]
fn only_its_own(outcome: &Outcome, expected: &[&str]) {
    let off: Vec<&str> = outcome.stdout.lines().filter(|line| line.starts_with("off ")).collect();
    assert_eq!(off, expected, "{outcome}");
    assert!(outcome.stdout.contains("mounted\n"), "it cannot mount at all: {outcome}");
}

const OWN_FLAGS: [&str; 4] = ["off /tmp/own ro", "off /tmp/own nosuid", "off /tmp/own nodev", "off /tmp/own noexec"];

/// What root in the guest can do to its own mounts it cannot do to the host's: they are locked
/// (MNT_LOCKED, mount_namespaces(7)). The guest's own mount comes off by the same calls.
fn none_comes_off(sandbox: &Sandbox) {
    let tree = boot_with_tree(sandbox, &[]);
    take_off_its_own_run(sandbox);
    only_its_own(&inside(sandbox, TAKE_OFF).ok(), &["off /tmp/own"]);
    for at in ["/srv/ro/sub", "/proc/sys", "/proc/sys/kernel/random/boot_id", "/run/host", "/dev"] {
        inside(sandbox, &format!("mount --move {at} /mnt")).complains("Invalid argument");
    }
    remove_host_tree(&tree);
}

/// Of the host's mounts `ro`, `nosuid`, `nodev` and `noexec` are locked (MNT_LOCK_READONLY and the like).
fn no_flag_comes_off(sandbox: &Sandbox) {
    let tree = boot_with_tree(sandbox, &[]);
    take_off_its_own_run(sandbox);
    only_its_own(&inside(sandbox, TAKE_FLAGS).ok(), &OWN_FLAGS);
    remove_host_tree(&tree);
}

fn nesting_locks_as_much(sandbox: &Sandbox) {
    let tree = host_tree(sandbox);
    sandbox.create("p", Guest::Busybox, &[]);
    show(sandbox, &tree, "/srv/ro", "read-only = true");
    sandbox.lxm(&["config", "set", "p", "security.nesting", "true"]).ok();
    sandbox.lxm(&["start", "p"]).ok();
    take_off_its_own_run(sandbox);
    only_its_own(&inside(sandbox, TAKE_FLAGS).ok(), &OWN_FLAGS);
    only_its_own(&inside(sandbox, &format!("umount /tmp/own; {TAKE_OFF}")).ok(), &["off /tmp/own"]);
    remove_host_tree(&tree);
}

/// Copies of the mount, and the mount seen from further user namespaces, are as
/// read-only as itself. That the file could be written to otherwise is seen on a writable mount.
fn read_only(sandbox: &Sandbox) {
    let tree = host_tree(sandbox);
    fs::set_permissions(tree.join("file"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    sandbox.create("p", Guest::Busybox, &[]);
    show(sandbox, &tree, "/srv/ro", "read-only = true");
    show(sandbox, &tree, "/srv/rw", "");
    sandbox.lxm(&["start", "p"]).ok();
    inside(sandbox, "echo written > /srv/rw/file").ok();
    assert_eq!(fs::read_to_string(tree.join("file")).unwrap(), "written\n");
    for script in [
        "mount -o remount,bind,rw /srv/ro",
        "mount -o remount,rw /srv/ro",
        "mount --rbind /srv/ro /mnt && mount -o remount,bind,rw /mnt",
        "mount --rbind /srv /mnt && mount -o remount,bind,rw /mnt/ro",
        "mount --make-rprivate / && mount -o remount,bind,rw /srv/ro",
        "unshare -m sh -c 'mount -o remount,bind,rw /srv/ro'",
        "unshare -U -r -m sh -c 'mount -o remount,bind,rw /srv/ro'",
        "nsenter -t 1 -m sh -c 'mount -o remount,bind,rw /srv/ro'",
    ] {
        inside(sandbox, &format!("{script} && echo taken > /srv/ro/file")).fails(1);
        inside(sandbox, "umount -l /mnt; echo x > /srv/ro/file").fails(1).complains("Read-only file system");
    }
    assert_eq!(fs::read_to_string(tree.join("file")).unwrap(), "written\n");
    remove_host_tree(&tree);
}

/// No way shows what lies below a mount of the host. That it lies there the host sees.
fn covered(sandbox: &Sandbox) {
    let tree = boot_with_tree(sandbox, &[]);
    inside(sandbox, "cat /srv/ro/sub/shown").ok().says("shown");
    for script in [
        "umount /srv/ro/sub",
        "umount -l /srv/ro/sub",
        "mount --bind /srv/ro /mnt",
        "mount --rbind /srv/ro /mnt && umount /mnt/sub",
        "mount --move /srv/ro/sub /mnt",
        "unshare -m umount /srv/ro/sub",
        "unshare -U -r -m umount /srv/ro/sub",
    ] {
        let tried = inside(sandbox, script).complains("Invalid argument");
        assert_ne!(tried.status, 0, "{tried}");
        assert!(!inside(sandbox, "cat /srv/ro/sub/secret /mnt/sub/secret; umount -l /mnt").stdout.contains("covered"));
    }
    remove_host_tree(&tree);
    assert_eq!(fs::read_to_string(tree.join("sub/secret")).unwrap(), "covered\n");
}

/// As docs/SECURITY.md says: without a user namespace of its own nothing is locked.
fn privileged(sandbox: &Sandbox) {
    let tree = boot_with_tree(sandbox, &["--privileged"]);
    inside(sandbox, "mount -o remount,bind,rw /srv/ro && umount /srv/ro/sub && cat /srv/ro/sub/secret").ok();
    remove_host_tree(&tree);
}

/// What covers /proc is locked, and yet chroots and sandboxes in a guest have a proc and a sysfs of their
/// own (mount_too_revealing() in fs/namespace.c looks for a whole one in the namespace).
fn mounted_anew(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "p"]).ok();
    for (kind, known) in [("proc", "self/status"), ("sysfs", "class/net")] {
        inside(sandbox, &format!("mount -t {kind} anew /mnt && ls -d /mnt/{known} && umount /mnt")).ok();
    }
    inside(sandbox, "unshare -U -r -m -p -f sh -c 'mount -t proc proc /proc && cat /proc/1/comm'").ok();
    // A new one is as the kernel guards it, which is why masks are a courtesy for a guest with ids of its own.
    for file in ["kcore", "sysrq-trigger", "sys/kernel/core_pattern"] {
        inside(sandbox, &format!("mount -t proc anew /mnt && echo x > /mnt/{file}")).fails(1);
        inside(sandbox, "umount /mnt").ok();
    }
    assert_eq!(inside(sandbox, "ls /dev/.lxm").ok().stdout, "");
}
