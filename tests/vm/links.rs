//! Claims about links that the kernel of the test machines has no drivers for.

use std::time::Duration;

use crate::machine::Machine;

/// The neighbour has an address on the wire, and another one behind VLAN 7.
const NEIGHBOUR: &str = "
    ip netns add lan
    ip link add lan0 type veth peer name lan1 netns lan
    ip link set lan0 up
    ip -n lan link set lan1 up
    ip -n lan address add 192.0.2.1/24 dev lan1
    ip -n lan link add link lan1 name lan7 type vlan id 7
    ip -n lan link set lan7 up
    ip -n lan address add 198.51.100.1/24 dev lan7";

/// macvlan, ipvlan and a link of the host's own, each untagged and in a VLAN.
pub fn of_every_kind(machine: &mut Machine) {
    let script = format!(
        "set -ex
        {NEIGHBOUR}
        lxm create lan -t busybox --network none
        pings() {{ lxm attach lan -- ping -c 1 -W 5 $1; }}
        for kind in macvlan ipvlan physical; do
            lxm config set lan network.eth0.type $kind network.eth0.parent lan0 network.eth0.ipv4 192.0.2.5/24
            lxm start lan
            pings 192.0.2.1
            [ $kind != physical ] || ! ip link show lan0
            lxm restart lan
            pings 192.0.2.1
            lxm stop -k lan
            # It is given back, with its name.
            ip link show lan0
            ip link set lan0 up
            lxm config set lan network.eth0.vlan 7 network.eth0.ipv4 198.51.100.5/24
            lxm start lan
            ip link show lan0
            pings 198.51.100.1
            ! lxm attach lan -- ping -c 1 -W 1 192.0.2.1
            lxm stop -k lan
            lxm config unset lan network.eth0.vlan
        done
        # On a bridge of the host's own, whose other port carries the VLAN with its tag.
        ip link add lanbr type bridge vlan_filtering 1
        ip link set lanbr up
        ip link set lan0 master lanbr
        bridge vlan add dev lan0 vid 7
        # Its address is outside lxmbr0's network, so that it is never to be on that one.
        lxm config set lan network.eth0.type veth network.eth0.bridge lanbr network.eth0.vlan 7
        lxm config unset lan network.eth0.parent
        lxm start lan
        pings 198.51.100.1
        lxm destroy -f lan
        ip link del lanbr
        ip netns del lan"
    );
    machine.try_shell(&script, Duration::from_secs(240)).ok();
}
