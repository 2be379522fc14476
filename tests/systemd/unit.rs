//! What the container's configuration and its guest say shows in its unit.

use std::time::Duration;

use crate::Trial;
use crate::host::SystemdHost;
use crate::support::Guest;

pub fn trials() -> Vec<Trial> {
    let trial = |name, body| Trial::new(name, &[Guest::Bookworm], body);
    vec![
        trial("unit::limits_and_devices_are_its_properties", limits_are_properties),
        Trial::new("unit::what_the_admin_sets_for_it_holds", &[Guest::Busybox], what_the_admin_sets_holds),
        trial("unit::it_is_active_when_the_guest_is_ready", active_when_ready),
        trial("unit::a_guest_that_never_speaks_is_active_when_it_runs", a_silent_guest),
        trial("unit::a_supervisor_that_hangs_is_replaced", the_watchdog_bites),
        trial("unit::console_and_supervisor_are_in_the_journal", the_journal_has_it),
        Trial::new("unit::credentials_reach_the_guest", &[Guest::Trixie], credentials),
        Trial::new("unit::a_daemon_reload_takes_no_device_away", &[Guest::Busybox], daemon_reload),
        trial("unit::the_preset_starts_nothing", the_preset_starts_nothing),
    ]
}

fn limits_are_properties(host: &mut SystemdHost) {
    host.shell("mknod /dev/lxmtest c 10 229");
    host.create("web", Guest::Bookworm, "");
    host.configure("web", "[limits]\npids = 321\n[[device]]\npath = \"/dev/lxmtest\"\n");
    // Whoever starts it.
    host.shell("systemctl start lxm@web");
    assert_eq!(host.property("web", "TasksMax"), "321");
    assert_eq!(host.property("web", "DevicePolicy"), "closed");
    assert_eq!(host.property("web", "Delegate"), "yes");
    assert_eq!(host.property("web", "Slice"), "machine.slice");
    assert!(host.property("web", "DeviceAllow").contains("/dev/lxmtest rwm"));
    assert_eq!(host.property("web", "NeedDaemonReload"), "no");
    host.shell("lxm attach web -- sh -c ': </dev/lxmtest'");
    host.shell("lxm stop web");
    // What is no longer set is as it was.
    host.shell("sed -i '/^\\[limits\\]/,$d' /var/lib/lxm/web/config.toml");
    host.shell("lxm start web --wait booted");
    assert_eq!(host.property("web", "TasksMax"), "16384");
    assert!(!host.property("web", "DeviceAllow").contains("/dev/lxmtest"));
}

fn what_the_admin_sets_holds(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    // In a drop-in and with set-property, for what lxm sets too and for what it does not set.
    host.shell(
        "mkdir -p /etc/systemd/system/lxm@web.service.d; cd /etc/systemd/system/lxm@web.service.d
         printf '[Service]\nTasksMax=150\n' >mine.conf; systemctl daemon-reload
         lxm config set web limits.pids 300; lxm start web
         systemctl set-property lxm@web CPUWeight=200; systemctl set-property --runtime lxm@web MemoryMax=64M",
    );
    let all = |host: &SystemdHost| ["TasksMax", "CPUWeight", "MemoryMax"].map(|key| host.property("web", key));
    let his = ["150", "200", "67108864"].map(String::from);
    assert_eq!(all(host), his);
    // No change, start or reboot of the guest undoes it.
    for command in ["config set web limits.pids 400", "config unset web limits.pids", "restart web", "stop -k web"] {
        host.shell(&format!("lxm {command}"));
        assert_eq!(all(host), his, "{command}");
    }
    host.shell("lxm start web");
    assert_eq!(all(host), his);
    assert_eq!(host.property("web", "NeedDaemonReload"), "no");
    // It is said, where it is changed and where it is looked for.
    let told = host.try_shell("lxm config set web limits.pids 500", Duration::from_secs(20)).ok();
    let line = "`TasksMax=150` of `/etc/systemd/system/lxm@web.service.d/mine.conf` holds instead of `limits.pids`";
    let told = told.complains(line);
    assert!(!host.shell("lxm config set web description x 2>&1").contains("TasksMax"), "{told}");
    let info = host.shell("lxm info web");
    for line in
        [line, "`MemoryMax=64M` of `/run/systemd/system.control/", "`CPUWeight=200` of `/etc/systemd/system.control/"]
    {
        assert!(info.replace("67108864", "64M").contains(line), "{info}");
    }
    // Ours goes with the container, his does not, and is named.
    let told = host.try_shell("lxm destroy -f web", Duration::from_secs(20)).ok();
    told.complains("mine.conf").complains("50-CPUWeight.conf");
    assert_eq!(host.shell("find /etc/systemd/system /run/systemd -name '*lxm-limits*'"), "");
    host.create("web", Guest::Busybox, "");
    host.shell("lxm start web");
    assert_eq!(all(host), his);
    // Ours holds where he has set nothing, and goes when it is unset.
    host.shell("rm /etc/systemd/system/lxm@web.service.d/mine.conf; lxm config set web limits.pids 300");
    assert_eq!(all(host), ["300", "200", "67108864"]);
    host.shell("lxm config unset web limits.pids");
    assert_eq!(all(host), ["16384", "200", "67108864"]);
}

/// runc#3551, runc#4568: systemd writes the devices of its units anew.
fn daemon_reload(host: &mut SystemdHost) {
    host.shell("mknod /dev/lxmtest c 10 229");
    host.create("web", Guest::Busybox, "--privileged");
    host.configure("web", "[[device]]\npath = \"/dev/lxmtest\"\n");
    host.shell("lxm start web");
    let works = |host: &SystemdHost| {
        let terminal = "lxm attach -t web -- sh -c 'ls -l /proc/self/fd/0; exec 3<>/dev/lxmtest && echo opened'";
        let told = host.shell(&format!("script -qec \"{terminal}\" /dev/null </dev/null"));
        assert!(told.contains("/dev/pts/") && told.contains("opened"), "{told}");
        host.fails(1, "lxm attach web -- mknod /dev/other c 10 237");
        host.shell("lxm attach web -- sh -c 'rm -f /dev/own && mknod /dev/own c 10 229 && : </dev/own'");
    };
    works(host);
    for change in ["daemon-reload", "daemon-reexec", "set-property --runtime lxm@web TasksMax=300"] {
        host.shell(&format!("systemctl {change}"));
        assert_eq!(host.property("web", "NeedDaemonReload"), "no");
        works(host);
    }
}

fn active_when_ready(host: &mut SystemdHost) {
    host.create("web", Guest::Bookworm, "--storage dir");
    let unit = "[Unit]\nBefore=multi-user.target\n[Service]\nType=oneshot\nExecStart=sleep 4\n";
    host.guest_file("web", "etc/systemd/system/slow.service", unit);
    host.shell("ln -s ../slow.service /var/lib/lxm/web/rootfs/etc/systemd/system/multi-user.target.wants/");
    // The command returns when init runs; the unit is active when the guest says so.
    host.shell("lxm start web");
    assert_eq!(host.property("web", "ActiveState"), "activating");
    assert_eq!(host.property("web", "StatusText"), "Guest is booting");
    host.wait_active("web");
    host.shell("lxm attach web -- systemctl is-active slow.service multi-user.target || test $? = 3");
    host.shell("lxm stop web");
    host.configure("web", "[boot]\nready = \"started\"\n");
    host.shell("systemctl start lxm@web");
    assert_eq!(host.property("web", "ActiveState"), "active");
    host.wait_for("the guest still boots", |host| {
        host.shell("systemctl -M web is-active slow.service 2>/dev/null || true") == "activating"
    });
}

fn a_silent_guest(host: &mut SystemdHost) {
    host.create("web", Guest::Bookworm, "--storage dir");
    host.configure("web", "[boot]\ninit = \"/usr/bin/sleepy\"\n");
    host.guest_file("web", "usr/bin/sleepy", "#!/bin/sh\ntrap 'exit 0' TERM\nwhile :; do sleep 1 & wait $!; done\n");
    host.shell("chmod +x /var/lib/lxm/web/rootfs/usr/bin/sleepy");
    host.shell("systemctl start lxm@web");
    assert_eq!(host.property("web", "StatusText"), "Guest is running");
    host.shell("systemctl stop lxm@web");
    assert_eq!(host.property("web", "Result"), "success");
}

fn the_watchdog_bites(host: &mut SystemdHost) {
    host.shell("mkdir -p /etc/systemd/system/lxm@.service.d");
    host.shell(
        "printf '[Service]\\nWatchdogSec=2s\\n' >/etc/systemd/system/lxm@.service.d/x.conf; systemctl daemon-reload",
    );
    host.boot_guest("web", Guest::Bookworm, "");
    host.wait_active("web");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(host.property("web", "NRestarts"), "0", "a healthy supervisor was taken for a dead one");
    host.shell("kill -STOP $(systemctl show -p MainPID --value lxm@web)");
    host.wait_for("it runs again", |host| {
        host.property("web", "NRestarts") == "1" && host.property("web", "ActiveState") == "active"
    });
}

fn the_journal_has_it(host: &mut SystemdHost) {
    host.boot_guest("web", Guest::Bookworm, "--storage dir");
    let lines = host.shell("journalctl CONTAINER_NAME=web -o cat --no-pager");
    assert!(lines.contains("Welcome to Debian GNU/Linux 12 (bookworm)!"), "{lines}");
    assert!(!lines.contains('\u{1b}'), "control sequences are in the journal");
    assert!(host.shell("systemctl status --no-pager -n 50 lxm@web").contains("Reached target"));
    assert!(host.shell("lxm logs web").contains("Debian GNU/Linux 12"));
    let journal = host.shell("lxm logs --journal web");
    assert!(journal.contains("Started lxm@web.service") && journal.contains("Welcome to Debian"), "{journal}");
    // The guest's own journal, by its machine-id.
    let id = host.shell("lxm attach web -- cat /etc/machine-id");
    let own = host.shell(&format!("journalctl -m --no-pager -o cat _MACHINE_ID={id} _PID=1"));
    assert!(own.contains("Startup finished"), "{own}");
    host.shell("lxm stop web");
    assert!(host.shell(&format!("journalctl -m --no-pager -o cat _MACHINE_ID={id}")).contains("Startup finished"));
    host.shell("lxm destroy web");
    assert_eq!(host.shell("find /var/log/journal -type l"), "");
    // On an overlay it is there while the guest runs; one of a guest that ended without notice goes.
    host.shell("ln -s /proc/4194303/root/var/log/journal/x /var/log/journal/0123456789abcdef0123456789abcdef");
    host.boot_guest("over", Guest::Bookworm, "--storage overlay");
    let id = host.shell("lxm attach over -- cat /etc/machine-id");
    assert!(
        host.shell(&format!("journalctl -m --no-pager -o cat _MACHINE_ID={id} _PID=1")).contains("Startup finished")
    );
    host.shell("lxm stop over");
    assert_eq!(host.shell("find /var/log/journal -type l"), "");
}

fn credentials(host: &mut SystemdHost) {
    host.create("web", Guest::Trixie, "--storage dir");
    host.shell("lxm config set web credential.ssh.authorized_keys.root='ssh-ed25519 AAAA key'");
    host.shell("lxm config set web credential.shell.prompt.prefix x");
    host.shell("lxm start web --wait booted");
    assert!(host.shell("lxm attach web -- cat /root/.ssh/authorized_keys").contains("AAAA key"));
    assert!(host.shell("lxm attach web -- systemd-creds --system list").contains("shell.prompt.prefix"));
    assert_eq!(host.shell("lxm attach web -- stat -c %a /run/host/credentials"), "700");
    // One without a name of its own has that of its container (systemd 254 and newer).
    host.shell("lxm attach web -- rm /etc/hostname; lxm restart web; lxm wait web --for booted --timeout 60s");
    assert_eq!(host.shell("lxm attach web -- hostnamectl hostname"), "web");
    assert!(host.shell("lxm attach web -- systemd-creds --system list").contains("system.hostname"));
    host.shell("lxm stop web");
    if host.release() == "bookworm" {
        // What follows is a matter of the guest alone, and takes its time.
        return;
    }
    // The key of a root who logs in is a credential too; the tree of one guest is made
    // the image of another, which is not for other trials to see.
    host.shell(
        "umount /var/cache/lxm/images; rm -r /var/lib/lxm/web/rootfs/root/.ssh; mkdir -p /etc/lxm/templates; cd /etc/lxm/templates
         printf '#!/bin/sh\\ncp -a /var/lib/lxm/web/rootfs/. $1/\\n' >fill; chmod +x fill
         printf 'description = \"x\"\\nbuilder = \"script\"\\nscript = \"fill\"\\nuser = \"root\"\\n' >rooted.toml
         ssh-keygen -q -t ed25519 -N '' -f /root/key; lxm create own -t rooted --storage dir --network none --ssh-key /root/key.pub
         lxm start own --wait booted",
    );
    let key = host.shell("cat /root/key.pub");
    assert!(host.shell("lxm config get own credential.ssh.authorized_keys.root").contains(&key));
    assert_eq!(
        host.shell("lxm attach own -- stat -c %a:%U /root/.ssh/authorized_keys; lxm attach own -- cat /root/.ssh/authorized_keys"),
        format!("600:root\n{key}")
    );
}

fn the_preset_starts_nothing(host: &mut SystemdHost) {
    host.create("web", Guest::Bookworm, "");
    host.shell("systemctl preset lxm.target lxm@web.service lxm-net.service");
    assert_eq!(host.shell("systemctl is-enabled lxm@web.service || true"), "disabled");
    host.shell("systemctl start lxm.target");
    assert_eq!(host.state("web"), "stopped");
}
