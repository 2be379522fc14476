//! runc's `mask.bats`: what is hidden of the kernel's file systems, and stays hidden.

use std::path::Path;
use std::time::Duration;

use super::{busybox, inside};
use crate::support::{Guest, Sandbox, Trial, eventually};

pub fn trials() -> Vec<Trial> {
    vec![
        busybox("peers::runc_mask::file", file),
        busybox("peers::runc_mask::directory", directory),
        busybox("peers::runc_mask::duplicate_paths", once_over_restarts),
    ]
}

const FILES: [&str; 5] = ["kallsyms", "kcore", "keys", "sysrq-trigger", "timer_list"];
const DIRECTORIES: [&str; 7] = ["acpi", "apm", "asound", "bus", "fs", "irq", "scsi"];

/// Those of them that this kernel has.
fn of_this_kernel(names: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    names.iter().copied().filter(|name| Path::new("/proc").join(name).exists())
}

fn file(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "p"]).ok();
    inside(sandbox, "mkdir /own && mount -t proc own /own").ok();
    let mut said = 0;
    for name in of_this_kernel(&FILES) {
        assert_eq!(inside(sandbox, &format!("cat /proc/{name}; true")).stdout, "", "{name}");
        inside(sandbox, &format!("rm -f /proc/{name}")).fails(1);
        for script in ["umount", "umount -l", "mount -o remount,bind,rw none"] {
            let tried = inside(sandbox, &format!("{script} /proc/{name}"));
            assert_ne!(tried.status, 0, "{tried}");
        }
        assert_eq!(inside(sandbox, &format!("stat -c %t:%T /proc/{name}")).ok().line(), "1:3");
        // The means: what is covered has something to say, in a proc that nothing covers.
        let bare = format!("head -c 1 /own/{name} 2>/dev/null | wc -c");
        said += inside(sandbox, &bare).ok().line().trim().parse::<usize>().unwrap();
    }
    assert!(said > 0, "none of the files says anything where it is not hidden");
    inside(sandbox, "umount /own").ok();
}

fn directory(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "p"]).ok();
    inside(sandbox, "mkdir /own && mount -t tmpfs own /own").ok();
    let mut seen = 0;
    for name in of_this_kernel(&DIRECTORIES) {
        let options = format!("grep ' /proc/{name} ' /proc/self/mountinfo | cut -d' ' -f6");
        assert!(inside(sandbox, &options).ok().line().starts_with("ro,"), "{name}");
        inside(sandbox, &format!("mkdir /proc/{name}/foo")).fails(1);
        let removed = inside(sandbox, &format!("rm -rf /proc/{name}"));
        assert_ne!(removed.status, 0, "{removed}");
        inside(sandbox, &format!("umount /proc/{name}")).fails(1).complains("Invalid argument");
        inside(sandbox, &format!("mount -o remount,bind,rw none /proc/{name}")).fails(1);
        seen += 1;
    }
    assert!(seen > 0, "this kernel has none of the directories");
    // The means: a mount of the guest's own comes off by the same calls.
    inside(sandbox, "touch /own/foo && umount /own").ok();
}

/// What is covered is covered once, whatever start it is: a second cover would be one to take off.
fn once_over_restarts(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "p"]).ok();
    let covers = || {
        for name in of_this_kernel(&FILES).chain(of_this_kernel(&DIRECTORIES)).chain(["sys"]) {
            let count = format!("grep -c ' /proc/{name} ' /proc/self/mountinfo");
            assert_eq!(inside(sandbox, &count).ok().line(), "1", "{name}");
        }
    };
    covers();
    sandbox.lxm(&["restart", "p"]).ok();
    covers();
    let leader = sandbox.leader("p");
    // Its connection may end with the guest.
    let _ = inside(sandbox, "reboot");
    eventually("it has rebooted", Duration::from_secs(20), || {
        let pid = sandbox.info("p", "pid").as_i64();
        sandbox.info("p", "state") == "running" && pid.is_some_and(|pid| pid != i64::from(leader))
    });
    covers();
}
