//! Guests that boot systemd: what they must start, what they must not, and their network.

use super::network::has_network_configuration;
use super::{Edit, View, units};
use crate::error::Result;

/// Units that make no sense in a container. Most others find that out by their own conditions
/// (a read-only /sys, `ConditionVirtualization=!container`) at no cost.
const MASKED: [&str; 11] = [
    // Look after block devices, which a container has none of.
    "e2scrub_reap.service",
    "e2scrub_all.timer",
    // Saves what a crashed kernel left in the firmware: the host's business.
    "systemd-pstore.service",
    // Load modules into the host's kernel.
    "systemd-modules-load.service",
    "kmod-static-nodes.service",
    // lxm makes /dev and mounts the root file system.
    "systemd-tmpfiles-setup-dev.service",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-remount-fs.service",
    // Devices come from the host. /sys is read-only, but a package's trigger unit may wait for them.
    "systemd-udev-settle.service",
    // Asks for passwords of encrypted disks on the console.
    "systemd-ask-password-console.path",
    // Keeps DHCP leases over a reboot; here the lease server gives the same address anyway.
    "systemd-networkd-persistent-storage.service",
];

/// Generators, run before everything else, that can find nothing in a container: a tenth of the boot.
/// The others read what a guest may have: fstab, init scripts, rc.local, credentials.
const MASKED_GENERATORS: [&str; 8] = [
    // Set up encrypted and verified disks by device-mapper, which no container may use.
    "systemd-cryptsetup-generator",
    "systemd-integritysetup-generator",
    "systemd-veritysetup-generator",
    // Look for partitions, for an image of a hibernated kernel, and at the boot loader's count of tries.
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-bless-boot-generator",
    // The machine's chip, and what its kernel was asked to run.
    "systemd-tpm2-generator",
    "systemd-run-generator",
];

const NETWORK: &str = "\
# Written by lxm: the guest's interface is eth0 whatever it is wired to.
[Match]
Name=eth0

[Network]
DHCP=yes
IPv6AcceptRA=yes
# Addresses that lxm set before init ran.
KeepConfiguration=static

[DHCPv4]
# An address belongs to the interface, whose MAC lxm keeps; a clone has another one.
ClientIdentifier=mac
UseDomains=yes
# It has its name; to be told it again would start a service at every boot.
UseHostname=no

[IPv6AcceptRA]
UseDomains=yes
";

/// Bounds what network-online.target waits for: at boot only a unit that asks for it waits at all.
const WAIT_ONLINE: &str = "\
# Written by lxm: wait for eth0 alone, where there is one, and not for long.
[Unit]
ConditionPathExists=/sys/class/net/eth0
Wants=systemd-resolved.service
After=systemd-resolved.service

[Service]
ExecStart=
ExecStart=/usr/lib/systemd/systemd-networkd-wait-online --interface=eth0 --timeout=15
";

/// Starts the resolver beside the services that need it late or not at all, where its package has
/// all of the boot wait for it: a fifth of the time to multi-user.
///
/// It is ordered before `sysinit.target` and `network.target`, so it must not be in the boot's own
/// transaction: what `OnSuccess=` starts is in another one, and ordered after nothing. After ssh, which
/// needs no names: it takes more of the processors than anything else in the boot.
const RESOLVED_LATE: &str = "\
# Written by lxm: starts the resolver once the network is configured, so that the boot does not wait
# for it. `systemctl mask systemd-resolved` to have none.
[Unit]
Description=Start the resolver beside the other services
After=network.target ssh.service sshd.service
OnSuccess=systemd-resolved.service

[Service]
Type=simple
ExecStart=/bin/true

[Install]
WantedBy=multi-user.target
";

/// For guests that got none at create; units of packages make them at a first boot only, which a
/// container never has.
const SSH_KEYS: &str = "\
# Written by lxm: makes ssh host keys where lxm could not make them at create.
[Unit]
Description=Make missing ssh host keys
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
# ssh.socket comes before basic.target, which a service by default comes after.
DefaultDependencies=no
After=local-fs.target
Before=ssh.service ssh.socket shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=ssh.service ssh.socket
";

/// What every guest with systemd gets when its image is made.
pub(super) fn edits(view: &View) -> Result<Vec<Edit>> {
    let mut edits: Vec<Edit> = MASKED.iter().filter_map(|unit| units::mask(view, unit)).collect();
    edits.extend(MASKED_GENERATORS.iter().filter_map(|generator| units::mask_generator(view, generator)));
    // Started by a generator in containers, but under conditions that changed with systemd 258.
    edits.extend(units::enable(view, "console-getty.service")?);
    // There is no virtual terminal.
    edits.push(Edit::remove("etc/systemd/system/getty.target.wants/getty@tty1.service"));
    // graphical.target, the default as shipped, is one more target to reach.
    edits.push(Edit::link("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target"));
    edits.extend(up_to_date());
    if view.exists("usr/sbin/sshd") {
        edits.push(Edit::write("etc/systemd/system/lxm-ssh-keys.service", SSH_KEYS));
        for wanted_by in ["ssh.service", "ssh.socket"] {
            let link = format!("etc/systemd/system/{wanted_by}.wants/lxm-ssh-keys.service");
            edits.push(Edit::link(link, "/etc/systemd/system/lxm-ssh-keys.service"));
        }
    }
    if view.exists("usr/lib/systemd/systemd-networkd") && !has_network_configuration(view) {
        edits.extend(network(view)?);
    }
    Ok(edits)
}

fn network(view: &View) -> Result<Vec<Edit>> {
    let mut edits = vec![
        Edit::write("etc/systemd/network/50-lxm-eth0.network", NETWORK),
        Edit::write("etc/systemd/system/systemd-networkd-wait-online.service.d/lxm.conf", WAIT_ONLINE),
    ];
    edits.extend(units::enable(view, "systemd-networkd.service")?);
    // Enabled along with networkd: translates a kernel command line and credentials, before any network.
    edits.push(Edit::remove("etc/systemd/system/sysinit.target.wants/systemd-network-generator.service"));
    if view.exists("usr/lib/systemd/systemd-resolved") {
        edits.extend(units::enable(view, "systemd-resolved.service")?);
        for target in ["sysinit", "multi-user"] {
            edits.push(Edit::remove(format!("etc/systemd/system/{target}.target.wants/systemd-resolved.service")));
        }
        let late = "etc/systemd/system/lxm-resolved.service";
        edits.push(Edit::write(late, RESOLVED_LATE));
        edits.push(Edit::link("etc/systemd/system/multi-user.target.wants/lxm-resolved.service", format!("/{late}")));
        edits.push(Edit::link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"));
    }
    Ok(edits)
}

/// Says that /etc and /var match /usr, as they do in a fresh system: else the first boot of every
/// container would rebuild caches (`ConditionNeedsUpdate=`), 100 ms and more.
fn up_to_date() -> [Edit; 2] {
    ["etc/.updated", "var/.updated"].map(|path| Edit::write(path, "# Written by lxm; see systemd-update-done(8).\n"))
}
