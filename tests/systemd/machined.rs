//! What machined's clients can do with a guest; the scenarios of systemd's `TEST-13-NSPAWN.machined.sh` are here.

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
        trial("machined::a_host_without_it_works_as_well", without_machined),
        Trial::new("machined::a_user_of_the_host_registers_nothing", &[Guest::Busybox], users_register_nothing),
        Trial::new("machined::a_crash_of_its_harms_no_guest", &[Guest::Busybox], crashes),
        Trial::new("machined::signals_reach_init_and_nothing_else", &[Guest::Busybox], signals_reach_init),
        trial("machined::a_directory_of_the_host_is_bound", bind),
        Trial::new("machined::status_and_show_take_several", &[Guest::Busybox], several_at_once),
        Trial::new("machined::its_images_are_not_ours", &[Guest::Busybox], images),
        Trial::new("machined::a_machine_of_another_manager_keeps_its_name", &[Guest::Busybox], name_of_another),
        Trial::new("machined::its_other_interface_knows_the_guest", &[Guest::Trixie], varlink),
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

/// `RegisterMachine` of a process, which is in a unit of its own.
fn register(as_whom: &str, name: &str, pid: &str) -> String {
    let manager = "org.freedesktop.machine1 /org/freedesktop/machine1 org.freedesktop.machine1.Manager";
    format!("{as_whom} busctl call {manager} RegisterMachine sayssus '{name}' 0 x container {pid} /")
}

/// CVE-2026-4105 and its kin: names and units by who has no rights, while lxm registers.
fn users_register_nothing(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    let user = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let pid = host.shell("systemd-run -q --unit=idle --uid=65534 sleep 1000; systemctl show -p MainPID --value idle");
    let names = ["web", "..", "a/b", ".host", "x\ny", "lxm@web.service", "-M", "$(id)"];
    let calls: Vec<String> = names.iter().map(|name| register(user, name, &pid)).collect();
    host.shell(&format!("(until [ -e /run/end ]; do {}; done) >/run/told 2>&1 &", calls.join("; ")));
    for _ in 0..5 {
        host.shell("lxm start web");
        host.wait_for("it is known", |host| host.shell("machinectl list --no-legend").starts_with("web container lxm"));
        assert_eq!(host.shell("machinectl show -p Leader --value web"), host.leader("web"));
        host.shell("lxm stop -k web");
        host.wait_for("it is known no more", |host| host.shell("machinectl list --no-legend").is_empty());
    }
    host.shell("touch /run/end");
    let told = host.shell("sort -u /run/told");
    assert!(told.contains("denied") || told.contains("not authorized") || told.contains("authentication"), "{told}");
    // On hosts of systemd 257 and newer there is a socket for it too.
    let socket = "/run/systemd/machine/io.systemd.Machine";
    let call = format!(
        "{user} varlinkctl call {socket} io.systemd.Machine.Register '{{\"name\":\"web\",\"class\":\"container\",\"leader\":{pid}}}'"
    );
    host.shell(&format!("! [ -S {socket} ] || ! {call}"));
    assert_eq!(host.shell("machinectl list --no-legend; systemctl is-active systemd-machined"), "active");
    // The means: the same call of root's is taken.
    host.shell(&register("", "other", &pid));
    assert!(host.shell("machinectl list --no-legend").starts_with("other container x"));
    host.shell("systemctl stop idle");
}

/// It dies while lxm registers.
fn crashes(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    for pause in ["0.00", "0.02", "0.05"] {
        host.shell("systemctl reset-failed systemd-machined; systemctl start systemd-machined");
        host.shell(&format!(
            "(sleep {pause}; systemctl kill -s SEGV systemd-machined) & lxm start web; told=$?; wait; exit $told"
        ));
        host.shell("lxm attach web -- true");
        assert_eq!(host.state("web"), "running");
        host.shell("lxm stop -k web");
    }
    host.shell("systemctl reset-failed systemd-machined; systemctl start systemd-machined; lxm start web");
    host.wait_for("it is known", |host| host.shell("machinectl list --no-legend").starts_with("web container lxm"));
}

/// An init that says which signal has come, and goes on.
const TELLING_INIT: &str = "#!/bin/sh
for signal in INT TRAP 37 38; do trap \"touch /got-$signal\" $signal; done
touch /ready
while :; do sleep 60 & wait $!; done
";

fn signals_reach_init(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "--storage dir");
    host.configure("web", "[boot]\ninit = \"/usr/bin/telling\"\n");
    host.guest_file("web", "usr/bin/telling", TELLING_INIT);
    host.shell("chmod +x /var/lib/lxm/web/rootfs/usr/bin/telling; lxm start web");
    let has = |host: &SystemdHost, file: &str| {
        host.try_shell(&format!("test -e /var/lib/lxm/web/rootfs/{file}"), Duration::from_secs(20)).status == 0
    };
    host.wait_for("its init waits for signals", |host| has(host, "ready"));
    let leader = host.leader("web");
    // From 254 on a reboot is RTMIN+5, and from 258 on machined sends the messages of each manager's own.
    for (verb, signal) in [("poweroff", "38"), ("reboot", "INT"), ("kill --signal=TRAP --kill-whom=leader", "TRAP")] {
        host.shell(&format!("machinectl {verb} web web"));
        host.wait_for(&format!("{verb} is SIG{signal}"), |host| has(host, &format!("got-{signal}")));
    }
    // It has caught all of them, and its supervisor has seen none.
    assert_eq!((host.leader("web"), host.state("web")), (leader, "running".into()));
    assert_eq!(host.shell("machinectl show --value -p State web"), "running");
    assert!(!has(host, "got-37"));
    host.shell("lxm stop -k web");
}

fn several_at_once(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    host.shell("lxm copy web db; lxm start web db");
    for options in ["", "--full", "--quiet --lines=1", "--lines=0 --max-addresses=0", "--output=json"] {
        let status = host.shell(&format!("machinectl status --no-pager {options} web db web"));
        assert_eq!(status.matches("Service: lxm; class container").count(), 3, "{options}: {status}");
    }
    let shown = host.shell("machinectl show --all web db -p Name -p Service -p RootDirectory");
    assert_eq!(shown.matches("Service=lxm").count(), 2, "{shown}");
    // Where it is shown as the host can open it, whatever its storage.
    let root = host.shell("machinectl show --value -p RootDirectory web");
    assert_eq!(host.shell(&format!("test -x {root}/sbin/init && echo there")), "there");
    host.shell("machinectl terminate web db");
    host.wait_inactive("web");
    host.wait_inactive("db");
    assert_eq!(host.shell("machinectl list --no-legend"), "");
}

/// Verbs of machined's images and of nspawn's units, with the name of a container.
fn images(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    host.shell("lxm start web");
    let before = (host.leader("web"), host.shell("cat /var/lib/lxm/web/config.toml; ls /var/lib/lxm/web"));
    assert!(!host.shell("machinectl list-images --no-legend --all").contains("web"));
    for verb in [
        "image-status web",
        "show-image web",
        "clone web other",
        "rename web other",
        "read-only web yes",
        "set-limit web 1G",
        "remove web",
        "start web",
    ] {
        let tried = host.try_shell(&format!("machinectl --no-pager {verb}"), Duration::from_secs(60));
        assert_ne!(tried.status, 0, "{tried}");
    }
    host.shell("machinectl clean --all");
    // To start with the host is the unit's matter, as of every service.
    host.shell("systemctl enable lxm@web");
    assert_eq!(host.autostart("web"), "true");
    host.shell("systemctl disable lxm@web");
    assert_eq!(host.autostart("web"), "false");
    assert_eq!((host.leader("web"), host.shell("cat /var/lib/lxm/web/config.toml; ls /var/lib/lxm/web")), before);
    assert_eq!(host.shell("machinectl list --no-legend | cut -d' ' -f1"), "web");
}

/// As a guest of nspawn's that bears the container's name.
fn name_of_another(host: &mut SystemdHost) {
    host.create("web", Guest::Busybox, "");
    host.shell("systemd-run -q --unit=theirs -p Slice=machine.slice sleep 600");
    let register = "busctl call org.freedesktop.machine1 /org/freedesktop/machine1 org.freedesktop.machine1.Manager \
                    RegisterMachine sayssus web 0 theirs container $(systemctl show -P MainPID theirs) /";
    host.shell(register);
    host.shell("lxm start web");
    let theirs = |host: &SystemdHost| host.shell("machinectl show --value -p Service web");
    assert_eq!(theirs(host), "theirs");
    assert_eq!(host.state("web"), "running");
    let told = host.shell("journalctl -u lxm@web --no-pager -o cat");
    assert!(told.contains("a machine `web` of `theirs` is there"), "{told}");
    host.shell("lxm stop web");
    assert_eq!(theirs(host), "theirs");
    // The name is ours when theirs has ended; a supervisor that was killed is no other manager.
    host.shell("systemctl stop theirs");
    host.wait_for("theirs has gone", |host| host.shell("machinectl list --no-legend").is_empty());
    host.shell("lxm start web");
    assert_eq!(theirs(host), "lxm");
    host.shell("systemctl kill -s KILL lxm@web");
    host.wait_for("its supervisor is replaced", |host| host.property("web", "NRestarts") == "1");
    host.wait_active("web");
    assert_eq!(theirs(host), "lxm");
}

/// `machinectl bind`, which machined refuses for ids that are not the host's, and before systemd 257 for every
/// guest but nspawn's. What is refused leaves the guest as it was.
fn bind(host: &mut SystemdHost) {
    host.shell("mkdir /srv/shown; echo shown >/srv/shown/file");
    host.create("web", Guest::Busybox, "");
    host.create("whole", Guest::Busybox, "--privileged");
    host.shell("lxm start web whole");
    let bind = |name: &str| {
        let bind = format!("machinectl bind --mkdir {name} /srv/shown /mnt/shown");
        host.try_shell(&bind, Duration::from_secs(20))
    };
    bind("web").fails(1).complains("user namespacing");
    if host.release() == "bookworm" {
        bind("whole").fails(1).complains("Operation not supported");
    } else {
        bind("whole").ok();
        assert_eq!(host.shell("lxm attach whole -- cat /mnt/shown/file"), "shown");
    }
    assert_eq!(host.shell("lxm attach web -- sh -c 'ls /mnt; grep -c shown /proc/self/mountinfo || :'"), "0");
}

/// io.systemd.Machine, the interface over varlink that machined has since systemd 257.
fn varlink(host: &mut SystemdHost) {
    host.boot_guest("web", Guest::Trixie, "");
    let socket = "/run/systemd/machine/io.systemd.Machine";
    if host.release() == "bookworm" {
        host.fails(1, &format!("test -e {socket}"));
        return;
    }
    let call = |method: &str, what: &str| {
        let call = format!("varlinkctl --json=short call {socket} io.systemd.Machine.{method} '{what}'");
        host.try_shell(&call, Duration::from_secs(20))
    };
    let listed = call("List", r#"{"name":"web","acquireMetadata":"yes"}"#).ok().json();
    let leader: u64 = host.leader("web").parse().unwrap();
    assert_eq!((&listed["service"], &listed["unit"]), (&"lxm".into(), &"lxm@web.service".into()));
    assert_eq!((&listed["leader"]["pid"], &listed["class"]), (&leader.into(), &"container".into()));
    assert!(listed["OSRelease"].to_string().contains("ID=debian"), "{listed}");
    assert!(listed["UIDShift"].as_u64().is_some_and(|shift| shift >= 524_288), "{listed}");
    assert_eq!(call("List", &format!("{{\"pid\":{{\"pid\":{leader}}}}}")).ok().json()["name"], "web");
    call("List", &format!("{{\"name\":\"other\",\"pid\":{{\"pid\":{leader}}}}}")).fails(1);
    // What it opens is a terminal of the guest's own.
    assert!(call("Open", r#"{"name":"web","mode":"tty"}"#).ok().json()["ptyPath"].to_string().contains("/dev/pts/"));
    call("Kill", r#"{"name":"web","whom":"leader","signal":1}"#).ok();
    host.shell("lxm attach web -- true");
    call("Terminate", r#"{"name":"web"}"#).ok();
    host.wait_inactive("web");
    call("List", r#"{"name":"web"}"#).fails(1);
}
