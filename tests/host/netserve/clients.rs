//! Leases to the clients that distributions use.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Lab, SOON};
use crate::support::sandbox::run_checked;
use crate::support::{Need, Sandbox, Trial, eventually};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("netserve::udhcpc_gets_a_lease_and_renews_it", udhcpc).needs(Need::Tool("udhcpc")),
        Trial::new("netserve::dhclient_gets_a_lease_and_renews_it", dhclient).needs(Need::Tool("dhclient")),
        Trial::new("netserve::dhcpcd_gets_a_lease_and_renews_it", dhcpcd).needs(Need::Tool("dhcpcd")),
        Trial::new("netserve::networkd_gets_a_lease_and_renews_it", networkd).needs(Need::Tool("systemd-run")),
        Trial::new("netserve::a_released_lease_has_ended", released).needs(Need::Tool("udhcpc")),
        Trial::new("netserve::a_client_with_an_address_of_its_own_is_informed", informed).needs(Need::Tool("dhcpcd")),
        Trial::new("netserve::a_client_gets_routes_mtu_domain_and_time", told).needs(Need::Tool("udhcpc")),
        Trial::new("netserve::a_client_from_another_network_is_refused_at_once", stranger)
            .needs(Need::Tool("dhclient")),
    ]
}

/// Runs a client in a guest until it has had its lease renewed, `renew` being how it is told to.
fn renews(sandbox: &Sandbox, script: &str, renew: Option<Signal>) {
    let mut lab = Lab::new(sandbox, "lease-time = \"20s\"");
    lab.known_guest(1);
    let mut client = lab.inside(1, script);
    let mut client = client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("it has a lease", Duration::from_secs(15), || lab.expiry(1).is_some());
    let (first, address) = (lab.expiry(1), lab.leased(1));
    if let Some(signal) = renew {
        // Later, so that the new lease ends later.
        std::thread::sleep(Duration::from_millis(1100));
        kill(Pid::from_raw(client.id() as i32), signal).unwrap();
    }
    eventually("it has renewed it", Duration::from_secs(25), || lab.expiry(1) > first);
    assert_eq!(lab.leased(1), address);
    kill(Pid::from_raw(client.id() as i32), Signal::SIGKILL).unwrap();
    client.wait().unwrap();
}

pub(super) fn udhcpc(sandbox: &Sandbox) {
    renews(sandbox, "exec udhcpc -i eth0 -f -s /bin/true", Some(Signal::SIGUSR1));
}

fn dhclient(sandbox: &Sandbox) {
    let script = "mount -t tmpfs none /var/lib/dhcp; mount -t tmpfs none /run
        printf '#!/bin/sh\\n[ -z \"$new_ip_address\" ] || ip address replace $new_ip_address/24 dev eth0\\n' > /run/hook
        chmod +x /run/hook
        exec dhclient -d -4 -sf /run/hook -pf /run/pid -lf /run/leases eth0";
    renews(sandbox, script, None);
}

fn dhcpcd(sandbox: &Sandbox) {
    let script = "mount -t tmpfs none /run; mkdir -p /var/lib/dhcpcd; mount -t tmpfs none /var/lib/dhcpcd
        exec dhcpcd -B -4 -c /bin/true eth0";
    renews(sandbox, script, None);
}

fn networkd(sandbox: &Sandbox) {
    let script = "mount -t tmpfs none /run; mkdir -p /run/systemd/network /run/systemd/netif
        chown -R systemd-network /run/systemd/netif
        printf '[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\n' > /run/systemd/network/10-eth0.network
        mount -o remount,bind,ro /sys
        container=lxm exec /usr/lib/systemd/systemd-networkd";
    renews(sandbox, script, None);
}

fn released(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "");
    lab.known_guest(1);
    let hook = sandbox.path("hook");
    fs::write(&hook, "#!/bin/sh\n[ \"$1\" != bound ] || ip address replace $ip/$mask dev eth0\n").unwrap();
    run_checked("chmod", &["+x", hook.to_str().unwrap()]);
    let mut client = lab.inside(1, &format!("exec udhcpc -i eth0 -f -R -s {}", hook.display()));
    let mut client = client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Both know of it.
    let shown = || run_checked("ip", &["-n", "g1", "-4", "address", "show", "eth0"]);
    let has_lease = || shown().contains("inet ") && lab.expiry(1).is_some();
    eventually("it has a lease", Duration::from_secs(15), has_lease);
    let address = lab.leased(1);
    kill(Pid::from_raw(client.id() as i32), Signal::SIGTERM).unwrap();
    client.wait().unwrap();
    eventually("it has given it back", SOON, || lab.guest_status(1).is_some_and(|guest| guest.leased.is_none()));
    // It is its own all the same.
    assert_eq!(lab.lease(1), Some(address));
}

fn informed(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "domain = \"lab.lxm\"");
    lab.known_guest(1);
    let script = "mount -t tmpfs none /run; mkdir -p /var/lib/dhcpcd; mount -t tmpfs none /var/lib/dhcpcd
        printf '#!/bin/sh\nenv\n' > /run/hook; chmod +x /run/hook
        ip address add 10.77.3.200/24 dev eth0
        exec timeout 15 dhcpcd -B -4 -1 -d -c /run/hook --inform=10.77.3.200/24 eth0 2>&1";
    let told = lab.run(1, script);
    // The options that everybody gets, and no lease.
    assert!(told.stdout.contains("new_domain_name=lab.lxm"), "{told}");
    assert!(!told.stdout.contains("new_dhcp_lease_time="), "{told}");
    assert_eq!(lab.guest_status(1).and_then(|guest| guest.leased), None);
}

pub(super) fn told(sandbox: &Sandbox) {
    let settings =
        "route = [\"192.168.9.0/25 via 10.77.3.7\"]\nntp = [\"10.77.3.2\"]\nmtu = 1400\ndomain = \"lab.lxm\"";
    let mut lab = Lab::new(sandbox, settings);
    lab.known_guest(1);
    let hook = sandbox.path("tell");
    fs::write(&hook, "#!/bin/sh\n[ \"$1\" = bound ] && env\n").unwrap();
    run_checked("chmod", &["+x", hook.to_str().unwrap()]);
    let asked = "-O staticroutes -O ntpsrv -O mtu -O domain -O broadcast -O lease";
    let told = lab.run(1, &format!("udhcpc -i eth0 -n -q -f -t 4 -T 1 {asked} -s {} || true", hook.display())).ok();
    for fact in [
        "staticroutes=0.0.0.0/0 10.77.3.1 192.168.9.0/25 10.77.3.7",
        "ntpsrv=10.77.3.2",
        "mtu=1400",
        "domain=lab.lxm",
        "dns=10.77.3.1",
        "hostname=guest-1",
        "broadcast=10.77.3.255",
        "lease=3600",
    ] {
        assert!(told.stdout.lines().any(|line| line == fact), "{fact}: {told}");
    }
}

pub(super) fn stranger(sandbox: &Sandbox) {
    let mut lab = Lab::new(sandbox, "");
    lab.known_guest(1);
    // It comes back with an address of the network that it was in before (RFC 2131, INIT-REBOOT).
    let lease = "lease { interface \"eth0\"; fixed-address 10.99.0.5; option subnet-mask 255.255.255.0; \
                 option dhcp-server-identifier 10.99.0.1; renew 4 2037/01/01 00:00:00; \
                 rebind 4 2037/01/02 00:00:00; expire 4 2037/01/03 00:00:00; }";
    let script = format!(
        "mount -t tmpfs none /var/lib/dhcp; mount -t tmpfs none /run
         echo '{lease}' > /run/leases
         dhclient -1 -v -4 -sf /bin/true -pf /run/pid -lf /run/leases eth0 2>&1
         for n in $(seq 100); do [ -s /run/pid ] && break; sleep 0.1; done; kill $(cat /run/pid)"
    );
    // Its child writes the file after the parent has ended.
    let told = lab.run(1, &script).ok();
    assert!(
        told.stdout.contains("DHCPREQUEST for 10.99.0.5") && told.stdout.contains("DHCPNAK from 10.77.3.1"),
        "{told}"
    );
    assert!(told.stdout.contains("bound to 10.77.3."), "{told}");
    assert!(told.took < SOON, "{told}");
}
