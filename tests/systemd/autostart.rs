//! Containers that start and stop with the host.

use std::time::Duration;

use crate::Trial;
use crate::host::SystemdHost;
use crate::support::Guest;
use crate::support::pace::Clock;

pub fn trials() -> Vec<Trial> {
    let trial = |name, body| Trial::new(name, &[Guest::Busybox, Guest::Bookworm], body);
    vec![
        trial("autostart::enable_is_systemctl_enable", enable_is_one_truth),
        trial("autostart::circles_are_refused", circles_are_refused),
        trial("autostart::what_is_mounted_late_is_waited_for", mounts_come_first),
        trial("autostart::what_is_not_there_yet_is_waited_for", late),
        trial("autostart::the_host_boots_and_stops_them_in_order", in_order_with_the_host),
        trial("autostart::who_requires_it_is_stopped_first_and_started_again", requiring),
        trial("autostart::a_failure_is_retried_and_seen", a_failure_is_seen),
        trial("autostart::the_shutdown_of_a_host_has_a_budget", shutdown_has_a_budget),
    ]
}

fn enable_is_one_truth(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    host.shell("lxm enable web");
    assert_eq!(host.shell("systemctl is-enabled lxm@web"), "enabled");
    assert_eq!(host.autostart("web"), "true");
    // The host has not booted since.
    assert_eq!(host.shell("lxm list --columns name,autostart | grep web | tr -s ' '"), "web true");
    assert!(host.shell("lxm boot-report").contains("stopped"));
    host.shell("systemctl disable lxm@web");
    assert_eq!(host.autostart("web"), "false");
    host.shell("systemctl enable lxm@web");
    assert_eq!(host.autostart("web"), "true");
    host.shell("lxm disable web");
    assert_eq!(host.shell("systemctl is-enabled lxm@web || true"), "disabled");
    assert!(host.fails(3, "lxm enable missing").contains("does not exist"));
    host.shell("lxm enable web; lxm destroy web");
    assert_eq!(host.shell("ls /etc/systemd/system/lxm.target.wants/ 2>/dev/null || true"), "");
}

fn circles_are_refused(host: &mut SystemdHost) {
    for name in ["a", "b"] {
        host.create(name, Guest::Busybox, "");
    }
    host.shell("lxm config set a boot.autostart-after b");
    let told = host.fails(6, "lxm config set b boot.requires a");
    assert!(told.contains("cycle"), "{told}");
    assert!(host.shell("systemctl cat lxm@a").contains("After=lxm@b.service"));
    host.shell("lxm config unset a boot.autostart-after; lxm config set b boot.requires a");
    assert!(!host.shell("systemctl cat lxm@a").contains("After=lxm@b.service"));
    assert!(host.shell("systemctl show -p Requires --value lxm@b").contains("lxm@a.service"));
}

/// Monotonic time of a change of a unit, in microseconds.
fn time(host: &SystemdHost, name: &str, what: &str) -> u64 {
    host.property(name, &format!("{what}TimestampMonotonic")).parse().expect("a time is a number")
}

fn mounts_come_first(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    host.shell(
        "mkdir -p /var/disk '/srv/a b'; echo kept >/var/disk/file; cd /etc/systemd/system
         printf '[Mount]\\nWhat=/var/disk\\nWhere=/srv/a b\\nType=none\\nOptions=bind\\n' >'srv-a\\x20b.mount'
         systemctl daemon-reload
         lxm config set web mount.0.source '/srv/a b' mount.0.target /mnt",
    );
    host.shell("lxm start web");
    assert_eq!(host.shell("lxm exec web cat /mnt/file"), "kept");
    host.shell("lxm stop -k web");
}

fn late(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    host.shell("lxm config set web mount.0.source /srv/late mount.0.target /mnt; lxm enable web");
    // Who starts it by hand is told at once.
    assert!(host.fails(6, "lxm start web").contains("/srv/late"));
    assert_eq!(host.property("web", "ActiveState"), "inactive");
    let waits = |host: &SystemdHost| host.property("web", "StatusText").contains("Waits: mount `/srv/late`");
    // The boot's start waits, and can be stopped meanwhile.
    host.reboot();
    host.wait_for("it waits", waits);
    assert_eq!(host.property("web", "ActiveState"), "activating");
    host.shell("systemctl stop lxm@web");
    assert_eq!(
        (host.property("web", "ActiveState"), host.property("web", "Result")),
        ("inactive".into(), "success".into())
    );
    host.shell("systemctl start --no-block lxm@web");
    host.wait_for("it waits", waits);
    host.shell("mkdir /srv/late");
    host.wait_active("web");
    assert!(host.journal().contains("`web` waits for what is not there yet: mount `/srv/late`"));
    // After its limit it is tried again.
    host.shell("lxm stop -k web; rmdir /srv/late; lxm config set web boot.wait-timeout 500ms");
    host.shell("systemctl start --no-block lxm@web");
    host.wait_for("it is tried again", |host| {
        host.property("web", "NRestarts").parse().is_ok_and(|count: u32| count > 1)
    });
    host.shell("mkdir /srv/late");
    host.wait_active("web");
    // A bridge of the host's own.
    host.shell(
        "lxm stop -k web; lxm config set web boot.wait-timeout 1h network.eth0.type veth network.eth0.bridge br9",
    );
    assert!(host.shell("systemctl cat lxm@web").contains("After=network-online.target"));
    assert!(host.fails(3, "lxm start web").contains("no bridge `br9`"));
    host.shell("systemctl start --no-block lxm@web");
    host.wait_for("it waits", |host| host.property("web", "StatusText").contains("no bridge `br9`"));
    host.shell("ip link add br9 type bridge");
    host.wait_active("web");
    host.shell("lxm stop -k web; ip link del br9");
}

fn in_order_with_the_host(host: &mut SystemdHost) {
    // `db` takes a while to be ready: who waits for it waits for that.
    host.create("db", Guest::Bookworm, "--storage dir");
    let unit = "[Unit]\nBefore=multi-user.target\n[Service]\nType=oneshot\nExecStart=sleep 1\n";
    host.guest_file("db", "etc/systemd/system/slow.service", unit);
    host.shell("ln -s ../slow.service /var/lib/lxm/db/rootfs/etc/systemd/system/multi-user.target.wants/");
    for name in ["web", "cache", "mail", "idle"] {
        host.create(name, Guest::Busybox, "");
    }
    host.configure("web", "[boot]\nautostart-after = [\"db\", \"cache\"]\n");
    host.configure("mail", "[boot]\nrequires = [\"db\"]\n");
    for name in ["web", "cache", "mail"] {
        host.shell(&format!("lxm enable {name}"));
    }
    host.reboot();
    for name in ["web", "cache", "mail", "db"] {
        host.wait_active(name);
    }
    assert_eq!(host.state("idle"), "stopped");
    for (earlier, later) in [("db", "web"), ("cache", "web"), ("db", "mail")] {
        let (ready, began) = (time(host, earlier, "ActiveEnter"), time(host, later, "InactiveExit"));
        assert!(ready <= began, "{later} began at {began}, {earlier} was ready at {ready}");
    }
    let (cache, db) = (time(host, "cache", "ActiveEnter"), time(host, "db", "ActiveEnter"));
    assert!(cache < db, "independent containers did not start at the same time");
    let report = host.shell("lxm boot-report --format json");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let names: Vec<&str> = report.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 4, "{report}");
    assert!(report.as_array().unwrap().iter().all(|row| row["state"] == "started"), "{report}");

    // The end of the one is the condition of the other's.
    host.reboot();
    let journal = host.shell("journalctl --no-pager -o cat -t systemd");
    let place = |text: &str| journal.find(text).unwrap_or_else(|| panic!("`{text}` is not in the journal\n{journal}"));
    assert!(place("Stopped lxm@web.service") < place("Stopping lxm@db.service"), "{journal}");
    assert!(place("Stopped lxm@mail.service") < place("Stopping lxm@db.service"), "{journal}");
}

/// `lxm` and `systemctl` mean the same.
fn requiring(host: &mut SystemdHost) {
    for name in ["db", "web", "mail", "free"] {
        host.create(name, Guest::Busybox, "");
    }
    host.shell("lxm config set web boot.requires db; lxm config set mail boot.requires web; lxm start free");
    let leaders = |host: &SystemdHost| ["db", "web", "mail", "free"].map(|name| host.leader(name));
    let run = |host: &SystemdHost| leaders(host).map(|leader| leader != "null");
    for (start, restart, stop) in [
        ("lxm start mail", "lxm restart db", "lxm stop db"),
        ("systemctl start lxm@mail", "systemctl restart lxm@db", "systemctl stop lxm@db"),
        ("lxm start mail db web", "lxm restart db mail", "lxm stop web db"),
    ] {
        host.shell(start);
        assert_eq!(run(host), [true; 4], "{start}");
        let before = leaders(host);
        let told = host.try_shell(restart, Duration::from_secs(60)).ok();
        if restart.starts_with("lxm") {
            let _ = told.complains("`web` requires `db` and is stopped first");
        }
        host.wait_for("they are started again", |host| run(host) == [true; 4]);
        let same: Vec<_> = leaders(host).iter().zip(&before).map(|(now, before)| now == before).collect();
        assert_eq!(same, [false, false, false, true], "{restart}");
        for name in ["web", "mail", "db"] {
            host.wait_active(name);
        }
        host.shell(stop);
        assert_eq!(run(host), [false, false, false, true], "{stop}");
    }
    let journal = host.shell("journalctl --no-pager -o cat -t systemd");
    let last = |text: &str| journal.rfind(text).unwrap_or_else(|| panic!("`{text}` is not in the journal\n{journal}"));
    assert!(last("Stopped lxm@mail.service") < last("Stopping lxm@web.service"), "{journal}");
    assert!(last("Stopped lxm@web.service") < last("Stopping lxm@db.service"), "{journal}");
    host.shell("lxm start mail; lxm stop --all");
    assert_eq!(run(host), [false; 4]);
}

fn a_failure_is_seen(host: &mut SystemdHost) {
    for name in ["good", "bad", "needy"] {
        host.create(name, Guest::Busybox, "--storage dir");
    }
    host.configure("bad", "[boot]\nwait-timeout = \"0s\"\n[[mount]]\nsource = \"/run/missing\"\ntarget = \"/srv\"\n");
    host.configure("needy", "[boot]\nrequires = [\"bad\"]\n");
    host.shell("lxm enable good; lxm enable bad; lxm enable needy");
    host.reboot();
    host.wait_active("good");
    host.wait_for("it has failed", |host| host.property("bad", "ActiveState") == "failed");
    assert_eq!(host.state("needy"), "stopped");
    let report = host.shell("lxm boot-report");
    assert!(report.contains("/run/missing"), "{report}");
    let row = |name: &str| report.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{report}"));
    assert!(row("bad").contains("failed") && row("needy").contains("skipped") && row("good").contains("started"));
    let list = host.shell("lxm list --columns name,autostart");
    for line in ["bad failed", "good true", "needy skipped"] {
        let is_it = |row: &str| row.split_whitespace().eq(line.split(' '));
        assert!(list.lines().any(is_it), "{line} is not in\n{list}");
    }
    // What may pass is tried again: the storage is not there yet, then it is.
    host.shell("systemctl stop lxm@bad; sed -i '/mount/,$d' /var/lib/lxm/bad/config.toml");
    host.shell("mv /var/lib/lxm/bad/rootfs /var/lib/lxm/bad/away");
    host.fails(1, "systemctl start lxm@bad");
    host.shell("mv /var/lib/lxm/bad/away /var/lib/lxm/bad/rootfs");
    host.wait_active("bad");
    assert_ne!(host.property("bad", "NRestarts"), "0");
}

fn shutdown_has_a_budget(host: &mut SystemdHost) {
    host.create("web", Guest::Bookworm, "--storage dir");
    let unit = "[Service]\nExecStart=/bin/sh -c \"trap : TERM; while :; do sleep 1; done\"\nTimeoutStopSec=infinity\n\
                [Install]\nWantedBy=multi-user.target\n";
    host.guest_file("web", "etc/systemd/system/stubborn.service", unit);
    host.shell("ln -s ../stubborn.service /var/lib/lxm/web/rootfs/etc/systemd/system/multi-user.target.wants/");
    host.shell("mkdir -p /etc/lxm; echo 'shutdown-timeout = \"2s\"' >/etc/lxm/lxm.toml");
    host.shell("lxm start web --wait booted");
    let clock = Clock::start();
    host.reboot();
    let took = clock.elapsed();
    assert!(took < Duration::from_secs(20), "the shutdown took {took:?}");
}
