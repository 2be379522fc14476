//! The network of guests: links, bridges, addresses, rules of the firewall, published ports.
//!
//! All functions block. Those that make or delete links are called in short-lived processes: they
//! build a runtime, and the supervisor must not have one. [`connect`] runs between the clone of a
//! guest's leader and the execution of its init.

mod addresses;
pub mod bridge;
mod check;
mod firewall;
mod groups;
mod limit;
mod link;
pub mod names;
mod neighbours;
mod netlink;
mod observe;
pub mod owner;
mod plan;
pub mod publish;
mod rate;
pub mod reach;
mod record;
mod resolved;
pub mod rules;
pub mod server;
mod sysctl;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::unistd::Pid;

pub use addresses::check_addresses;
pub use check::{Finding, check};
pub use observe::{Addresses, Traffic, addresses, traffic};
pub use plan::mac_of;
pub use record::{GuestRecord, LinkRecord};

use crate::config::bridge::NetworkFile;
use crate::config::{Address, Config, NetworkType};
use crate::error::{Context, Error, Result};
use crate::netserver::GuestEntry;
use crate::store::Layout;
use crate::types::{ContainerName, Mac};
use bridge::Bridge;
use link::Place;
use names::Role;
use netlink::Wire;
use plan::{Interface, Kind};

/// One link of a guest that is wired up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name in the guest.
    pub guest: String,
    /// Its other end on the host, where it has one.
    pub host: Option<String>,
    pub mac: Mac,
}

/// Wires a guest up as its configuration asks. The bridge is made if this is
/// its first use; addresses that are static are set when this returns.
///
/// Run it in a short-lived process, after the leader's clone and before its init is executed.
/// On failure nothing of it stays.
pub fn connect(layout: &Layout, name: &ContainerName, config: &Config, leader: Pid) -> Result<Vec<Link>> {
    if config.network.values().any(|network| network.kind == NetworkType::Host) {
        return Ok(Vec::new());
    }
    let host_config = layout.host_config()?;
    let mut interfaces = plan::interfaces(name, config, bridge::default_name(&host_config))?;
    for interface in &mut interfaces {
        if let Kind::Veth { bridge } = &mut interface.kind {
            *bridge = owner::bridge_name(layout, bridge)?;
        }
    }
    let mut bridges = BTreeMap::new();
    for interface in &interfaces {
        if let Kind::Veth { bridge } = &interface.kind
            && !bridges.contains_key(bridge)
        {
            bridges.insert(bridge.clone(), bridge::ensure(layout, bridge)?);
        }
    }
    for interface in &interfaces {
        let step = || format!("`{}`", interface.guest);
        check_reservation(layout, name, config, interface, &bridges).context(step)?;
        if let Kind::Veth { bridge } = &interface.kind
            && let Some(settings) = &bridges[bridge].settings
        {
            let ipv4 = config.network[&interface.guest].ipv4;
            addresses::check(layout, interface, ipv4, bridge, settings).context(step)?;
        }
    }
    let record = record_of(layout, name, leader, &interfaces);
    record.write(layout, name)?;
    announce(layout, name, config, &record, &bridges)?;
    let netns = open_netns(leader)?;
    let wired = wire_up(layout, name, &interfaces, &bridges, netns.as_fd()).and_then(|()| {
        let publishes = interfaces.iter().any(|interface| !interface.publish.is_empty());
        if publishes { publish::spawn(layout, name) } else { Ok(()) }
    });
    if let Err(e) = wired {
        // The first failure is the one worth reading.
        let _ = disconnect(layout, name, &[], Some(netns.as_fd()));
        return Err(e.step(format!("network of `{name}`")));
    }
    let links = record.links.into_iter();
    Ok(links.map(|link| Link { guest: link.guest, host: link.host, mac: link.mac }).collect())
}

/// Refuses the reservation of an address that no server would lease to this guest, and that nobody
/// would hear of again.
fn check_reservation(
    layout: &Layout,
    name: &ContainerName,
    config: &Config,
    interface: &Interface,
    bridges: &BTreeMap<String, Bridge>,
) -> Result<()> {
    let Address::Reserved(IpAddr::V4(address)) = config.network[&interface.guest].ipv4 else { return Ok(()) };
    let refused = |why: String| {
        let error = Error::config(format!("{address} cannot be leased to it: {why}"));
        Err(error.hint(format!("with a prefix length (`{address}/24`) it is set before the guest boots")))
    };
    let Kind::Veth { bridge } = &interface.kind else {
        return refused("only a bridge of lxm's has a server for that".into());
    };
    let Some(settings) = bridges[bridge].settings.as_ref().filter(|settings| settings.dhcp) else {
        return refused(format!("nobody gives leases on `{bridge}`"));
    };
    let net = settings.ipv4.ok_or_else(|| Error::failed(format!("`{bridge}` has no IPv4 network")))?;
    if !crate::types::subnet::is_for_guests(net, address) {
        return refused(format!("it is none of those of `{bridge}`, which is {net}"));
    }
    // What has a lease is read from a file that may be a moment old; who runs is not.
    let leases = crate::netserver::status(layout, bridge)?.unwrap_or_default().guests;
    let has_it = |guest: &GuestEntry| {
        let is_leased = leases.iter().any(|lease| lease.mac == guest.mac && lease.leased == Some(address));
        is_leased || guest.reserved == Some(address) || guest.addresses.contains(&address.into())
    };
    let own = layout.name_on_bridge(name);
    match crate::netserver::guests_of(layout, bridge)?.into_values().find(|guest| guest.name != own && has_it(guest)) {
        Some(other) => {
            Err(Error::conflict(format!("{address} is the address of container `{}`, which runs", other.name)))
        }
        None => Ok(()),
    }
}

/// Tells the bridges' servers and rules of the guest.
fn announce(
    layout: &Layout,
    name: &ContainerName,
    config: &Config,
    record: &GuestRecord,
    bridges: &BTreeMap<String, Bridge>,
) -> Result<()> {
    let mut holdings = Vec::new();
    for link in &record.links {
        let Some((bridge, made)) = link.bridge.as_ref().and_then(|bridge| bridges.get_key_value(bridge)) else {
            continue;
        };
        let Some(settings) = &made.settings else { continue };
        let reserved = match config.network[&link.guest].ipv4 {
            Address::Reserved(IpAddr::V4(address)) => Some(address),
            _ => None,
        };
        let addresses = link.addresses.clone();
        let entry = GuestEntry { name: layout.name_on_bridge(name), mac: link.mac, reserved, addresses };
        crate::netserver::announce(layout, bridge, &entry)?;
        holdings.extend(rules::holdings(settings, &entry));
    }
    if holdings.is_empty() { Ok(()) } else { rules::give(layout, &holdings) }
}

/// Ends what [`announce`] began.
fn retract(layout: &Layout, name: &ContainerName, links: &[LinkRecord]) -> Result<()> {
    let file = NetworkFile::load(layout)?;
    let mut holdings = Vec::new();
    for link in links {
        let Some(bridge) = &link.bridge else { continue };
        crate::netserver::retract(layout, bridge, link.mac)?;
        let Some(settings) = file.bridge.get(bridge) else { continue };
        let addresses = link.addresses.clone();
        let entry = GuestEntry { name: layout.name_on_bridge(name), mac: link.mac, reserved: None, addresses };
        holdings.extend(rules::holdings(settings, &entry));
    }
    if holdings.is_empty() { Ok(()) } else { rules::take_back(layout, &holdings) }
}

fn record_of(layout: &Layout, name: &ContainerName, leader: Pid, interfaces: &[Interface]) -> GuestRecord {
    let link_of = |interface: &Interface| {
        let on_host = |role| names::host_link(layout, name, &interface.guest, role);
        let mut link = LinkRecord {
            guest: interface.guest.clone(),
            mac: interface.mac,
            host: None,
            helpers: Vec::new(),
            bridge: None,
            lent: None,
            addresses: interface.addresses.iter().map(|network| network.ip()).collect(),
            publish: interface.publish.clone(),
        };
        match &interface.kind {
            Kind::Veth { bridge } => {
                link.host = Some(on_host(Role::Veth));
                link.bridge = Some(bridge.clone());
                if interface.egress.is_some() {
                    link.helpers.push(on_host(Role::Shaper));
                }
            }
            Kind::Macvlan { .. } | Kind::Ipvlan { .. } if interface.vlan.is_some() => {
                link.helpers.push(on_host(Role::Vlan));
            }
            // They go with the guest's namespace.
            Kind::Macvlan { .. } | Kind::Ipvlan { .. } | Kind::Vlan { .. } => {}
            Kind::Physical { parent } => link.lent = Some(first_name(parent)),
        }
        link
    };
    GuestRecord { leader: leader.as_raw(), links: interfaces.iter().map(link_of).collect() }
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
    interfaces: &[Interface],
    bridges: &BTreeMap<String, Bridge>,
    netns: BorrowedFd<'_>,
) -> Result<()> {
    let wire = Wire::new()?;
    let (host, guest) = (wire.open()?, wire.open_in(netns)?);
    let place = Place { host: &host, guest: &guest, netns: netns.as_raw_fd() };
    wire.run(make_all(place, layout, name, interfaces, bridges))?;
    for interface in interfaces.iter().filter(|interface| interface.without_ipv6) {
        // /proc/sys/net shows the network namespace of the thread that looks.
        netlink::in_netns(netns, || sysctl::set(&format!("net/ipv6/conf/{}/disable_ipv6", interface.guest), "1"))?;
    }
    Ok(())
}

async fn make_all(
    place: Place<'_>,
    layout: &Layout,
    name: &ContainerName,
    interfaces: &[Interface],
    bridges: &BTreeMap<String, Bridge>,
) -> Result<()> {
    for interface in interfaces {
        make(place, layout, name, interface, bridges).await.context(|| format!("`{}`", interface.guest))?;
    }
    Ok(())
}

async fn make(
    place: Place<'_>,
    layout: &Layout,
    name: &ContainerName,
    interface: &Interface,
    bridges: &BTreeMap<String, Bridge>,
) -> Result<()> {
    let full_name = names::full_name(&layout.name_on_bridge(name), &interface.guest);
    let on_host = |role| names::host_link(layout, name, &interface.guest, role);
    let mut interface = interface.clone();
    match &interface.kind {
        Kind::Veth { bridge } => {
            let bridge = &bridges[bridge];
            bridge.complete_gateways(&mut interface);
            let host_link = on_host(Role::Veth);
            let group = bridge.group(&interface);
            let port = link::make_veth(place, &interface, &host_link, &full_name, bridge.index, group).await?;
            if let Some(rate) = interface.ingress {
                limit::limit_into_guest(place.host, port, rate).await?;
            }
            if let Some(rate) = interface.egress {
                limit::limit_out_of_guest(place.host, port, &on_host(Role::Shaper), rate).await?;
            }
        }
        Kind::Macvlan { parent } => link::make_macvlan(place, &interface, parent, &on_host(Role::Vlan)).await?,
        Kind::Ipvlan { parent } => link::make_ipvlan(place, &interface, parent, &on_host(Role::Vlan)).await?,
        Kind::Vlan { parent, vlan } => link::make_vlan(place, &interface, parent, *vlan).await?,
        Kind::Physical { parent } => link::lend(place, &interface, parent, &full_name).await?,
    }
    if interface.addresses.is_empty() && interface.gateways.is_empty() {
        return Ok(());
    }
    link::address(place.guest, &interface).await
}

fn open_netns(leader: Pid) -> Result<File> {
    File::open(format!("/proc/{leader}/ns/net")).context(|| "open the guest's network namespace")
}

/// Keeps the guest's network namespace until [`disconnect`], if a link of the host is lent to it.
///
/// A link that is not hardware dies with its namespace, and hardware would come back under whatever
/// name the guest has given it.
pub fn hold(config: &Config, leader: Pid) -> Option<OwnedFd> {
    if config.network.values().all(|network| network.kind != NetworkType::Physical) {
        return None;
    }
    // A guest that is gone already has given its links up.
    open_netns(leader).ok().map(OwnedFd::from)
}

/// Takes a stopped guest's links away; what is gone already is fine.
///
/// `links` are the host's ends that `boot.toml` names, `held` is what [`hold`] gave. Goes on after
/// a failure and returns the first one.
pub fn disconnect(layout: &Layout, name: &ContainerName, links: &[String], held: Option<BorrowedFd<'_>>) -> Result<()> {
    let record = GuestRecord::read(layout, name)?.unwrap_or_default();
    if record.links.iter().any(|link| !link.publish.is_empty()) {
        // First, so that the translation ends before the address can be another's.
        publish::stop(layout, name)?;
    }
    let mut ours: Vec<&String> = links.iter().collect();
    ours.extend(record.links.iter().flat_map(|link| link.host.iter().chain(&link.helpers)));
    ours.sort();
    ours.dedup();
    let lent: Vec<_> = record.links.iter().filter_map(|link| Some((&link.guest, link.lent.as_ref()?))).collect();
    if !ours.is_empty() || !lent.is_empty() {
        let wire = Wire::new()?;
        let host = wire.open()?;
        let guest = held.map(|netns| wire.open_in(netns)).transpose()?;
        let home = File::open("/proc/thread-self/ns/net").context(|| "open the host's network namespace")?;
        wire.run(async {
            let mut first = Ok(());
            for link in ours {
                first = first.and(netlink::delete_link(&host, link).await);
            }
            for (interface, old_name) in lent {
                let full_name = names::full_name(&layout.name_on_bridge(name), interface);
                if let Some(guest) = &guest {
                    first = first.and(link::give_back(guest, home.as_raw_fd(), &full_name, old_name).await);
                }
                first = first.and(link::rename_returned(&host, &full_name, old_name).await.map(drop));
            }
            first
        })?;
    }
    retract(layout, name, &record.links)?;
    GuestRecord::remove(layout, name)
}

/// Whether the container has links, or a killed supervisor has left some.
pub fn is_wired(layout: &Layout, name: &ContainerName) -> bool {
    GuestRecord::exists(layout, name)
}

/// Takes away what the links of a killed supervisor's guest have left.
pub fn sweep(layout: &Layout, name: &ContainerName) -> Result<()> {
    disconnect(layout, name, &[], None)
}
