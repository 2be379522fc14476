//! What a guest says of its own network.

use super::view::View;

/// Whether the guest says already how eth0 is to be configured: that is its maker's decision.
pub(super) fn has_network_configuration(view: &View) -> bool {
    let networkd = view.names("etc/systemd/network");
    let netplan = view.names("etc/netplan");
    let interfaces = view.text("etc/network/interfaces").ok().flatten().unwrap_or_default();
    networkd.iter().any(|name| name.ends_with(".network") && !name.contains("lxm"))
        || netplan.iter().any(|name| name.ends_with(".yaml"))
        || interfaces.lines().any(|line| line.trim_start().starts_with("iface eth0"))
        || !view.names("etc/NetworkManager/system-connections").is_empty()
        || view.exists("etc/sysconfig/network-scripts/ifcfg-eth0")
        || view.exists("etc/sysconfig/network/ifcfg-eth0")
}
