//! Signals to a whole unit, or to a whole machine: the guest gets them beside its supervisor, and is shut down in
//! order all the same.

use std::time::Duration;

use crate::Trial;
use crate::host::SystemdHost;
use crate::support::{Guest, eventually};

pub fn trials() -> Vec<Trial> {
    const GUESTS: &[Guest] = &[Guest::Bookworm, Guest::Trixie, Guest::Busybox];
    vec![
        Trial::new("signals::a_kill_of_the_unit_is_a_shutdown_in_order", GUESTS, kill_is_a_shutdown),
        Trial::new("signals::a_unit_that_is_masked_is_stopped_in_order", &[Guest::Bookworm], masked),
        Trial::new("signals::what_is_for_init_ends_no_supervisor", &[Guest::Busybox], for_init_alone),
    ]
}

/// Whether the last boot of a guest ended with its own power-off.
fn powered_off(host: &SystemdHost, name: &str) -> bool {
    let last = host.shell(&format!("journalctl CONTAINER_NAME={name} -n 4 -o cat --no-pager"));
    ["Powering off.", "Requesting system poweroff", "Requesting system reboot"].iter().any(|said| last.contains(said))
}

fn ends_in_order(host: &SystemdHost, name: &str, command: &str) {
    host.shell(command);
    host.wait_inactive(name);
    eventually(&format!("`{command}` is a shutdown in order"), Duration::from_secs(10), || powered_off(host, name));
    assert_eq!(host.property(name, "Result"), "success", "{command}");
}

fn kill_is_a_shutdown(host: &mut SystemdHost) {
    for guest in [Guest::Bookworm, Guest::Trixie, Guest::Busybox] {
        let name = &format!("{guest:?}").to_lowercase();
        host.create(name, guest, "");
        let mut commands = vec![format!("systemctl kill lxm@{name}"), format!("machinectl kill {name}")];
        if guest != Guest::Busybox {
            // Each of systemd's own, which a command of a guest dies of. (busybox has none for it.)
            commands.extend([format!("systemctl kill -s RTMIN+4 lxm@{name}"), format!("systemctl kill lxm@{name}")]);
        }
        if host.release() == "sid" {
            // From systemd 258 on machined signals what is in the guest alone.
            commands.remove(1);
        }
        for command in commands {
            host.shell(&format!("lxm start {name} --wait booted --timeout 600s"));
            ends_in_order(host, name, &command);
        }
    }
}

fn masked(host: &mut SystemdHost) {
    host.create("web", Guest::Bookworm, "");
    host.shell("lxm start web --wait booted");
    // systemd 252 leaves the drop-in in force; 257 forgets it with the unit, and signals the guest too.
    host.shell("systemctl mask lxm@web");
    let kept = if host.release() == "bookworm" { "mixed" } else { "control-group" };
    assert_eq!(host.property("web", "KillMode"), kept);
    host.shell("systemctl unmask lxm@web");
    ends_in_order(host, "web", "systemctl mask --now lxm@web");
    host.fails(1, "systemctl start lxm@web");
    host.shell("systemctl unmask lxm@web; lxm start web --wait booted");
    ends_in_order(host, "web", "lxm stop web");
}

fn for_init_alone(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    host.shell("lxm start web");
    let supervisor = host.property("web", "MainPID");
    for signal in ["HUP", "USR1", "RTMIN+1", "RTMIN+24"] {
        host.shell(&format!("systemctl kill --kill-who=main -s {signal} lxm@web; lxm attach web -- true"));
    }
    assert_eq!(host.property("web", "MainPID"), supervisor);
    let first = host.leader("web");
    host.shell("systemctl kill --kill-who=main -s RTMIN+5 lxm@web");
    host.wait_for("it has rebooted", |host| {
        host.property("web", "NRestarts") == "1" && host.property("web", "ActiveState") == "active"
    });
    assert_ne!(host.leader("web"), first);
    ends_in_order(host, "web", "systemctl kill --kill-who=main -s PWR lxm@web; true");
}
