//! Claims about the hosts themselves.

use crate::Trial;
use crate::host::SystemdHost;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("harness::a_host_is_up_without_failed_units", &[], is_up),
        Trial::new("harness::a_host_keeps_its_disk_over_a_reboot", &[], keeps_its_disk),
        Trial::new("harness::device_policies_are_in_force", &[], device_policies),
    ]
}

fn is_up(host: &mut SystemdHost) {
    assert_eq!(host.shell("systemctl is-system-running"), "running");
    assert_eq!(host.shell("systemctl --failed --plain --no-legend"), "");
    let version = host.shell("systemctl --version | head -n1");
    let expected = match host.release() {
        "bookworm" => "systemd 252",
        "trixie" => "systemd 257",
        _ => "systemd 2",
    };
    assert!(version.starts_with(expected), "{version}");
    assert_eq!(host.shell("ls /sys/class/net"), "lo");
    assert!(host.fails(7, "exit 7").is_empty());
}

fn keeps_its_disk(host: &mut SystemdHost) {
    let boot = host.shell("echo kept >/root/file; cat /proc/sys/kernel/random/boot_id; echo mark | logger -t lxmtest");
    host.reboot();
    assert_eq!(host.shell("cat /root/file; cat /proc/sys/kernel/random/boot_id"), format!("kept\n{boot}"));
    assert!(host.shell("journalctl --no-pager -t lxmtest").contains("mark"));
}

fn device_policies(host: &mut SystemdHost) {
    let open = |policy: &str| {
        host.try_shell(
            &format!("systemd-run --wait --pipe -q -p DevicePolicy=closed {policy} sh -c ': </dev/fuse'"),
            std::time::Duration::from_secs(20),
        )
    };
    let _ = open("-p 'DeviceAllow=/dev/fuse rw'").ok();
    assert_ne!(open("").status, 0, "a device that is not on the list was opened");
}
