//! Claims about the guests' network beside systemd-resolved and firewalld.

use std::time::Duration;

use crate::Trial;
use crate::host::SystemdHost;
use crate::support::{Guest, eventually};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("network::the_host_resolves_the_names_of_guests", &[Guest::Busybox], names),
        Trial::new("network::networkd_with_a_pattern_for_all_leaves_links_alone", &[Guest::Busybox], networkd),
        Trial::new("network::firewalld_trusts_the_bridge_after_every_reload", &[Guest::Busybox], firewalld),
    ]
}

fn start_guest(host: &SystemdHost) -> String {
    host.shell("systemd-sysusers; lxm create -q web -t busybox --network lxmbr0 && lxm start web --wait network");
    let mut address = String::new();
    eventually("it has an address", Duration::from_secs(10), || {
        address = host.shell("lxm info web -i -H | grep -v : | head -1");
        !address.is_empty()
    });
    address
}

fn names(host: &mut SystemdHost) {
    assert_eq!(host.shell("systemctl is-active systemd-resolved"), "active");
    let address = start_guest(host);
    assert!(host.shell("resolvectl domain lxmbr0").contains("~lxm"));
    assert!(host.shell("resolvectl query web.lxm").contains(&address));
    assert!(host.shell(&format!("resolvectl query {address}")).contains("web.lxm"));
    assert_eq!(host.shell("resolvectl default-route lxmbr0").split(": ").last(), Some("no"));
    host.shell("lxm stop -k web");
    let limit = Duration::from_secs(10);
    assert_ne!(host.try_shell("resolvectl --cache=no query web.lxm", limit).status, 0, "the name goes with the guest");
}

fn networkd(host: &mut SystemdHost) {
    start_guest(host);
    // networkd takes links that udev has seen, which does not run on these hosts: this is what it notes.
    host.shell(
        "printf '[Match]\\nName=*\\n[Network]\\nDHCP=yes\\n' >/etc/systemd/network/50-all.network
         ip link add other0 type veth peer name other1; mkdir -p /run/udev/data
         for link in /sys/class/net/*; do echo I:1 >/run/udev/data/n$(cat $link/ifindex); done
         systemctl restart systemd-networkd",
    );
    let state = |link: &str| host.shell(&format!("networkctl list --no-legend {link} | awk '{{print $NF}}'"));
    let is_taken = |link: &str| !["pending", "unmanaged"].contains(&state(link).as_str());
    eventually("the others are networkd's", Duration::from_secs(10), || is_taken("other0"));
    let port = host.shell("ls /sys/class/net/lxmbr0/brif");
    for link in ["lxmbr0", &port] {
        eventually("it is not networkd's", Duration::from_secs(10), || state(link) == "unmanaged");
    }
    host.shell("networkctl reload; networkctl reconfigure other0");
    assert_eq!(host.shell("ls /sys/class/net/lxmbr0/brif"), port);
    assert_ne!(host.shell("ip -4 -brief address show dev lxmbr0 | awk '{print $3}'"), "");
    host.shell("lxm stop -k web; lxm network down; systemctl stop systemd-networkd systemd-networkd.socket; ip link delete other0");
    assert_eq!(host.shell("systemctl --failed --plain --no-legend"), "");
}

fn firewalld(host: &mut SystemdHost) {
    host.shell("rm /etc/systemd/system/firewalld.service; systemctl daemon-reload; systemctl start firewalld");
    let address = start_guest(host);
    assert!(!address.is_empty());
    let zone = || host.try_shell("firewall-cmd --get-zone-of-interface=lxmbr0", Duration::from_secs(10)).stdout;
    eventually("it is trusted", Duration::from_secs(3), || zone().trim() == "trusted");
    // Another machine behind the host.
    host.shell(
        "ip netns add far; ip link add up0 type veth peer name eth0 netns far
         ip address add 192.0.2.1/24 dev up0; ip link set up0 up
         ip -n far address add 192.0.2.9/24 dev eth0; ip -n far link set eth0 up",
    );
    let works = || {
        let ask = "lxm attach web -- sh -c 'ping -c 1 -W 1 192.0.2.9 && nslookup web.lxm'";
        host.try_shell(ask, Duration::from_secs(20)).status == 0
    };
    eventually("names and the outside are reached", Duration::from_secs(5), works);
    for reload in ["firewall-cmd --reload", "systemctl restart firewalld"] {
        host.shell(reload);
        eventually("it is trusted again", Duration::from_secs(3), || zone().trim() == "trusted");
        eventually("names and the outside are reached", Duration::from_secs(5), works);
    }
    host.shell("lxm stop -k web; lxm network down");
    assert_ne!(zone().trim(), "trusted", "nothing of the bridge is left there");
    assert_eq!(host.shell("systemctl --failed --plain --no-legend"), "");
}
