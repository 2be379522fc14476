//! Starting and stopping: `lxm` and `systemctl` are equal citizens.

use std::time::Duration;

use crate::Trial;
use crate::host::SystemdHost;
use crate::support::{Guest, eventually};

pub fn trials() -> Vec<Trial> {
    let trial = |name, body| Trial::new(name, &[Guest::Bookworm], body);
    vec![
        trial("lifecycle::lxm_and_systemctl_start_and_stop_the_same_thing", equal_citizens),
        trial("lifecycle::a_failed_start_tells_the_supervisors_reason", a_failed_start_tells_why),
        trial("lifecycle::guests_outlive_restarts_of_the_hosts_services", guests_outlive_services),
        trial("lifecycle::a_reboot_inside_restarts_the_unit", a_reboot_inside),
        trial("lifecycle::a_guest_that_powers_off_has_not_failed", power_off_inside),
        trial("lifecycle::stop_kills_when_asked_and_when_time_is_over", stop_kills),
        trial("lifecycle::a_state_directory_of_its_own_has_transient_units", transient_units),
        trial("lifecycle::a_killed_supervisor_is_replaced", a_killed_supervisor_is_replaced),
        Trial::new("lifecycle::several_are_started_and_stopped_at_once", &[Guest::Busybox], several_at_once),
        Trial::new(
            "lifecycle::guests_of_every_age_boot_and_shut_down_in_order",
            &[Guest::Bookworm, Guest::Trixie, Guest::Sid, Guest::Busybox],
            every_age,
        ),
    ]
}

fn equal_citizens(host: &mut SystemdHost) {
    host.create("web", Guest::Bookworm, "");
    host.shell("lxm start web --wait booted");
    host.wait_active("web");
    assert_eq!(host.state("web"), "running");
    assert!(host.fails(4, "lxm start web").contains("is already running"));
    host.shell("lxm stop web");
    assert_eq!(host.property("web", "ActiveState"), "inactive");

    host.shell("systemctl start lxm@web");
    assert_eq!(host.state("web"), "running");
    let first = host.leader("web");
    host.shell("systemctl restart lxm@web");
    let second = host.leader("web");
    assert_ne!(first, second);
    host.shell("lxm restart web");
    host.wait_active("web");
    assert_ne!(host.leader("web"), second);
    host.shell("systemctl stop lxm@web");
    assert_eq!(host.state("web"), "stopped");
    assert_eq!(host.property("web", "Result"), "success");
    assert!(host.fails(4, "lxm stop web").contains("is not running"));
    // Nothing of ours outside the unit, and no unit left behind by a destroyed container.
    assert_eq!(host.shell("ls -d /sys/fs/cgroup/lxm* 2>/dev/null || true"), "");
}

fn several_at_once(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    host.shell("lxm copy web db mail cache");
    host.shell("lxm start web db mail cache");
    for name in ["web", "db", "mail", "cache"] {
        assert_eq!(host.state(name), "running");
    }
    assert!(host.fails(3, "lxm enable db nobody mail").contains("`nobody`"));
    assert_eq!(host.shell("systemctl is-enabled lxm@db lxm@mail"), "enabled\nenabled");
    // One that is named twice is meant once.
    host.shell("lxm stop -k web db web");
    assert!(host.fails(4, "lxm stop -k mail web").contains("`web`"));
    assert_eq!(host.state("db"), "stopped");
    host.shell("lxm destroy -f web db mail cache");
    assert_eq!(host.shell("systemctl list-units --all --plain --no-legend 'lxm@*'"), "");
}

fn a_failed_start_tells_why(host: &mut SystemdHost) {
    host.create("web", Guest::Bookworm, "");
    host.configure("web", "[boot]\nwait-timeout = \"0s\"\n[[mount]]\nsource = \"/run/missing\"\ntarget = \"/srv\"\n");
    let reason = "/run/missing";
    assert!(host.fails(6, "lxm start web").contains(reason));
    host.fails(1, "systemctl start lxm@web");
    let status = host.try_shell("systemctl status --no-pager lxm@web", Duration::from_secs(20)).stdout;
    assert!(status.contains(reason), "{status}");
    // A wrong configuration is not tried again.
    assert_eq!(host.property("web", "NRestarts"), "0");
    assert_eq!(host.property("web", "ActiveState"), "failed");
    host.shell("mkdir /run/missing");
    host.shell("lxm start web");
    host.wait_active("web");
}

fn guests_outlive_services(host: &mut SystemdHost) {
    host.boot_guest("web", Guest::Bookworm, "");
    let leader = host.leader("web");
    // The bus before machined, which does not connect to a new one by itself.
    let restarts =
        ["daemon-reexec", "daemon-reload", "restart dbus", "restart systemd-machined", "restart systemd-journald"];
    for restart in restarts {
        host.shell(&format!("systemctl {restart}"));
        assert_eq!(host.leader("web"), leader, "after {restart}");
        assert_eq!(host.property("web", "ActiveState"), "active", "after {restart}");
        host.shell("lxm attach web -- true");
    }
    eventually("machined knows it again", Duration::from_secs(10), || {
        host.shell("machinectl list --no-legend").contains("web")
    });
    host.shell("lxm stop web");
}

fn a_reboot_inside(host: &mut SystemdHost) {
    host.boot_guest("web", Guest::Bookworm, "");
    let first = host.leader("web");
    let _ = host.try_shell("lxm attach web -- systemctl reboot", Duration::from_secs(20));
    eventually("the unit has started it again", Duration::from_secs(30), || {
        host.property("web", "NRestarts") == "1" && host.property("web", "ActiveState") == "active"
    });
    assert_ne!(host.leader("web"), first);
    assert_eq!(host.shell("machinectl show -p Leader --value web"), host.leader("web"));
}

fn power_off_inside(host: &mut SystemdHost) {
    host.boot_guest("web", Guest::Bookworm, "");
    let _ = host.try_shell("lxm attach web -- systemctl poweroff", Duration::from_secs(20));
    host.wait_inactive("web");
    // Even before it was ready.
    host.shell("lxm start web");
    host.shell("lxm stop web");
    assert_eq!(host.property("web", "Result"), "success");
    assert_eq!(host.property("web", "NRestarts"), "0");
    assert_eq!(host.shell("machinectl list --no-legend"), "");
}

fn stop_kills(host: &mut SystemdHost) {
    host.create("web", Guest::Bookworm, "--storage dir");
    // A service that cannot be stopped: the shutdown of the guest takes its 90 s.
    let unit = "[Service]\nExecStart=/bin/sh -c \"trap : TERM; while :; do sleep 1; done\"\n\
                [Install]\nWantedBy=multi-user.target\n";
    host.guest_file("web", "etc/systemd/system/stubborn.service", unit);
    host.shell("ln -s ../stubborn.service /var/lib/lxm/web/rootfs/etc/systemd/system/multi-user.target.wants/");
    host.shell("lxm start web --wait booted");
    let told = host.try_shell("lxm stop web -t 1s", Duration::from_secs(60)).ok();
    assert!(told.stderr.contains("was killed"), "{told}");
    assert_eq!(host.property("web", "ActiveState"), "inactive");
    host.shell("lxm start web --wait booted");
    host.shell("lxm stop -k web");
    assert_eq!(host.property("web", "Result"), "success");
}

fn transient_units(host: &mut SystemdHost) {
    host.shell("mkdir -p /srv/own/var/cache/lxm /srv/own/var/lib");
    host.shell("mount --rbind /var/cache/lxm /srv/own/var/cache/lxm");
    host.shell("mkdir /var/lib/lxm/.own && ln -s /var/lib/lxm/.own /srv/own/var/lib/lxm");
    let how = Guest::Bookworm.create_arguments().join(" ");
    host.shell(&format!("LXM_ROOT=/srv/own lxm create web --network none {how}"));
    host.shell("LXM_ROOT=/srv/own lxm start web --wait booted");
    let unit = host.shell("systemctl list-units --plain --no-legend 'lxm-*@web.service'");
    assert!(unit.contains("running"), "{unit}");
    let unit = unit.split_whitespace().next().unwrap();
    assert_eq!(host.shell(&format!("systemctl show -p TasksMax --value {unit}")), "16384");
    assert_eq!(host.shell("lxm list --format json"), "[]");
    host.shell("LXM_ROOT=/srv/own lxm restart web");
    host.shell("LXM_ROOT=/srv/own lxm attach web -- true");
    host.shell("LXM_ROOT=/srv/own lxm stop web");
    assert_eq!(host.shell("systemctl list-units --plain --no-legend 'lxm-*'"), "");
}

fn a_killed_supervisor_is_replaced(host: &mut SystemdHost) {
    host.boot_guest("web", Guest::Bookworm, "");
    let first = host.leader("web");
    host.shell("kill -9 $(systemctl show -p MainPID --value lxm@web)");
    eventually("the unit runs again", Duration::from_secs(30), || {
        host.property("web", "NRestarts") == "1" && host.property("web", "ActiveState") == "active"
    });
    assert_ne!(host.leader("web"), first);
    host.shell("systemctl -M web is-system-running --wait");
    host.shell("lxm stop web");
}

fn every_age(host: &mut SystemdHost) {
    for guest in [Guest::Bookworm, Guest::Trixie, Guest::Sid, Guest::Busybox] {
        let name = format!("{guest:?}").to_lowercase();
        host.boot_guest(&name, guest, "");
        host.wait_active(&name);
        let told = host.try_shell(&format!("lxm stop {name}"), Duration::from_secs(60)).ok();
        assert!(!told.stderr.contains("killed"), "{told}");
        assert_eq!(host.property(&name, "Result"), "success");
    }
}
