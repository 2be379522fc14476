//! runc's `mounts.bats`, `mounts_recursive.bats`, `mounts_propagation*.bats` and `idmap.bats`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use super::{busybox, inside, show};
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Sandbox, Trial};

pub fn trials() -> Vec<Trial> {
    vec![
        busybox("peers::runc_mounts::absolute_symlink", absolute_link),
        busybox("peers::runc_mounts::dangling_symlinks", dangling_links),
        busybox("peers::runc_mounts::setgid_and_mkdirall", setgid),
        busybox("peers::runc_mounts::mount_order", order),
        busybox("peers::runc_mounts::rbind_rro_is_recursively_read_only", recursive),
        busybox("peers::runc_mounts::idmap_is_recursive", idmap_recursive),
        busybox("peers::runc_mounts::rootfs_propagation", propagation),
    ]
}

/// A directory of the host with a file of its name.
fn source(sandbox: &Sandbox, name: &str) -> PathBuf {
    let dir = sandbox.path(name);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), format!("{name}\n")).unwrap();
    dir
}

/// Runs a script in the guest before what is asked for is mounted.
fn prepare(sandbox: &Sandbox, script: &str) {
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "p"]).ok();
    inside(sandbox, script).ok();
    sandbox.lxm(&["stop", "-k", "p"]).ok();
}

fn absolute_link(sandbox: &Sandbox) {
    prepare(sandbox, "mkdir -p /real/conf && ln -s /real/conf /conf");
    show(sandbox, &source(sandbox, "stack"), "/conf/stack", "read-only = true");
    sandbox.lxm(&["start", "p"]).ok();
    assert_eq!(inside(sandbox, "cat /real/conf/stack/file").ok().line(), "stack");
}

/// As /etc/resolv.conf is in most guests, whose link leads below /run, which is empty then.
fn dangling_links(sandbox: &Sandbox) {
    prepare(
        sandbox,
        "ln -s /var/far/bar /jump; ln -s /jump/baz/hosts /etc/through; ln -s ../var/resolve/stub /etc/last;
         ln -s /var/dir /srv-dir; ln -s round /round; ln -s /../../escaped /up",
    );
    let dir = source(sandbox, "data");
    for target in ["/etc/through", "/etc/last"] {
        show(sandbox, &dir.join("file"), target, "");
    }
    show(sandbox, &dir, "/srv-dir", "");
    show(sandbox, &dir, "/up", "");
    sandbox.lxm(&["start", "p"]).ok();
    for path in ["/var/far/bar/baz/hosts", "/etc/through", "/etc/last", "/var/dir/file", "/escaped/file"] {
        assert_eq!(inside(sandbox, &format!("cat {path}")).ok().line(), "data", "{path}");
    }
    assert!(!std::path::Path::new("/escaped").exists());
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    show(sandbox, &dir, "/round", "");
    sandbox.lxm(&["start", "p"]).fails(1).complains("mount point `/round`").complains("symbolic links");
}

fn setgid(sandbox: &Sandbox) {
    prepare(sandbox, "mkdir /setgid && chmod 7755 /setgid");
    show(sandbox, &source(sandbox, "data"), "/setgid/a/b/c", "");
    sandbox.lxm(&["start", "p"]).ok();
    let modes = inside(sandbox, "stat -c %a /setgid /setgid/a /setgid/a/b").ok().stdout;
    assert_eq!(modes, "7755\n2755\n2755\n");
}

/// Mounts are made in the order of the file, and each sees those before it.
fn order(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    let [a, b, c] = ["a", "b", "c"].map(|name| source(sandbox, name));
    // A target is made in what is mounted below it.
    for dir in [&a, &b] {
        fs::create_dir(dir.join("below")).unwrap();
    }
    show(sandbox, &a, "/mnt", "");
    show(sandbox, &b, "/mnt/below", "");
    show(sandbox, &c, "/mnt/below/below", "");
    // Twice on one place: the last is seen.
    show(sandbox, &a, "/twice", "");
    show(sandbox, &b, "/twice", "");
    sandbox.lxm(&["start", "p"]).ok();
    let seen = inside(sandbox, "cat /mnt/file /mnt/below/file /mnt/below/below/file /twice/file").ok().stdout;
    assert_eq!(seen, "a\nb\nc\nb\n");
    inside(sandbox, "umount /mnt/below").fails(1);
    inside(sandbox, "umount /twice").fails(1).complains("Invalid argument");
}

/// A directory that everybody may write to, with a file system of its own on `subvol`.
fn volume(sandbox: &Sandbox) -> PathBuf {
    let dir = source(sandbox, "volume");
    fs::create_dir(dir.join("subvol")).unwrap();
    run_checked("mount", &["-t", "tmpfs", "lxm-trial", dir.join("subvol").to_str().unwrap()]);
    fs::write(dir.join("subvol/bar"), "bar\n").unwrap();
    for path in ["", "file", "subvol", "subvol/bar"] {
        fs::set_permissions(dir.join(path), fs::Permissions::from_mode(0o777)).unwrap();
    }
    dir
}

fn recursive(sandbox: &Sandbox) {
    let dir = volume(sandbox);
    sandbox.create("p", Guest::Busybox, &[]);
    show(sandbox, &dir, "/ro", "read-only = true");
    show(sandbox, &dir, "/flat", "read-only = true\nrecursive = false");
    show(sandbox, &dir, "/rw", "");
    sandbox.lxm(&["start", "p"]).ok();
    for path in ["/ro/file", "/ro/subvol/bar", "/flat/file", "/flat/subvol/new"] {
        inside(sandbox, &format!("echo x > {path}")).fails(1).complains("Read-only file system");
    }
    assert_eq!(inside(sandbox, "ls /flat/subvol").ok().stdout, "");
    // The means: it is not the files that refuse.
    inside(sandbox, "echo x > /rw/file && echo x > /rw/subvol/bar").ok();
    run_checked("umount", &[dir.join("subvol").to_str().unwrap()]);
}

fn idmap_recursive(sandbox: &Sandbox) {
    let dir = volume(sandbox);
    for path in ["", "file", "subvol", "subvol/bar"] {
        chown(dir.join(path), Some(1000), Some(1000)).unwrap();
    }
    sandbox.create("p", Guest::Busybox, &[]);
    show(sandbox, &dir, "/mapped", "idmap = \"root\"");
    show(sandbox, &dir, "/plain", "");
    sandbox.lxm(&["start", "p"]).ok();
    let owners = |at: &str| inside(sandbox, &format!("cd {at} && stat -c %u . file subvol subvol/bar")).ok().stdout;
    assert_eq!((owners("/mapped"), owners("/plain")), ("0\n".repeat(4), "65534\n".repeat(4)));
    run_checked("umount", &[dir.join("subvol").to_str().unwrap()]);
}

/// The guest's root is shared, for services in it; nothing goes from it to the host or back.
fn propagation(sandbox: &Sandbox) {
    let dir = source(sandbox, "data");
    for name in ["of-host", "of-guest"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    run_checked("mount", &["--bind", dir.to_str().unwrap(), dir.to_str().unwrap()]);
    run_checked("mount", &["--make-shared", dir.to_str().unwrap()]);
    sandbox.create("p", Guest::Busybox, &[]);
    show(sandbox, &dir, "/data", "");
    sandbox.lxm(&["start", "p"]).ok();
    let root = inside(sandbox, "grep ' / / ' /proc/self/mountinfo").ok();
    assert!(root.stdout.contains("shared:") && !root.stdout.contains("master:"), "{root}");
    let count = |what: &str| {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        (mounts.matches(what).count(), inside(sandbox, &format!("grep -c {what} /proc/self/mountinfo")).stdout)
    };
    run_checked("mount", &["-t", "tmpfs", "lxm-of-host", dir.join("of-host").to_str().unwrap()]);
    inside(sandbox, "mount -t tmpfs lxm-of-guest /data/of-guest").ok();
    assert_eq!(count("lxm-of-host"), (1, "0\n".into()));
    assert_eq!(count("lxm-of-guest"), (0, "1\n".into()));
    run_checked("umount", &[dir.join("of-host").to_str().unwrap()]);
    run_checked("umount", &[dir.to_str().unwrap()]);
}
