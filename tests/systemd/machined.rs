//! What machined's clients can do with a guest.

use std::time::Duration;

use crate::Trial;
use crate::host::SystemdHost;
use crate::support::Guest;

pub fn trials() -> Vec<Trial> {
    let trial = |name, body| Trial::new(name, &[Guest::Bookworm], body);
    vec![
        trial("machined::its_clients_reach_the_guest", clients_reach_the_guest),
        trial("machined::files_are_copied_both_ways", files_are_copied),
        trial("machined::poweroff_reboot_and_terminate_end_a_guest_in_order", ends_in_order),
        trial("machined::a_host_without_it_is_none_the_worse", without_machined),
    ]
}

fn clients_reach_the_guest(host: &mut SystemdHost) {
    host.boot_guest("web", Guest::Bookworm, "");
    let uuid = host.shell("sed -n 's/^uuid = \"\\(.*\\)\"/\\1/p' /var/lib/lxm/web/config.toml").replace('-', "");
    let shown = host.shell("machinectl show web");
    for line in ["Class=container", "Service=lxm", "Unit=lxm@web.service", "State=running", &format!("Id={uuid}")] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
    }
    assert!(host.shell("machinectl list --no-legend").starts_with("web container lxm debian 12"));
    assert!(host.shell("machinectl status --no-pager web").contains("/sbin/init"));
    assert_eq!(host.shell("systemctl -M web is-system-running --wait"), "running");
    assert!(host.shell("journalctl -M web --no-pager").contains("Startup finished"));
    let told = host.try_shell("systemd-run -M web --wait --pipe -q sh -c 'hostname; exit 3'", Duration::from_secs(20));
    assert_eq!((told.status, told.line()), (3, "web"), "{told}");
    host.shell("loginctl -M web list-sessions");
    assert!(host.shell("busctl -M web list --no-pager").contains("org.freedesktop.systemd1"));
    assert!(host.shell("systemd-cgls --no-pager -M web").contains("init.scope"));
    let shell = host.shell("script -qec 'machinectl shell web /bin/sh -c \"id -un; tty\"' /dev/null </dev/null");
    assert!(shell.contains("root") && shell.contains("/dev/pts/"), "{shell}");
    let login = "timeout -k 1 4 script -qec 'machinectl login web' /dev/null </dev/null";
    let login = host.try_shell(login, Duration::from_secs(20));
    assert!(login.stdout.contains("web login:"), "{login}");
    assert_eq!(host.shell("getent passwd vu-web-0 | cut -d: -f1"), "vu-web-0");
}

fn files_are_copied(host: &mut SystemdHost) {
    host.boot_guest("web", Guest::Bookworm, "");
    host.shell("echo there >/root/file; machinectl copy-to web /root/file /root/file");
    assert_eq!(
        host.shell("lxm attach web -- stat -c '%u:%g' /root/file; lxm attach web -- cat /root/file"),
        "0:0\nthere"
    );
    host.shell("lxm attach web -- sh -c 'echo back >/root/other'; machinectl copy-from web /root/other /root/other");
    assert_eq!(host.shell("stat -c '%u:%g' /root/other; cat /root/other"), "0:0\nback");
}

fn ends_in_order(host: &mut SystemdHost) {
    host.boot_guest("web", Guest::Bookworm, "");
    let first = host.leader("web");
    host.shell("machinectl reboot web");
    host.wait_for("it has rebooted", |host| {
        host.property("web", "NRestarts") == "1" && host.property("web", "ActiveState") == "active"
    });
    assert_ne!(host.leader("web"), first);
    host.shell("machinectl poweroff web");
    host.wait_inactive("web");
    host.shell("lxm start web --wait booted");
    host.shell("machinectl terminate web");
    host.wait_inactive("web");
    assert_eq!(host.property("web", "Result"), "success");
    let last = host.shell("journalctl CONTAINER_NAME=web -n 5 -o cat --no-pager");
    assert!(last.contains("Powering off."), "it was not shut down in order:\n{last}");
    assert_eq!(host.shell("machinectl list --no-legend"), "");
}

fn without_machined(host: &mut SystemdHost) {
    // As where the package systemd-container is not installed.
    host.shell(
        "systemctl stop systemd-machined; rm /usr/share/dbus-1/system-services/org.freedesktop.machine1.service \
         /lib/systemd/system/*machined* /lib/systemd/system/*machine1*; systemctl daemon-reload; systemctl reload dbus",
    );
    host.boot_guest("web", Guest::Bookworm, "");
    host.wait_active("web");
    host.shell("lxm restart web");
    host.shell("lxm stop web");
    assert_eq!(host.property("web", "Result"), "success");
    assert!(!host.shell("journalctl -u lxm@web --no-pager").contains("warning:"));
}
