//! A guest's links, made between the clone of its leader and the execution of its init.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::unistd::Pid;

use super::announce::{announce, check_reservation};
use super::disconnect::disconnect;
use super::netlink::open_netns;
use super::record::{GuestRecord, LinkRecord, MANAGED_BY_HOST};
use super::{addresses, bridge, exhausted, lease, limit, link, names, netlink, owner, plan, publish, sysctl};
use crate::config::bridge::BridgeSettings;
use crate::config::{Address, Config, NetworkType};
use crate::error::{Context, Result};
use crate::net::bridge::Bridge;
use crate::net::link::Namespaces;
use crate::net::names::Role;
use crate::net::netlink::Netlink;
use crate::net::plan::{LinkKind, PlannedInterface};
use crate::store::Layout;
use crate::types::{ContainerName, IdRange, Mac};

/// One link of a guest that is wired up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestLink {
    /// Its name in the guest.
    pub guest: String,
    /// Its other end on the host, where it has one.
    pub host: Option<String>,
    pub mac: Mac,
}

/// What a start knows of the guest that is wired.
#[derive(Debug, Clone, Copy)]
pub struct GuestSide<'a> {
    pub leader: Pid,
    /// What in its root file system would configure its network; `None` where nothing would.
    pub configurator: Option<&'static str>,
    /// Its root file system, as the host has it mounted with its `ids`, where the host configures a network.
    pub root: Option<BorrowedFd<'a>>,
    pub ids: Option<IdRange>,
}

impl GuestSide<'_> {
    /// Of a guest that configures its network itself.
    pub fn of(leader: Pid) -> Self {
        GuestSide { leader, configurator: Some("guest"), root: None, ids: None }
    }
}

/// Wires a guest up as its configuration asks. The bridge is made if this is
/// its first use; addresses that are static are set when this returns.
///
/// Run it in a short-lived process, after the leader's clone and before its init is executed.
/// On failure nothing of it stays.
pub fn connect(layout: &Layout, name: &ContainerName, config: &Config, guest: GuestSide<'_>) -> Result<Vec<GuestLink>> {
    if config.network.values().any(|network| network.kind == NetworkType::Host) {
        return Ok(Vec::new());
    }
    let mut interfaces = plan::interfaces(name, config, &bridge::default_of(layout, config)?)?;
    for interface in &mut interfaces {
        if let LinkKind::Veth { bridge } = &mut interface.kind {
            *bridge = owner::bridge_name(layout, bridge)?;
        }
    }
    let mut bridges = BTreeMap::new();
    for interface in &interfaces {
        if let LinkKind::Veth { bridge } = &interface.kind
            && !bridges.contains_key(bridge)
        {
            bridges.insert(bridge.clone(), bridge::ensure(layout, bridge)?);
        }
    }
    for interface in &interfaces {
        let step = || format!("`{}`", interface.guest);
        check_reservation(layout, name, config, interface, &bridges).context(step)?;
        if let LinkKind::Veth { bridge } = &interface.kind
            && let Some(settings) = &bridges[bridge].settings
        {
            let ipv4 = config.network[&interface.guest].ipv4;
            addresses::check(layout, interface, ipv4, bridge, settings).context(step)?;
        }
    }
    let record = record_of(layout, name, config, guest, &interfaces, &bridges);
    record.write(layout, name)?;
    announce(layout, name, &record, &bridges)?;
    exhausted::note(layout, name, &record, &bridges)?;
    let netns = open_netns(guest.leader)?;
    let wired = wire_up(layout, name, &interfaces, &bridges, netns.as_fd())
        .and_then(|()| configure(layout, name, &record, &bridges, guest))
        .and_then(|()| {
            let publishes = interfaces.iter().any(|interface| !interface.publish.is_empty());
            if publishes { publish::spawn(layout, name) } else { Ok(()) }
        });
    if let Err(e) = wired {
        // The first failure is the one worth reporting.
        let _ = disconnect(layout, name, &[], Some(netns.as_fd()));
        return Err(e.step(format!("network of `{name}`")));
    }
    let links = record.links.into_iter();
    Ok(links.map(|link| GuestLink { guest: link.guest, host: link.host, mac: link.mac }).collect())
}

/// Does for the guest what nothing in it does.
fn configure(
    layout: &Layout,
    name: &ContainerName,
    record: &GuestRecord,
    bridges: &BTreeMap<String, Bridge>,
    guest: GuestSide<'_>,
) -> Result<()> {
    let Some(root) = guest.root else { return Ok(()) };
    let managed = record.links.iter().filter(|link| link.manager == MANAGED_BY_HOST);
    let settings = managed.filter_map(|link| bridges.get(link.bridge.as_ref()?)?.settings.as_ref());
    let (resolvers, domains): (Vec<_>, Vec<_>) = settings.map(BridgeSettings::resolver).unzip();
    let resolvers: Vec<IpAddr> = resolvers.into_iter().flatten().collect();
    let text = lease::resolv::text(&resolvers, domains.first().copied());
    if let Err(e) = lease::resolv::make(root, guest.ids, &text) {
        // A full or read-only file system: it runs without names.
        crate::sys::log::line(&format!("warning: {e}"));
    }
    if record.links.iter().any(|link| link.lease) { lease::spawn(layout, name, root) } else { Ok(()) }
}

fn record_of(
    layout: &Layout,
    name: &ContainerName,
    config: &Config,
    guest: GuestSide<'_>,
    interfaces: &[PlannedInterface],
    bridges: &BTreeMap<String, Bridge>,
) -> GuestRecord {
    let link_of = |interface: &PlannedInterface| {
        let on_host = |role| names::host_link(layout, name, &interface.guest, role);
        let network = &config.network[&interface.guest];
        let by_host = network.is_managed_by_host(guest.configurator.is_some());
        let manager = if by_host { MANAGED_BY_HOST } else { guest.configurator.unwrap_or("guest") };
        let is_leased = matches!(network.ipv4, Address::Dhcp | Address::Auto | Address::Reserved(_));
        // A bridge of lxm's without IPv4 has nobody who would answer.
        let has_ipv4 = |bridge: &String| bridges[bridge].settings.as_ref().is_none_or(|own| own.ipv4.is_some());
        let mut link = LinkRecord {
            guest: interface.guest.clone(),
            manager: manager.to_owned(),
            lease: by_host && is_leased,
            mac: interface.mac,
            host: None,
            helpers: Vec::new(),
            bridge: None,
            group: None,
            vlan: None,
            reserved: match config.network[&interface.guest].ipv4 {
                Address::Reserved(IpAddr::V4(address)) => Some(address),
                _ => None,
            },
            allowance: interface.allowance.clone(),
            moved: None,
            addresses: interface.addresses.iter().map(|network| network.ip()).collect(),
            publish: interface.publish.clone(),
        };
        match &interface.kind {
            LinkKind::Veth { bridge } => {
                link.lease &= has_ipv4(bridge);
                link.host = Some(on_host(Role::Veth));
                link.bridge = Some(bridge.clone());
                link.group = Some(bridges[bridge].group(interface));
                link.vlan = interface.vlan;
                if interface.egress.is_some() {
                    link.helpers.push(on_host(Role::Shaper));
                }
            }
            LinkKind::Macvlan { .. } | LinkKind::Ipvlan { .. } if interface.vlan.is_some() => {
                link.helpers.push(on_host(Role::Vlan));
            }
            // They go with the guest's namespace.
            LinkKind::Macvlan { .. } | LinkKind::Ipvlan { .. } | LinkKind::Vlan { .. } => {}
            LinkKind::Physical { parent } => link.moved = Some(first_name(parent)),
        }
        link
    };
    GuestRecord { leader: guest.leader.as_raw(), links: interfaces.iter().map(link_of).collect() }
}

/// The name that a link goes back to, where `name` may be an alternative one.
fn first_name(name: &str) -> String {
    let index = nix::net::if_::if_nametoindex(name);
    let first = index.and_then(nix::net::if_::if_indextoname).ok().and_then(|name| name.into_string().ok());
    first.unwrap_or_else(|| name.to_owned())
}

fn wire_up(
    layout: &Layout,
    name: &ContainerName,
    interfaces: &[PlannedInterface],
    bridges: &BTreeMap<String, Bridge>,
    netns: BorrowedFd<'_>,
) -> Result<()> {
    let netlink = Netlink::new()?;
    let (host, guest) = (netlink.open()?, netlink.open_in(netns)?);
    let namespaces = Namespaces { host: &host, guest: &guest, netns: netns.as_raw_fd() };
    netlink.run(make_all(namespaces, layout, name, interfaces, bridges))?;
    for interface in interfaces.iter().filter(|interface| interface.without_ipv6) {
        // /proc/sys/net shows the network namespace of the thread that looks.
        netlink::in_netns(netns, || sysctl::set(&format!("net/ipv6/conf/{}/disable_ipv6", interface.guest), "1"))?;
    }
    Ok(())
}

async fn make_all(
    namespaces: Namespaces<'_>,
    layout: &Layout,
    name: &ContainerName,
    interfaces: &[PlannedInterface],
    bridges: &BTreeMap<String, Bridge>,
) -> Result<()> {
    for interface in interfaces {
        make(namespaces, layout, name, interface, bridges).await.context(|| format!("`{}`", interface.guest))?;
    }
    Ok(())
}

async fn make(
    namespaces: Namespaces<'_>,
    layout: &Layout,
    name: &ContainerName,
    interface: &PlannedInterface,
    bridges: &BTreeMap<String, Bridge>,
) -> Result<()> {
    let full_name = names::full_name(&layout.name_on_bridge(name), &interface.guest);
    let on_host = |role| names::host_link(layout, name, &interface.guest, role);
    let mut interface = interface.clone();
    match &interface.kind {
        LinkKind::Veth { bridge } => {
            let bridge = &bridges[bridge];
            bridge.complete_gateways(&mut interface);
            let host_link = on_host(Role::Veth);
            let group = bridge.group(&interface);
            let port = link::make_veth(namespaces, &interface, &host_link, &full_name, bridge, group).await?;
            if let Some(rate) = interface.ingress {
                limit::limit_into_guest(namespaces.host, port, rate).await?;
            }
            if let Some(rate) = interface.egress {
                limit::limit_out_of_guest(namespaces.host, port, &on_host(Role::Shaper), rate).await?;
            }
        }
        LinkKind::Macvlan { parent } => {
            link::make_macvlan(namespaces, &interface, parent, &on_host(Role::Vlan)).await?
        }
        LinkKind::Ipvlan { parent } => link::make_ipvlan(namespaces, &interface, parent, &on_host(Role::Vlan)).await?,
        LinkKind::Vlan { parent, vlan } => link::make_vlan(namespaces, &interface, parent, *vlan).await?,
        LinkKind::Physical { parent } => link::move_into_guest(namespaces, &interface, parent, &full_name).await?,
    }
    if interface.addresses.is_empty() && interface.gateways.is_empty() {
        return Ok(());
    }
    link::address(namespaces.guest, &interface).await
}
