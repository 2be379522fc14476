//! systemd-nspawn's `TEST-13-NSPAWN`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::{busybox, inside, show};
use crate::support::{Guest, Sandbox, Trial};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("peers::nspawn::bind_tmp_path", bind_tmp_path).guest(Guest::Trixie).limit(120),
        Trial::new("peers::nspawn::invalid_arguments", invalid_arguments).guest(Guest::Probe),
        busybox("peers::nspawn::port", ports),
        Trial::new("peers::nspawn::os_release", os_release).guest(Guest::Bookworm).limit(120),
        busybox("peers::nspawn::fuse", fuse),
        busybox("peers::nspawn::dev_net_tun", tun),
    ]
}

/// systemd#4789. Debian 13 mounts a file system of its own on /tmp when it boots.
fn bind_tmp_path(sandbox: &Sandbox) {
    let file = sandbox.path("bind");
    fs::write(&file, "bound\n").unwrap();
    sandbox.create("p", Guest::Trixie, &[]);
    show(sandbox, &file, "/tmp/bind", "");
    show(sandbox, &file, "/run/lock/below/bind", "");
    let start = ["start", "p", "--wait", "booted", "--timeout", "600s"];
    sandbox.lxm_with(&start, b"", Duration::from_secs(120)).ok();
    assert_eq!(inside(sandbox, "cat /tmp/bind /run/lock/below/bind").ok().stdout, "bound\nbound\n");
    assert_eq!(inside(sandbox, "findmnt -n -o FSTYPE /tmp").ok().line(), "tmpfs");
    assert_eq!(inside(sandbox, "stat -c %a /tmp /run/lock").ok().stdout, "1777\n1777\n");
    assert_eq!(inside(sandbox, "systemctl --failed --plain --no-legend").ok().stdout, "");
}

/// Every setting that a container has, of one mount, device and interface.
#[rustfmt::skip]
const SETTINGS: [&str; 58] = [
    "description", "version",
    "boot.autostart", "boot.autostart-after", "boot.requires", "boot.ready", "boot.stop-timeout", "boot.init",
    "boot.init-type", "boot.wait-timeout",
    "security.privileged", "security.nesting", "security.idmap", "security.capabilities-add",
    "security.capabilities-drop", "security.syscalls", "security.syscalls-allow", "security.address-families",
    "security.apparmor", "security.selinux-label",
    "limits.memory", "limits.memory-high", "limits.swap", "limits.cpus", "limits.cpu-weight", "limits.cpuset",
    "limits.pids", "limits.io-weight",
    "storage.size", "snapshots.schedule", "snapshots.keep",
    "network.eth0.type", "network.eth0.bridge", "network.eth0.parent", "network.eth0.mac", "network.eth0.ipv4",
    "network.eth0.ipv6", "network.eth0.gateway", "network.eth0.mtu", "network.eth0.vlan", "network.eth0.publish",
    "network.eth0.isolated", "network.eth0.ingress", "network.eth0.egress", "network.lo.type",
    "mount.0.source", "mount.0.target", "mount.0.read-only", "mount.0.optional", "mount.0.recursive", "mount.0.suid",
    "mount.0.dev", "mount.0.idmap",
    "device.0.path", "device.0.mode", "mount.7.source", "device.7.path", "no-such.setting",
];

/// Every setting, with what hardly is one of its values: it is refused in words and nothing has changed, or
/// it is taken and can be read again.
fn invalid_arguments(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let set = ["mount.0.source", "/srv", "mount.0.target", "/srv", "device.0.path", "/dev/null"];
    sandbox.lxm(&[&["config", "set", "p", "network.eth0.type", "veth"][..], &set].concat()).ok();
    let file = sandbox.layout().config_file(&"p".parse().unwrap());
    let before = fs::read(&file).unwrap();
    let mut refused = 0;
    for key in SETTINGS {
        for value in ["%$\u{161}", "-", "\u{1b}[2J"] {
            let told = sandbox.lxm(&["config", "set", "p", "--", key, value]);
            if told.status == 0 {
                sandbox.lxm(&["config", "get", "p", key]).ok();
                fs::write(&file, &before).unwrap();
                continue;
            }
            assert!([2, 3, 6].contains(&told.status), "{key}: {told}");
            assert!(told.stderr.starts_with("error: ") && !told.stderr.contains('\u{1b}'), "{key}: {told}");
            assert_eq!(fs::read(&file).unwrap(), before, "{key}");
            refused += 1;
        }
    }
    assert!(refused > SETTINGS.len() * 2, "{refused} refused");
    sandbox.lxm(&["config", "set", "p"]).fails(2);
    sandbox.lxm(&["config", "set", "p", "description"]).fails(2);
}

fn ports(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.lxm(&["config", "set", "p", "network.eth0.type", "veth"]).ok();
    let publish = |value: &str| sandbox.lxm(&["config", "set", "p", "network.eth0.publish", value]);
    for value in ["80:80", "80:8080", "80:8080/tcp", "80:8080/udp", "53:53/udp,53:53/tcp"] {
        publish(value).ok();
    }
    for value in [":", "80:8080/icmp", ":8080", "8080:", "0:80", "80:65536", "80:80,80:81", "80 :80", "tcp:80:"] {
        publish(value).fails(6);
    }
    assert_eq!(
        sandbox.lxm(&["config", "get", "p", "network.eth0.publish"]).ok().line(),
        r#"["53:53/udp", "53:53/tcp"]"#
    );
}

fn os_release(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Bookworm, &[]);
    let host = fs::read_to_string("/etc/os-release").unwrap();
    assert_eq!(inside(sandbox, "cat /run/host/os-release").ok().stdout, host);
    inside(sandbox, "echo x >> /run/host/os-release").complains("Read-only file system");
    // CONTAINER_INTERFACE.md leaves it to the manager to tell the same by the environment, too.
    let environment = inside(sandbox, "tr '\\0' '\\n' </proc/1/environ").ok().stdout;
    assert!(!environment.contains("container_host_"), "{environment}");
}

/// /dev/fuse can be opened, and says of itself that nothing is mounted by it.
fn fuse(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.create("q", Guest::Busybox, &["--privileged"]);
    for name in ["p", "q"] {
        sandbox.lxm(&["start", name]).ok();
        let told = sandbox.lxm(&["attach", name, "--", "sh", "-c", "cat <>/dev/fuse"]).fails(1);
        told.complains("cat: ").complains("Operation not permitted");
    }
}

/// systemd#34243, #35116: the node is the guest's root's, and the host's is as it was.
fn tun(sandbox: &Sandbox) {
    let of_host = || fs::metadata("/dev/net/tun").map(|meta| (meta.uid(), meta.gid(), meta.mode())).unwrap();
    assert!(Path::new("/dev/net/tun").exists(), "this machine has no tunnels");
    let before = of_host();
    sandbox.create("p", Guest::Busybox, &[]);
    sandbox.create("q", Guest::Busybox, &["--privileged"]);
    for name in ["p", "q"] {
        sandbox.lxm(&["start", name]).ok();
        let told = sandbox.lxm(&["attach", name, "--", "stat", "-c", "%u %g %t:%T", "/dev/net/tun"]).ok();
        assert_eq!(told.line(), "0 0 a:c8", "{name}");
        sandbox.lxm(&["attach", name, "--", "sh", "-c", "exec 3<>/dev/net/tun"]).ok();
        assert_eq!(of_host(), before);
    }
}
