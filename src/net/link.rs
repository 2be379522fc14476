//! The links of a guest: made, addressed and taken away by netlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{
    AfSpecBridge, AfSpecInet6, AfSpecUnspec, BridgeVlanInfo, BridgeVlanInfoFlags, In6AddrGenMode, InfoBridge, InfoData,
    InfoKind, InfoVeth, IpVlanMode, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode,
};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::{
    Handle, LinkBridgePort, LinkBridgeVlan, LinkIpVlan, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVlan,
    RouteMessageBuilder,
};

use super::allow::Allowance;
use super::bridge::port::Bridge;
use super::neighbours;
use super::netlink::{delete_link, index_of, link_by_name, name_of};
use super::plan::PlannedInterface;
use crate::error::{Context, Error, Result};
use crate::types::Mac;

/// Where a guest's interface is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Namespaces<'a> {
    /// A socket on the host's side.
    pub host: &'a Handle,
    /// A socket in the guest's network namespace.
    pub guest: &'a Handle,
    /// That namespace.
    pub netns: RawFd,
}

async fn bring_up(guest: &Handle, name: &str) -> Result<()> {
    let up = LinkUnspec::new_with_name(name).up().build();
    guest.link().change(up).execute().await.context(|| format!("bring up `{name}` in the guest"))
}

/// A veth pair on `bridge`, its peer born in the guest under its final name and address.
pub(super) async fn make_veth(
    namespaces: Namespaces<'_>,
    interface: &PlannedInterface,
    host_link: &str,
    full_name: &str,
    bridge: &Bridge,
    group: u32,
) -> Result<u32> {
    neighbours::delete_entries(namespaces.host, bridge.index, |_, mac| mac == interface.mac).await?;
    let mut ours = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
        .name(host_link)
        // A bridge without an address of its own takes the lowest of its ports': this is never it.
        .address([&[0xfe], &interface.mac.0[1..]].concat())
        .link_group(group)
        .controller(bridge.index);
    let mut theirs = LinkMessageBuilder::<LinkUnspec>::new()
        .name(interface.guest.clone())
        .address(interface.mac.0.to_vec())
        .setns_by_fd(namespaces.netns);
    // A bridge takes the smallest MTU of its ports, and with it the host and all others on it: the port
    // is not below the bridge, whatever the guest's end has.
    let mtu = interface.mtu.unwrap_or(bridge.mtu);
    ours = ours.mtu(mtu.max(bridge.mtu));
    theirs = theirs.mtu(mtu);
    let pair = ours.set_info_data(InfoData::Veth(InfoVeth::Peer(theirs.build()))).build();
    add_replacing(namespaces.host, pair, host_link).await?;
    // Not in the message above: a veth refuses to come up before it has a peer (ENOTCONN).
    bring_up(namespaces.guest, &interface.guest).await?;
    let index = index_of(namespaces.host, host_link).await?;
    let macs = PortMacs { own: interface.mac, allowance: &interface.allowance };
    set_up_port(namespaces.host, index, bridge.index, macs, interface.vlan).await?;
    match namespaces.host.link().property_add(index).alt_ifname(&[full_name]).execute().await.map_err(Error::from) {
        // A container of this name elsewhere (`--path`) has it; only the short name must be unique.
        Err(e) if e.errno() == Some(libc::EEXIST) => {}
        result => result.context(|| format!("name the link `{host_link}` `{full_name}`"))?,
    }
    Ok(index)
}

/// Puts a port that is on its bridge into its VLAN, ties it to its guest and brings it up.
pub(super) async fn set_up_port(
    host: &Handle,
    port: u32,
    bridge: u32,
    macs: PortMacs<'_>,
    vlan: Option<u16>,
) -> Result<()> {
    // Before the MAC address is added: the kernel adds it in the VLANs that the port is in then, and a locked
    // port carries frames of known addresses alone.
    if let Some(vlan) = vlan {
        set_access_vlan(host, port, bridge, vlan).await?;
    }
    guard_port(host, port, macs).await
}

/// Tells the rules what the port may do.
pub(super) async fn set_group(host: &Handle, port: u32, group: u32) -> Result<()> {
    let change = LinkUnspec::new_with_index(port).link_group(group).build();
    host.link().change(change).execute().await.context(|| "set the group of the bridge port")
}

/// Takes MAC addresses from a port that were allowed to its guest.
pub(super) async fn untie(host: &Handle, port: u32, macs: &[Mac]) {
    for mac in macs {
        let mut neighbour = host.neighbours().add_bridge(port, &mac.0).flags(NeighbourFlags::Controller);
        let message = std::mem::take(neighbour.message_mut());
        // It went with its port, or is another's by now.
        let _ = host.neighbours().del(message).execute().await;
    }
}

/// Whose frames a port carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortMacs<'a> {
    pub own: Mac,
    pub allowance: &'a Allowance,
}

/// Lets the port carry frames of these MAC addresses alone: others are dropped before they are learned.
async fn guard_port(host: &Handle, port: u32, macs: PortMacs<'_>) -> Result<()> {
    for mac in std::iter::once(&macs.own).chain(&macs.allowance.macs) {
        let neighbour =
            host.neighbours().add_bridge(port, &mac.0).state(NeighbourState::Noarp).flags(NeighbourFlags::Controller);
        neighbour.replace().execute().await.context(|| format!("tie `{mac}` to its bridge port"))?;
    }
    let locked = LinkBridgePort::new(port).locked(!macs.allowance.any_mac);
    // A port has no use for an address of its own, nor for the packets that would find it free. The
    // kernel takes this neither in the message that makes the link nor once it is up.
    let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let quiet = if super::sysctl::has_ipv6() {
        locked.append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![mode]))
    } else {
        locked
    };
    host.link().set_port(quiet.build()).execute().await.context(|| "lock the bridge port to its guest")?;
    let up = LinkUnspec::new_with_index(port).up().build();
    host.link().change(up).execute().await.context(|| "bring up the bridge port")
}

/// The refusal of a VLAN on a bridge that keeps none apart.
pub(super) fn without_vlans(vlan: u16) -> Error {
    Error::host_lacks(format!("vlan {vlan}: the bridge does not filter VLANs"))
        .hint("`ip link set BRIDGE type bridge vlan_filtering 1`, on a kernel with VLAN_8021Q")
}

/// Makes the port an access port of `vlan`.
async fn set_access_vlan(host: &Handle, port: u32, bridge: u32, vlan: u16) -> Result<()> {
    if !filters_vlans(host, bridge).await? {
        return Err(without_vlans(vlan));
    }
    let default = LinkBridgeVlan::new(port)
        .append_af_spec(AfSpecBridge::VlanInfo(BridgeVlanInfo { vid: 1, flags: BridgeVlanInfoFlags::empty() }))
        .build();
    // Absent where the bridge's default VLAN is another one.
    let _ = host.link().del_with_message(default).execute().await;
    let access =
        LinkBridgeVlan::new(port).vlan(vlan, BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged).build();
    host.link().set(access).execute().await.context(|| format!("put the bridge port into vlan {vlan}"))
}

/// Whether a bridge keeps VLANs apart.
pub(super) async fn filters_vlans(host: &Handle, bridge: u32) -> Result<bool> {
    let link = host.link().get().match_index(bridge).execute().try_next().await?;
    let infos = link.iter().flat_map(|link| &link.attributes).filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let filters = |data: &[InfoBridge]| data.iter().any(|option| matches!(option, InfoBridge::VlanFiltering(true)));
    Ok(infos.flatten().any(|info| matches!(info, LinkInfo::Data(InfoData::Bridge(data)) if filters(data))))
}

/// A macvlan of `parent` (in its VLAN where one is given), born in the guest.
pub(super) async fn make_macvlan(
    namespaces: Namespaces<'_>,
    interface: &PlannedInterface,
    parent: &str,
    vlan_link: &str,
) -> Result<()> {
    let base = base_link(namespaces.host, interface, parent, vlan_link).await?;
    let link = LinkMacVlan::new(&interface.guest, base, MacVlanMode::Bridge).address(interface.mac.0.to_vec());
    make_sub_link(namespaces, interface, link, "macvlan", parent).await
}

/// An ipvlan of `parent`: it has its parent's hardware address.
pub(super) async fn make_ipvlan(
    namespaces: Namespaces<'_>,
    interface: &PlannedInterface,
    parent: &str,
    vlan_link: &str,
) -> Result<()> {
    let base = base_link(namespaces.host, interface, parent, vlan_link).await?;
    let link = LinkIpVlan::new(&interface.guest, base, IpVlanMode::L2);
    make_sub_link(namespaces, interface, link, "ipvlan", parent).await
}

/// The VLAN `vlan` of `parent`, with its hardware address.
pub(super) async fn make_vlan(
    namespaces: Namespaces<'_>,
    interface: &PlannedInterface,
    parent: &str,
    vlan: u16,
) -> Result<()> {
    let link = LinkVlan::new(&interface.guest, index_of(namespaces.host, parent).await?, vlan);
    make_sub_link(namespaces, interface, link, "VLAN", parent).await
}

async fn make_sub_link<T>(
    namespaces: Namespaces<'_>,
    interface: &PlannedInterface,
    link: LinkMessageBuilder<T>,
    kind: &str,
    parent: &str,
) -> Result<()> {
    let mut link = link.setns_by_fd(namespaces.netns).up();
    if let Some(mtu) = interface.mtu {
        link = link.mtu(mtu);
    }
    let made = namespaces.host.link().add(link.build()).execute().await;
    made.map_err(|e| unsupported(e.into(), kind)).context(|| format!("make a {kind} of `{parent}`"))
}

async fn base_link(host: &Handle, interface: &PlannedInterface, parent: &str, vlan_link: &str) -> Result<u32> {
    let parent_index = index_of(host, parent).await?;
    let Some(vlan) = interface.vlan else { return Ok(parent_index) };
    let link = LinkVlan::new(vlan_link, parent_index, vlan).up().build();
    let made = add_replacing(host, link, vlan_link).await.map_err(|e| unsupported(e, "VLAN"));
    made.context(|| format!("make vlan {vlan} of `{parent}`"))?;
    index_of(host, vlan_link).await
}

fn unsupported(e: Error, kind: &str) -> Error {
    if e.errno() == Some(libc::EOPNOTSUPP) {
        let module = if kind == "VLAN" { "8021q" } else { kind };
        return e
            .step(format!("this kernel has no {kind} links"))
            .with_kind(crate::error::Kind::HostLacks)
            .hint(format!("try `modprobe {module}`"));
    }
    e
}

/// Adds a link, first deleting what an earlier generation left under its name on the host.
pub(super) async fn add_replacing(host: &Handle, link: LinkMessage, name: &str) -> Result<()> {
    let made = host.link().add(link.clone()).execute().await.map_err(Error::from);
    match made {
        Err(e) if e.errno() == Some(libc::EEXIST) => {
            delete_link(host, name).await?;
            host.link().add(link).execute().await.context(|| format!("make the link `{name}`"))
        }
        result => result.context(|| format!("make the link `{name}`")),
    }
}

/// Moves the host's link `parent` into the guest; an alternative name says from then on which guest has it.
pub(super) async fn move_into_guest(
    namespaces: Namespaces<'_>,
    interface: &PlannedInterface,
    parent: &str,
    full_name: &str,
) -> Result<()> {
    let index = index_of(namespaces.host, parent).await?;
    match namespaces.host.link().property_add(index).alt_ifname(&[full_name]).execute().await.map_err(Error::from) {
        Err(e) if e.errno() == Some(libc::EEXIST) => {}
        result => result.context(|| format!("mark the link `{parent}`"))?,
    }
    let mut into_guest = LinkMessageBuilder::<LinkUnspec>::new()
        .index(index)
        .name(interface.guest.clone())
        .setns_by_fd(namespaces.netns);
    if let Some(mtu) = interface.mtu {
        into_guest = into_guest.mtu(mtu);
    }
    let moved = namespaces.host.link().change(into_guest.build()).execute().await;
    moved.context(|| format!("move the link `{parent}` into the guest"))?;
    bring_up(namespaces.guest, &interface.guest).await
}

/// Moves a link of the host back from the guest's namespace to `home`, under its old name.
pub(super) async fn return_to_host(guest: &Handle, home: RawFd, full_name: &str, old_name: &str) -> Result<()> {
    let Some(link) = link_by_name(guest, full_name).await? else { return Ok(()) };
    let back =
        LinkMessageBuilder::<LinkUnspec>::new().index(link.header.index).name(old_name).setns_by_fd(home).build();
    let moved = guest.link().change(back).execute().await;
    moved.context(|| format!("move the link `{old_name}` back from the guest"))
}

/// Gives a link that the kernel has returned its old name; returns whether it was there.
pub(super) async fn rename_returned(host: &Handle, full_name: &str, old_name: &str) -> Result<bool> {
    let Some(link) = link_by_name(host, full_name).await? else { return Ok(false) };
    let index = link.header.index;
    if name_of(&link) != Some(old_name) {
        // udev gives a link that appears the names that it could have as alternative ones, this one
        // among them; a link cannot have a name twice.
        let _ = host.link().property_del(index).alt_ifname(&[old_name]).execute().await;
        let renamed = LinkMessageBuilder::<LinkUnspec>::new().index(index).name(old_name).build();
        let step = || format!("give the link its name `{old_name}` back");
        host.link().change(renamed).execute().await.context(step)?;
    }
    let unmarked = host.link().property_del(index).alt_ifname(&[full_name]).execute().await;
    unmarked.context(|| format!("unmark the link `{old_name}`"))?;
    Ok(true)
}

/// Sets static addresses and default routes in the guest.
pub(super) async fn address(guest: &Handle, interface: &PlannedInterface) -> Result<()> {
    let index = index_of(guest, &interface.guest).await?;
    for network in &interface.addresses {
        let mut add = guest.address().add(index, network.ip(), network.prefix());
        if network.is_ipv6() {
            // Its owner is known, and a service of the guest may bind it at once.
            add.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        add.execute().await.context(|| format!("set {network} on `{}`", interface.guest))?;
    }
    for gateway in &interface.gateways {
        let mut route = match gateway {
            IpAddr::V4(gateway) => {
                RouteMessageBuilder::<Ipv4Addr>::new().gateway(*gateway).output_interface(index).build()
            }
            IpAddr::V6(gateway) => {
                RouteMessageBuilder::<Ipv6Addr>::new().gateway(*gateway).output_interface(index).build()
            }
        };
        if !reaches(&interface.addresses, *gateway) {
            route.header.flags |= rtnetlink::packet_route::route::RouteFlags::Onlink;
        }
        guest.route().add(route).execute().await.context(|| format!("route by {gateway} in the guest"))?;
    }
    Ok(())
}

/// Whether a neighbour has this address: it is in one of the networks, or link-local.
fn reaches(networks: &[IpNetwork], gateway: IpAddr) -> bool {
    let link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
    link_local || networks.iter().any(|network| network.contains(gateway))
}
