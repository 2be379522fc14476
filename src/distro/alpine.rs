//! Alpine Linux: busybox is init, and OpenRC's scripts start the rest.

use super::network::has_network_configuration;
use super::{Edit, View};
use crate::error::Result;

/// Asks for an address in the background once it was not given at once.
const INTERFACES: &str = "\
# Written by lxm.
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet dhcp
";

/// Services that look after hardware, the clock, modules or disks: the host's business.
const REMOVED_FROM_BOOT: [&str; 9] =
    ["hwclock", "hwdrivers", "mdev", "modules", "sysctl-kernel", "modloop", "swap", "fsck", "root"];

pub(super) fn is_alpine(view: &View) -> bool {
    view.exists("etc/alpine-release")
}

pub(super) fn edits(view: &View) -> Result<Vec<Edit>> {
    let inittab = view.text("etc/inittab")?.unwrap_or_default();
    let mut edits = vec![Edit::write("etc/inittab", with_console(&inittab))];
    for level in view.names("etc/runlevels") {
        let dir = format!("etc/runlevels/{level}");
        let removed = REMOVED_FROM_BOOT.iter().filter(|service| view.is_taken(&format!("{dir}/{service}")));
        edits.extend(removed.map(|service| Edit::remove(format!("{dir}/{service}"))));
    }
    // The minirootfs has the table of OpenRC's package and no OpenRC: nobody would read the file.
    if view.exists("sbin/openrc") && !has_network_configuration(view) {
        edits.push(Edit::write("etc/network/interfaces", INTERFACES));
        edits.push(Edit::link("etc/runlevels/boot/networking", "/etc/init.d/networking"));
    }
    Ok(edits)
}

/// A getty on the console in place of those on terminals that no container has.
fn with_console(inittab: &str) -> String {
    const CONSOLE: &str = "console::respawn:/sbin/getty -L 0 console vt220";
    let is_getty = |line: &&str| !line.starts_with('#') && line.contains(":respawn:") && line.contains("getty");
    let kept = inittab.lines().filter(|line| !is_getty(line));
    kept.chain([CONSOLE]).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_getty_is_left_and_it_is_the_consoles() {
        let inittab =
            "::sysinit:/sbin/openrc sysinit\ntty1::respawn:/sbin/getty 38400 tty1\n#ttyS0::respawn:/sbin/getty\n";
        let once = with_console(inittab);
        assert_eq!(
            once,
            "::sysinit:/sbin/openrc sysinit\n#ttyS0::respawn:/sbin/getty\nconsole::respawn:/sbin/getty -L 0 console vt220\n"
        );
        assert_eq!(with_console(&once), once);
    }
}
