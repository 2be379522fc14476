//! Killed commands, services that restart in the middle, orders that contradict each other.

use std::time::Duration;

use crate::Trial;
use crate::host::SystemdHost;
use crate::support::{Guest, eventually};

pub fn trials() -> Vec<Trial> {
    let trial = |name, guest, body| Trial::new(name, guest, body);
    vec![
        trial("trouble::the_bus_restarts_in_the_middle", &[Guest::Busybox], the_bus_restarts),
        trial("trouble::a_killed_command_leaves_the_start_to_systemd", &[Guest::Bookworm], a_killed_command),
        trial("trouble::a_killed_machined_knows_its_machines_again", &[Guest::Busybox], a_killed_machined),
        trial("trouble::a_guest_is_registered_with_a_late_machined", &[Guest::Busybox], late_machined),
        trial("trouble::frozen_guests_are_seen_and_stopped", &[Guest::Bookworm], frozen_guests),
        trial("trouble::signals_from_outside_end_a_guest_for_good", &[Guest::Bookworm], signals),
        trial("trouble::restarts_by_hand_have_no_limit", &[Guest::Busybox], restarts_by_hand),
        trial("trouble::containers_may_be_in_another_directory", &[Guest::Busybox], another_directory),
    ]
}

/// At different moments of each verb, with the guest on its way up or down.
fn the_bus_restarts(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    host.shell("lxm start web");
    let meanwhile = |host: &SystemdHost, pause: u32, verb: &str| {
        // The start limits of the bus, and of what ends with it, are not what is tried here.
        let reset = "systemctl reset-failed dbus systemd-logind systemd-machined";
        let restart = format!("sleep 0.0{pause}; {reset}; systemctl restart dbus");
        host.shell(&format!("({restart}) & lxm {verb} web; told=$?; wait; exit $told"));
    };
    for pause in [1, 3, 5] {
        meanwhile(host, pause, "restart");
        assert_eq!(host.state("web"), "running");
        meanwhile(host, pause, "stop");
        assert_eq!((host.state("web"), host.property("web", "Result")), ("stopped".into(), "success".into()));
        meanwhile(host, pause, "start");
        assert_eq!(host.state("web"), "running");
        // A machined that was just being started when its bus went never comes, and is started again as an
        // admin would; then the guest is registered again.
        let list = "timeout 2 machinectl list --no-legend || systemctl restart systemd-machined";
        eventually("it is known", Duration::from_secs(60), || host.shell(list).starts_with("web "));
    }
    assert_eq!(host.shell("systemctl --failed --plain --no-legend"), "");
}

fn a_killed_command(host: &mut SystemdHost) {
    host.create("web", Guest::Bookworm, "");
    for pause in ["0.01", "0.03", "0.1"] {
        // It may have done its work already.
        host.shell(&format!("lxm start web & sleep {pause}; kill -9 $! || true"));
        // Before systemd was asked it has not begun.
        if host.property("web", "ActiveState") == "inactive" {
            continue;
        }
        host.wait_active("web");
        host.shell("lxm attach web -- true; lxm stop web");
    }
    // Of two at the same time one starts it, and the other says so.
    let told = host.shell("lxm start web & first=$!; lxm start web; second=$?; wait $first; echo $(($? + second))");
    assert_eq!((told.as_str(), host.state("web").as_str()), ("4", "running"));
    host.shell("systemctl stop lxm@web & lxm stop web; wait");
    assert_eq!(host.state("web"), "stopped");
    // The operation lock of a killed command is free.
    host.shell("lxm start web --wait booted & sleep 0.2; kill -9 $!; lxm stop web");
    assert_eq!(host.property("web", "Result"), "success");
}

fn a_killed_machined(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    host.shell("lxm start web; systemctl kill -s KILL systemd-machined");
    // While it is down machinectl fails: it is started again by who asks.
    let list = |host: &SystemdHost| host.try_shell("machinectl list --no-legend", Duration::from_secs(30));
    eventually("it is known", Duration::from_secs(30), || {
        let told = list(host);
        told.status == 0 && told.stdout.starts_with("web ")
    });
    // It does not run when the guest ends: nothing waits for it, and nothing of the guest is left there.
    host.shell("systemctl kill -s KILL systemd-machined; systemctl stop systemd-machined");
    let stopped = host.try_shell("lxm stop web", Duration::from_secs(20)).ok();
    assert!(stopped.took < Duration::from_secs(4), "{stopped}");
    // The next machined reads of it in the files of the killed one, and sees that it is gone.
    eventually("it is forgotten", Duration::from_secs(30), || {
        let told = list(host);
        told.status == 0 && told.stdout.trim().is_empty()
    });
    assert!(!host.shell("journalctl -u lxm@web --no-pager").contains("warning:"));
}

fn late_machined(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    let dir = "/run/systemd/system/systemd-machined.service.d";
    host.shell(&format!("mkdir -p {dir}; printf '[Service]\\nExecStartPre=sleep 7\\n' > {dir}/late.conf"));
    host.shell("systemctl daemon-reload; systemctl stop systemd-machined; lxm start web");
    let journal = "journalctl -u lxm@web --no-pager";
    assert!(host.shell(journal).contains("warning: register with systemd-machined"));
    eventually("it is registered", Duration::from_secs(30), || host.shell(journal).contains("at last"));
    assert!(host.shell("machinectl list --no-legend").starts_with("web "));
    host.shell("lxm stop web");
    assert_eq!(host.shell("machinectl list --no-legend"), "");
}

fn frozen_guests(host: &mut SystemdHost) {
    host.boot_guest("web", Guest::Bookworm, "");
    // systemd freezes the supervisor too: no command may wait for it.
    host.shell("systemctl freeze lxm@web");
    assert_eq!(host.state("web"), "frozen");
    assert!(host.fails(125, "lxm attach web -- true").contains("is frozen"));
    host.shell("systemctl thaw lxm@web");
    host.shell("lxm attach web -- true");
    host.shell("lxm freeze web");
    assert_eq!(host.state("web"), "frozen");
    assert_eq!(host.property("web", "ActiveState"), "active");
    // A stop thaws it first, so that it shuts down in order.
    let stopped = host.try_shell("systemctl stop lxm@web", Duration::from_secs(30)).ok();
    assert!(stopped.took < Duration::from_secs(20), "{stopped}");
    assert!(host.shell("journalctl CONTAINER_NAME=web -o cat --no-pager").contains("Powering off."));
    assert_eq!(host.property("web", "Result"), "success");
}

fn signals(host: &mut SystemdHost) {
    host.create("web", Guest::Bookworm, "");
    // The last one is to the guest's init alone, the others are requests to stop.
    let signals = [
        "systemctl kill -s TERM --kill-who=main lxm@web",
        "machinectl kill --kill-whom=leader -s RTMIN+4 web || machinectl kill --kill-who=leader -s RTMIN+4 web",
        "lxm kill -s KILL web",
    ];
    for signal in signals {
        host.shell("lxm start web --wait booted");
        host.shell(signal);
        host.wait_inactive("web");
        assert_eq!((host.property("web", "Result"), host.property("web", "NRestarts")), ("success".into(), "0".into()));
    }
}

fn restarts_by_hand(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    host.shell("lxm start web; for i in $(seq 12); do lxm -q restart web || exit 1; done");
    assert_eq!(host.property("web", "ActiveState"), "active");
}

fn another_directory(host: &mut SystemdHost) {
    // An overlay cannot be on the host's own, so it is on the disk of the containers.
    host.shell("mkdir -p /etc/lxm /var/lib/lxm/.other; echo 'path = \"/var/lib/lxm/.other\"' >/etc/lxm/lxm.toml");
    host.create("web", Guest::Busybox, "");
    host.shell("lxm start web");
    assert_eq!(host.property("web", "ActiveState"), "active");
    assert!(host.property("web", "RequiresMountsFor").contains("/var/lib/lxm/.other/web"));
    assert_eq!(host.state("web"), "running");
    host.shell("lxm enable web; lxm destroy -f web");
    assert_eq!(host.shell("find /etc/systemd/system -name '*lxm@*'"), "");
    // One that is not there is no success.
    host.fails(1, "systemctl start lxm@web");
    assert!(host.property("web", "StatusText").contains("does not exist"));
}
