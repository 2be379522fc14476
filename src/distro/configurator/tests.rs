//! Small trees in the shapes that distributions, images and firmwares have.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const INTERFACES: (&str, &str) = ("etc/network/interfaces", "auto lo\niface lo inet loopback\niface eth0 inet dhcp\n");
const IFUP: (&str, &str) = ("sbin/ifup", "");

/// What configures a tree of these files; where the text is a `-> TARGET` it is a link.
fn found(init: Init, command: &str, files: &[(&str, &str)]) -> Option<&'static str> {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(target) => symlink(target, path).unwrap(),
            None => fs::write(path, text).unwrap(),
        }
    }
    configurator(&View::open(dir.path()).unwrap(), init, command)
}

fn in_init(init: Init, files: &[(&str, &str)]) -> Option<&'static str> {
    found(init, "/sbin/init", files)
}

#[test]
fn services_that_systemd_starts_and_no_others() {
    let wants = "etc/systemd/system/multi-user.target.wants";
    let unit = "/usr/lib/systemd/system/";
    let link = |name: &str| (format!("{wants}/{name}"), format!("-> {unit}{name}"));
    for (name, whose) in [
        ("systemd-networkd.service", "systemd-networkd"),
        ("NetworkManager.service", "NetworkManager"),
        ("dhcpcd.service", "dhcpcd"),
        ("connman.service", "connman"),
        ("wickedd.service", "wicked"),
        ("network.service", "network scripts"),
    ] {
        let (path, target) = link(name);
        assert_eq!(in_init(Init::Systemd, &[(&path, &target)]), Some(whose), "{name}");
    }
    let (path, target) = link("networking.service");
    assert_eq!(in_init(Init::Systemd, &[(&path, &target), IFUP, INTERFACES]), Some("ifupdown"));
    assert_eq!(in_init(Init::Systemd, &[(&path, &target), IFUP]), None, "it would bring up nothing");
    let (ssh, target) = link("ssh.service");
    let installed = ("usr/lib/systemd/system/systemd-networkd.service", "[Unit]");
    assert_eq!(in_init(Init::Systemd, &[(&ssh, &target), installed]), None, "installed and not enabled");
    // Init scripts of its packages are not what it starts.
    let script = ("etc/rc2.d/S01networking", "-> ../init.d/networking");
    assert_eq!(in_init(Init::Systemd, &[script, IFUP, INTERFACES]), None);
}

#[test]
fn what_generators_enable_is_known_too() {
    let netplan = [("usr/sbin/netplan", ""), ("etc/netplan/50-cloud-init.yaml", "")];
    assert_eq!(in_init(Init::Systemd, &netplan), Some("netplan"));
    assert_eq!(in_init(Init::Systemd, &netplan[..1]), None);
    assert_eq!(in_init(Init::Systemd, &[("usr/bin/cloud-init", "")]), Some("cloud-init"));
    assert_eq!(in_init(Init::Systemd, &[("usr/bin/cloud-init", ""), ("etc/cloud/cloud-init.disabled", "")]), None);
}

#[test]
fn init_scripts_by_the_links_that_start_them() {
    for (files, whose) in [
        (vec![("etc/rcS.d/S12networking", "-> ../init.d/networking"), IFUP, INTERFACES], Some("ifupdown")),
        (vec![("etc/rcS.d/S12networking", "-> ../init.d/networking"), INTERFACES], None),
        (vec![("etc/rc2.d/S01lxm-network", "-> ../init.d/lxm-network")], Some("udhcpc")),
        (vec![("etc/rc2.d/K01dhcpcd", "-> ../init.d/dhcpcd")], None),
        (vec![("etc/rc.d/rc3.d/S10network", "-> ../init.d/network")], Some("network scripts")),
        (vec![("etc/init.d/dhcpcd", "#!/bin/sh")], None),
    ] {
        assert_eq!(in_init(Init::Sysvinit, &files), whose, "{files:?}");
    }
}

#[test]
fn openrc_counts_where_it_is() {
    let inittab = ("etc/inittab", "::sysinit:/sbin/openrc sysinit\n::wait:/sbin/openrc default\n");
    let networking = ("etc/runlevels/boot/networking", "-> /etc/init.d/networking");
    let openrc = ("sbin/openrc", "\x7fELF");
    assert_eq!(in_init(Init::Busybox, &[inittab, networking, openrc, IFUP, INTERFACES]), Some("ifupdown"));
    // Alpine's minirootfs: the table of openrc's package, and no openrc.
    assert_eq!(in_init(Init::Busybox, &[inittab, networking, IFUP, INTERFACES]), None);
    assert_eq!(in_init(Init::Busybox, &[inittab, IFUP]), None);
    for init in [Init::Openrc, Init::Sysvinit, Init::S6] {
        assert_eq!(in_init(init, &[("etc/runlevels/default/dhcpcd", "-> x"), openrc]), Some("dhcpcd"), "{init:?}");
    }
    let netifrc = ("etc/runlevels/default/net.eth0", "-> /etc/init.d/net.eth0");
    let loopback = ("etc/runlevels/boot/net.lo", "-> /etc/init.d/net.lo");
    assert_eq!(in_init(Init::Openrc, &[loopback, openrc]), None);
    assert_eq!(in_init(Init::Openrc, &[loopback, netifrc, openrc]), Some("netifrc"));
}

#[test]
fn scripts_of_busybox_are_read() {
    let rcs = |text| [("etc/inittab", "::sysinit:/etc/init.d/rcS\n"), ("etc/init.d/rcS", text)];
    assert_eq!(in_init(Init::Busybox, &rcs("#!/bin/sh\nudhcpc -i eth0 -b\n")), Some("udhcpc"));
    assert_eq!(in_init(Init::Busybox, &rcs("#!/bin/sh\n# udhcpc would ask\nsyslogd\n")), None);
    assert_eq!(in_init(Init::Busybox, &rcs("#!/bin/sh\nkill $(cat /run/udhcpc.pid)\n")), None);
    let at_the_end = ("etc/inittab", "::shutdown:/sbin/udhcpc\n");
    assert_eq!(in_init(Init::Busybox, &[at_the_end]), None);
    assert_eq!(in_init(Init::Busybox, &rcs("#!/bin/sh\nip addr add 10.0.0.9/24 dev eth0\n")), Some("a script"));
    // No table: this script is busybox' own default.
    assert_eq!(in_init(Init::Busybox, &[("etc/init.d/rcS", "#!/bin/sh\nudhcpc\n")]), Some("udhcpc"));
    let direct = ("etc/inittab", "::respawn:/sbin/udhcpc -f -i eth0\n");
    assert_eq!(in_init(Init::Busybox, &[direct]), Some("udhcpc"));
    // Buildroot's.
    let all = "#!/bin/sh\nfor i in /etc/init.d/S??* ;do\n $i start\ndone\n";
    let mut buildroot = rcs(all).to_vec();
    buildroot.push(("etc/init.d/S40network", "#!/bin/sh\n/sbin/ifup -a\n"));
    assert_eq!(in_init(Init::Busybox, &buildroot), None);
    buildroot.extend([IFUP, INTERFACES]);
    assert_eq!(in_init(Init::Busybox, &buildroot), Some("ifupdown"));
}

#[test]
fn supervisors_of_services_by_their_directories() {
    for (init, path, whose) in [
        (Init::Runit, "etc/runit/runsvdir/default/dhcpcd", "dhcpcd"),
        (Init::Runit, "etc/service/NetworkManager", "NetworkManager"),
        (Init::Runit, "etc/rc2.d/S01lxm-network", "udhcpc"),
        (Init::Dinit, "etc/dinit.d/boot.d/connmand", "connman"),
        (Init::S6, "etc/s6/adminsv/default/contents.d/dhcpcd", "dhcpcd"),
        (Init::Procd, "sbin/netifd", "netifd"),
    ] {
        assert_eq!(in_init(init, &[(path, "-> x")]).or_else(|| in_init(init, &[(path, "")])), Some(whose), "{path}");
        assert_eq!(in_init(init, &[("etc/hostname", "")]), None, "{init:?}");
    }
    assert_eq!(in_init(Init::Finit, &[INTERFACES, IFUP]), Some("ifupdown"));
    assert_eq!(in_init(Init::Finit, &[("etc/finit.d/net.conf", "service udhcpc -f -i eth0\n")]), Some("udhcpc"));
    assert_eq!(in_init(Init::Finit, &[("etc/finit.d/ssh.conf", "service sshd -D\n")]), None);
}

#[test]
fn a_program_configures_nothing_whatever_lies_about() {
    let debian = [("etc/rc2.d/S01networking", "-> x"), IFUP, INTERFACES, ("sbin/dhclient", "")];
    assert_eq!(found(Init::Other, "/usr/sbin/nginx", &debian), None);
    let script = ("entry", "#!/bin/sh\ndhclient eth0\nexec nginx\n");
    assert_eq!(found(Init::Other, "/entry", &[script]), Some("dhclient"));
    // Scripts that call themselves, and endless lists of them, end.
    let itself = ("etc/init.d/S1", "#!/bin/sh\n/etc/init.d/S1\nfor i in /etc/init.d/S*; do $i; done\n");
    assert_eq!(found(Init::Other, "/etc/init.d/S1", &[itself]), None);
}
