//! runc's `dev.bats`: which devices a guest has, and what it may do with them.

use std::fs;

use super::{busybox, configure, inside};
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Need, Sandbox, Trial};

pub fn trials() -> Vec<Trial> {
    vec![
        busybox("peers::runc_dev::redundant_defaults", redundant),
        busybox("peers::runc_dev::device_cgroup_deny", denied),
        busybox("peers::runc_dev::device_cgroup_allow_rw_char_device", allowed_character),
        busybox("peers::runc_dev::device_cgroup_allow_rm_block_device", allowed_block).needs(Need::Tool("losetup")),
    ]
}

/// Devices that every guest has, asked for once more.
fn redundant(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    configure(sandbox, "[[device]]\npath = \"/dev/tty\"\n[[device]]\npath = \"/dev/ptmx\"");
    sandbox.lxm(&["start", "p"]).ok();
    for (node, numbers) in [("tty", "5:0"), ("ptmx", "5:2")] {
        let stat = format!("stat -L -c '%a %u %g %t:%T' /dev/{node}");
        assert_eq!(inside(sandbox, &stat).ok().line(), format!("666 0 0 {numbers}"));
    }
    // A terminal of the guest's own is made of it.
    let tty = sandbox.lxm(&["attach", "-t", "p", "--", "sh", "-c", "tty; : </dev/tty && echo opened"]).ok();
    assert!(tty.stdout.contains("/dev/pts/") && tty.stdout.contains("opened"), "{tty}");
}

/// Before and after a limit changes: what is written then must not forget the devices.
fn denied(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &["--privileged"]);
    sandbox.lxm(&["start", "p"]).ok();
    let refused = || {
        for (path, numbers) in [("/dev/kmsg", "c 1 11"), ("/dev/mem", "c 1 1"), ("/dev/disk", "b 254 0")] {
            inside(sandbox, &format!("mknod {path} {numbers}")).fails(1).complains("Operation not permitted");
        }
    };
    // The means: of the devices that are its own it makes nodes, and opens them.
    let own = "rm -f /dev/own && mknod /dev/own c 1 3 && echo x >/dev/own";
    inside(sandbox, own).ok();
    refused();
    sandbox.lxm(&["config", "set", "p", "limits.pids", "42"]).ok();
    inside(sandbox, own).ok();
    refused();
}

fn allowed_character(sandbox: &Sandbox) {
    let open = "exec 3<>/dev/loop-control && echo opened";
    sandbox.create("p", Guest::Busybox, &["--privileged"]);
    sandbox.lxm(&["start", "p"]).ok();
    inside(sandbox, "mknod /dev/loop-control c 10 237").fails(1).complains("Operation not permitted");
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    configure(sandbox, "[[device]]\npath = \"/dev/loop-control\"\nmode = \"0660\"");
    sandbox.lxm(&["start", "p"]).ok();
    let access = "test -r /dev/loop-control && test -w /dev/loop-control";
    assert_eq!(inside(sandbox, &format!("{access} && {open}")).ok().line(), "opened");
    // An unprivileged guest's root too, and none of its users.
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    sandbox.lxm(&["config", "set", "p", "security.privileged", "false"]).ok();
    sandbox.lxm(&["start", "p"]).ok();
    assert_eq!(inside(sandbox, &format!("{access} && {open}")).ok().line(), "opened");
    let user = sandbox.lxm(&["attach", "p", "--user", "1", "--", "sh", "-c", open]);
    assert!(user.status != 0 && user.stderr.contains("Permission denied"), "{user}");
}

fn allowed_block(sandbox: &Sandbox) {
    let file = sandbox.path("disk.img");
    fs::write(&file, "of the disk\n".repeat(1024)).unwrap();
    let device = run_checked("losetup", &["--find", "--show", file.to_str().unwrap()]).trim().to_owned();
    let numbers = run_checked("stat", &["-c", "0x%t 0x%T", &device]);
    sandbox.create("p", Guest::Busybox, &["--privileged"]);
    configure(sandbox, &format!("[[device]]\npath = \"{device}\""));
    sandbox.lxm(&["start", "p"]).ok();
    let made = format!("mknod /dev/fooblock b $(printf '%d %d' {numbers}) && head -n 1 /dev/fooblock");
    assert_eq!(inside(sandbox, &made).ok().line(), "of the disk");
    assert_eq!(inside(sandbox, &format!("head -n 1 {device}")).ok().line(), "of the disk");
    // Its neighbour on the same driver is another device.
    inside(sandbox, "mknod /dev/other b 7 250").fails(1).complains("Operation not permitted");
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    run_checked("losetup", &["--detach", &device]);
}
