//! runc's `userns.bats`: mounts whose source the guest's own ids do not reach.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{busybox, inside, show};
use crate::support::{Guest, Need, Sandbox, Trial, command};

pub fn trials() -> Vec<Trial> {
    vec![
        busybox("peers::runc_userns::two_inaccessible_mounts", inaccessible).needs(Need::Tool("setpriv")),
        busybox("peers::runc_userns::two_inaccessible_mounts_one_by_one", one_by_one),
    ]
}

/// Seen by its init and by a command that comes later.
fn inaccessible(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    let mut files = Vec::new();
    for number in [1, 2] {
        let top = sandbox.path(format!("inaccessible-{number}"));
        fs::create_dir_all(top.join("dir")).unwrap();
        fs::write(top.join("dir/foo"), format!("foo {number}\n")).unwrap();
        fs::set_permissions(&top, fs::Permissions::from_mode(0o700)).unwrap();
        show(sandbox, &top.join("dir"), &format!("/tmp/mount-{number}"), "");
        files.push(top.join("dir/foo"));
    }
    sandbox.lxm(&["start", "p"]).ok();
    assert_eq!(inside(sandbox, "cat /tmp/mount-1/foo /tmp/mount-2/foo").ok().stdout, "foo 1\nfoo 2\n");
    inside(sandbox, "cat /proc/1/root/tmp/mount-1/foo").ok();
    // The means: on the host those ids do not get there.
    let map = fs::read_to_string(format!("/proc/{}/uid_map", sandbox.leader("p"))).unwrap();
    let root = map.split_whitespace().nth(1).unwrap();
    let (user, group) = (format!("--reuid={root}"), format!("--regid={root}"));
    for file in &files {
        let tried = command::run("setpriv", &[&user, &group, "--clear-groups", "cat", file.to_str().unwrap()]);
        assert!(tried.status != 0 && tried.stderr.contains("Permission denied"), "{tried}");
    }
}

/// A source that only its owner reads stays unreadable, and one that is the guest's by `idmap` does not.
fn one_by_one(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    let dir = sandbox.path("private");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("foo"), "foo\n").unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    show(sandbox, &dir, "/tmp/none", "");
    show(sandbox, &dir, "/tmp/root", "idmap = \"root\"\nread-only = true");
    sandbox.lxm(&["start", "p"]).ok();
    inside(sandbox, "cat /tmp/none/foo").fails(1).complains("Permission denied");
    assert_eq!(inside(sandbox, "cat /tmp/root/foo").ok().line(), "foo");
}
