//! Guests that boot with sysvinit's scripts: under sysvinit itself, OpenRC or runit, as Debian has
//! them.

use super::network::has_network_configuration;
use super::{Edit, View};
use crate::config::Init;
use crate::error::Result;

/// An init script (LSB) that brings up eth0 where there is one and never waits for a lease.
const NETWORK_SCRIPT: &str = r#"#!/bin/sh
# Written by lxm: asks for an address on eth0 in the background, so that no boot waits for it.
### BEGIN INIT INFO
# Provides:          lxm-network
# Required-Start:    $local_fs
# Required-Stop:
# Should-Start:
# Default-Start:     2 3 4 5
# Default-Stop:
# X-Start-Before:    $network
# Short-Description: DHCP client on eth0
### END INIT INFO
PIDFILE=/run/udhcpc.eth0.pid
case "$1" in
start|restart|force-reload)
    ip link set lo up
    [ -e /sys/class/net/eth0 ] || exit 0
    [ -e "$PIDFILE" ] && kill "$(cat "$PIDFILE")" 2>/dev/null
    ip link set eth0 up
    # It would take an address away that lxm set before init ran.
    ip -4 address show eth0 | grep -q inet && exit 0
    udhcpc -i eth0 -p "$PIDFILE" -b -t 2 -T 1 -A 5 -S -x "hostname:$(hostname)" >/dev/null 2>&1 &
    ;;
stop)
    [ -e "$PIDFILE" ] && kill "$(cat "$PIDFILE")" 2>/dev/null
    ;;
status)
    [ -e "$PIDFILE" ] && kill -0 "$(cat "$PIDFILE")"
    exit
    ;;
*)
    echo "usage: $0 start|stop|restart|status" >&2
    exit 2
    ;;
esac
exit 0
"#;

/// Scripts that look after hardware, the clock or disks of their own: the host's business.
const REMOVED_FROM_BOOT: [&str; 9] = [
    // Set the host's clock, or try to.
    "hwclock.sh",
    "hwclock",
    // Check and mount disks that a container has none of; unmounting would undo lxm's own mounts.
    "checkroot.sh",
    "checkfs.sh",
    "checkroot-bootclean.sh",
    "umountroot",
    "umountfs",
    // Load modules into, and devices from, the host's kernel.
    "kmod",
    "udev",
];

pub(super) fn edits(view: &View, init: Init) -> Result<Vec<Edit>> {
    let mut edits = Vec::new();
    if let Some(inittab) = view.text("etc/inittab")? {
        edits.push(Edit::write("etc/inittab", with_console(&inittab)));
    }
    if init == Init::Runit {
        edits.extend(runit_console(view));
    }
    for script in REMOVED_FROM_BOOT {
        for (dir, link) in boot_links(view, script) {
            edits.push(Edit::remove(format!("etc/{dir}/{link}")));
        }
    }
    if view.exists("sbin/udhcpc") && !has_network_configuration(view) {
        edits.push(Edit::write("etc/init.d/lxm-network", NETWORK_SCRIPT).mode(0o755));
        for level in 2..=5 {
            edits.push(Edit::link(format!("etc/rc{level}.d/S01lxm-network"), "../init.d/lxm-network"));
        }
        if view.exists("etc/runlevels/default") {
            edits.push(Edit::link("etc/runlevels/default/lxm-network", "/etc/init.d/lxm-network"));
        }
    }
    Ok(edits)
}

/// A getty on the console in place of those on virtual terminals, and a clean end on SIGPWR and
/// SIGINT, which `lxm stop` sends (init(8): `powerwait` and `ctrlaltdel`).
fn with_console(inittab: &str) -> String {
    let own = [
        "# Written by lxm: the console, and what `lxm stop` and a reboot ask for.",
        "lx0:12345:respawn:/sbin/agetty --noclear --keep-baud 115200,38400,9600 console vt220",
        "lx1::powerwait:/sbin/shutdown -h now",
        "lx2:12345:ctrlaltdel:/sbin/shutdown -r now",
    ];
    let replaced = |line: &&str| {
        let action = line.split(':').nth(2).unwrap_or("");
        let getty = action == "respawn" && line.contains("getty");
        !line.starts_with('#')
            && (getty || matches!(action, "powerwait" | "powerfailnow" | "powerokwait" | "ctrlaltdel"))
    };
    let kept = inittab.lines().filter(|line| !replaced(line) && !own.contains(line));
    kept.chain(own).map(|line| format!("{line}\n")).collect()
}

/// runit's gettys are services of their own, one a terminal.
fn runit_console(view: &View) -> Vec<Edit> {
    let run = "#!/bin/sh\n# Written by lxm.\nexec /sbin/agetty --noclear --keep-baud 115200,38400,9600 console vt220\n";
    let mut edits = vec![
        Edit::write("etc/sv/lxm-console/run", run).mode(0o755),
        Edit::link("etc/runit/runsvdir/default/lxm-console", "/etc/sv/lxm-console"),
    ];
    // Its package leaves this to whoever sets up runit, and sysvinit's script then stands back.
    if view.exists("etc/sv/ssh/run") {
        edits.push(Edit::link("etc/runit/runsvdir/default/ssh", "/etc/sv/ssh"));
    }
    // Void Linux's client; Debian's runit has another.
    if view.exists("etc/sv/dhcpcd/run") {
        edits.push(Edit::link("etc/runit/runsvdir/default/dhcpcd", "/etc/sv/dhcpcd"));
    }
    // `lxm stop` makes one of these executable and sends SIGCONT (runit(8)).
    let switches = ["etc/runit/stopit", "etc/runit/reboot"].into_iter().filter(|path| !view.is_taken(path));
    edits.extend(switches.map(|path| Edit::write(path, "").mode(0)));
    for name in view.names("etc/runit/runsvdir/default").iter().filter(|name| is_terminals(name)) {
        edits.push(Edit::remove(format!("etc/runit/runsvdir/default/{name}")));
    }
    edits
}

/// Whether a service is a getty on a terminal that no container has: `getty-tty1` of Debian,
/// `agetty-tty1` of Void Linux.
fn is_terminals(service: &str) -> bool {
    ["getty-tty", "agetty-tty"].iter().any(|prefix| service.starts_with(prefix))
}

/// The links that start or stop `script`: (`rcS.d`, `S05hwclock.sh`), and OpenRC's runlevels.
fn boot_links(view: &View, script: &str) -> Vec<(String, String)> {
    let levels = ["rcS.d", "rc0.d", "rc1.d", "rc2.d", "rc3.d", "rc4.d", "rc5.d", "rc6.d"];
    let sysv = levels.iter().flat_map(|dir| {
        let named = move |name: &String| name.get(3..) == Some(script) && name.starts_with(['S', 'K']);
        view.names(&format!("etc/{dir}")).into_iter().filter(named).map(|name| (dir.to_string(), name))
    });
    let openrc = view.names("etc/runlevels").into_iter().map(|level| format!("runlevels/{level}"));
    let openrc = openrc.filter(|dir| view.is_taken(&format!("etc/{dir}/{script}")));
    sysv.chain(openrc.map(|dir| (dir, script.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inittab_gets_a_console_for_its_terminals_once() {
        let inittab = "id:2:initdefault:\n1:2345:respawn:/sbin/getty 38400 tty1\n#T0:23:respawn:/sbin/getty -L ttyS0\n\
                       ca:12345:ctrlaltdel:/sbin/shutdown -t1 -a -r now\n";
        let once = with_console(inittab);
        assert!(once.starts_with("id:2:initdefault:\n#T0:23:respawn:/sbin/getty -L ttyS0\n# Written by lxm"), "{once}");
        assert_eq!(with_console(&once), once);
        assert_eq!(once.matches("getty").count(), 2);
    }
}
