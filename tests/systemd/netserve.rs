//! Claims about the lease and name server as a service: `lxm-net@BRIDGE.service`.

use std::time::Duration;

use crate::Trial;
use crate::host::SystemdHost;
use crate::support::{Guest, eventually};

const UNIT: &str = "lxm-net@lxmbr0.service";

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("netserve::a_killed_server_is_back_without_losing_a_lease", &[], killed),
        Trial::new("netserve::who_has_port_53_is_seen_from_within_the_unit", &[], taken_port),
        Trial::new("netserve::it_ends_after_the_guests_of_a_host_that_shuts_down", &[Guest::Busybox], ends_last),
    ]
}

fn main_pid(host: &SystemdHost) -> String {
    host.shell(&format!("systemctl show -P MainPID {UNIT}"))
}

fn killed(host: &mut SystemdHost) {
    // As the package's installation does.
    host.shell("systemd-sysusers");
    host.shell("lxm network up lxmbr0");
    assert_eq!(host.shell(&format!("systemctl is-active {UNIT}")), "active");
    let first = main_pid(host);
    assert_eq!(host.shell(&format!("ps -o user= -p {first}")), "lxm-net");
    // A client in a network namespace of its own.
    host.shell(
        "ip netns add g; ip link add v type veth peer name eth0 netns g
         ip link set v master lxmbr0 up; ip -n g link set eth0 up",
    );
    let lease = "ip netns exec g busybox udhcpc -i eth0 -n -q -f -s /bin/true 2>&1 | sed -n 's/.*lease of \\([0-9.]*\\) .*/\\1/p'";
    let address = host.shell(lease);
    assert!(!address.is_empty(), "no lease");
    // However often.
    for _ in 0..12 {
        let before = main_pid(host);
        host.shell(&format!("kill -9 {before}"));
        eventually("it is back", Duration::from_secs(10), || {
            let (now, active) =
                (main_pid(host), host.try_shell(&format!("systemctl is-active {UNIT}"), Duration::from_secs(5)));
            active.stdout.trim() == "active" && now != before && now != "0"
        });
    }
    assert_eq!(host.shell(lease), address);
    host.shell("ip netns delete g; ip link delete v 2>/dev/null; lxm network down lxmbr0");
    assert_eq!(
        host.try_shell(&format!("systemctl is-active {UNIT}"), Duration::from_secs(5)).stdout.trim(),
        "inactive"
    );
    assert_eq!(host.shell("systemctl --failed --plain --no-legend"), "");
}

fn taken_port(host: &mut SystemdHost) {
    // Another user's program: to see its descriptors takes a right of its own. resolved has the port
    // on two addresses, which would keep it from all of them.
    host.shell(
        "systemctl stop systemd-resolved; \
         systemd-run -q --unit=squatter -p User=nobody -p AmbientCapabilities=CAP_NET_BIND_SERVICE busybox nc -l -p 53",
    );
    eventually("it has the port", Duration::from_secs(10), || host.shell("ss -Hltnp sport = :53").contains("busybox"));
    host.shell("lxm network up lxmbr0");
    let said = host.shell(&format!("journalctl --no-pager -o cat -u {UNIT}"));
    assert!(
        said.contains("is taken by `busybox` (process ") && said.contains("leases are given all the same"),
        "{said}"
    );
}

/// A guest that needs its bridge's server while it shuts down with the host.
fn ends_last(host: &mut SystemdHost) {
    host.shell("systemd-sysusers");
    host.shell("lxm create -q web -t busybox --storage dir --network lxmbr0; lxm start web --wait network");
    host.shell(
        "lxm attach web -- sh -c 'grep -q nameserver /etc/resolv.conf
         echo \"::shutdown:/bin/sh -c \\\"sleep 2; nslookup web >/said 2>&1\\\"\" >>/etc/inittab; kill -HUP 1; sync'",
    );
    host.reboot();
    let said = host.shell("cat /var/lib/lxm/web/rootfs/said");
    assert!(said.contains("Name:") && !said.contains("timed out"), "its name was not found: {said}");
    let journal = host.shell("journalctl --no-pager -o cat -t systemd");
    let place = |text: &str| journal.find(text).unwrap_or_else(|| panic!("`{text}` is not in the journal\n{journal}"));
    assert!(place("Stopped lxm@web.service") < place("Stopping lxm-net@lxmbr0.service"), "{journal}");
}
