//! The Debian package: installed, upgraded, removed and purged as Debian's policy says.

use crate::host::{Installed, SystemdHost};
use crate::support::Guest;
use crate::{Trial, support::eventually};
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    let trial = |name, body| Trial { name, body, guests: &[Guest::Bookworm], installed: Installed::Nothing };
    vec![
        trial("package::an_upgrade_leaves_guests_running", an_upgrade_leaves_guests_running),
        trial("package::removal_and_purge_take_no_container", removal_takes_no_container),
    ]
}

/// Neither a network nor a question is needed.
fn install(host: &SystemdHost, version: &str) {
    // The host was made without manuals.
    host.shell("rm -f /etc/dpkg/dpkg.cfg.d/*mmdebstrap");
    let how = "DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends";
    host.shell(&format!("{how} install /srv/packages/lxm_{version}_*.deb"));
}

fn an_upgrade_leaves_guests_running(host: &mut SystemdHost) {
    install(host, "1");
    assert_eq!(host.shell("dpkg -V lxm"), "");
    assert_eq!(host.shell("systemctl is-enabled lxm.target"), "enabled");
    assert_eq!(host.shell("systemctl is-active lxm.target"), "active");
    assert_eq!(host.shell("systemctl is-enabled lxm-net.service || true"), "disabled");
    assert_eq!(host.shell("id -un lxm-net; stat -c %a /var/lib/lxm"), "lxm-net\n711");
    host.shell("ls /usr/lib/systemd/network/10-lxm.network /usr/lib/NetworkManager/conf.d/10-lxm.conf");
    host.shell("zcat /usr/share/man/man1/lxm.1.gz >/dev/null; bash -n /usr/share/bash-completion/completions/lxm");
    host.boot_guest("web", Guest::Bookworm, "");
    // Where systemd is too old for it, it says nothing of it either.
    let (subgroup, receives) = if host.release() == "bookworm" { ("", "") } else { ("supervisor", "yes") };
    assert_eq!(host.property("web", "DelegateSubgroup"), subgroup);
    assert_eq!(host.property("web", "CoredumpReceive"), receives);
    assert!(!host.shell("systemctl daemon-reload; journalctl -b --no-pager").contains("Unknown key"));
    host.shell("lxm enable web");
    let leader = host.leader("web");
    host.shell("lxm config set web snapshots.schedule daily");
    assert_eq!(host.shell("systemctl is-active lxm-snapshot.timer"), "active");
    host.shell("systemctl start lxm-snapshot.service");
    assert_eq!(host.shell("lxm snapshot list web --format json | grep -c '\"scheduled\": *true'"), "1");

    install(host, "2");
    assert_eq!(host.shell("dpkg-query -W -f '${Version}' lxm"), "2");
    assert_eq!(host.leader("web"), leader);
    assert_eq!(host.property("web", "ActiveState"), "active");
    host.shell("lxm attach web -- true");
    // An admin's decision outlives an upgrade.
    host.shell("systemctl disable lxm.target");
    host.shell("DEBIAN_FRONTEND=noninteractive dpkg -i /srv/packages/lxm_2_*.deb");
    assert_eq!(host.shell("systemctl is-enabled lxm.target || true"), "disabled");
    host.shell("lxm stop web");
    assert_eq!(host.shell("systemctl --failed --plain --no-legend"), "");
}

fn removal_takes_no_container(host: &mut SystemdHost) {
    install(host, "1");
    host.boot_guest("web", Guest::Bookworm, "");
    host.shell("lxm enable web; lxm attach web -- sh -c 'echo kept >/root/file'");
    host.shell("apt-get -q -y remove lxm");
    host.shell("test ! -e /usr/lib/systemd/system/lxm@.service.d");
    assert_eq!(host.shell("machinectl list --no-legend; ls /sys/fs/cgroup/machine.slice | grep lxm || true"), "");
    assert_eq!(host.shell("ls /var/lib/lxm/web/config.toml"), "/var/lib/lxm/web/config.toml");
    let journal = host.shell("journalctl --no-pager -o cat CONTAINER_NAME=web");
    assert!(journal.contains("Powering off."), "it was not shut down in order");

    install(host, "1");
    assert_eq!(host.autostart("web"), "true");
    // As what is enabled is started by its package.
    host.wait_active("web");
    assert_eq!(host.shell("lxm attach web -- cat /root/file"), "kept");

    host.shell("apt-get -q -y purge lxm");
    assert_eq!(host.shell("ls /var/lib/lxm/web/config.toml"), "/var/lib/lxm/web/config.toml");
    host.shell("test -d /var/cache/lxm/images; test ! -e /usr/bin/lxm; test ! -e /usr/share/lxm");
    let left = "find /etc/systemd /var/lib/systemd /run/lxm /var/log/lxm -name '*lxm*' 2>/dev/null || true";
    assert_eq!(host.shell(left), "");

    // The containers are there again with the package, and go when their admin says so.
    install(host, "1");
    host.shell("lxm start web --wait booted; lxm destroy -f web");
    eventually("nothing runs", Duration::from_secs(10), || host.shell("machinectl list --no-legend").is_empty());
}
