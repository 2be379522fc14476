//! Bridges as the administrator sees them: shown, made, changed, removed.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::Serialize;

use crate::config::bridge::{BridgeSettings, NetworkFile};
use crate::error::{Error, Result};
use crate::net::{self, bridge, owner, rules, server};
use crate::netserver::{self, GuestStatus};
use crate::store::Layout;
use crate::types::{ContainerName, Mac};

pub(crate) use crate::net::bridge::down;
pub(crate) use crate::net::lease::run as lease;
pub(crate) use crate::net::owner::{DEFAULT_BRIDGE, bridge_name};
pub(crate) use crate::net::publish::run as publish;
pub(crate) use crate::net::server::{Readiness, run as serve};

/// A bridge of lxm's and what is on it.
#[derive(Debug, Serialize)]
pub(crate) struct BridgeView {
    pub name: String,
    pub up: bool,
    pub ipv4: Option<Ipv4Network>,
    pub ipv6: Option<Ipv6Network>,
    pub nat: bool,
    /// Whether whoever has a route to its guests reaches them.
    pub routed: bool,
    pub dhcp: bool,
    pub domain: String,
    /// Whether its lease and name server runs.
    pub serving: bool,
    /// Why no names are served, where none are.
    pub names_fault: Option<String>,
    pub pool_size: u32,
    pub leased: usize,
    /// Why the last container that got no address got none.
    pub exhausted: Option<String>,
    /// What of the link is not as it should be.
    pub faults: Vec<String>,
    pub guests: Vec<GuestView>,
}

/// A guest on it.
#[derive(Debug, Serialize)]
pub(crate) struct GuestView {
    pub name: ContainerName,
    pub mac: Mac,
    /// The address of its lease.
    pub leased: Option<Ipv4Addr>,
    /// When the lease ends: RFC 3339, UTC.
    pub expires: Option<String>,
    /// Every address that its name is answered with.
    pub addresses: Vec<IpAddr>,
}

impl From<GuestStatus> for GuestView {
    fn from(guest: GuestStatus) -> Self {
        let GuestStatus { name, mac, leased, expires, addresses } = guest;
        let time = |seconds: u64| jiff::Timestamp::from_second(seconds.try_into().ok()?).ok();
        GuestView { name, mac, leased, expires: expires.and_then(time).map(|time| time.to_string()), addresses }
    }
}

/// Every bridge of lxm's, by name.
pub(crate) fn list(layout: &Layout) -> Result<Vec<BridgeView>> {
    NetworkFile::load(layout)?.bridge.into_iter().map(|(name, settings)| see(layout, name, settings)).collect()
}

/// One of them; fails with `Kind::NotFound` for any other.
pub(crate) fn look(layout: &Layout, name: &str) -> Result<BridgeView> {
    let settings = NetworkFile::load(layout)?.get(name)?.clone();
    see(layout, name.to_owned(), settings)
}

fn see(layout: &Layout, name: String, settings: BridgeSettings) -> Result<BridgeView> {
    let serving = netserver::is_running(layout, &name)?;
    let status = netserver::status(layout, &name)?.unwrap_or_default();
    let faults = net::link_faults(layout, &name, &settings)?;
    Ok(BridgeView {
        up: owner::has(layout, &name),
        ipv4: settings.ipv4,
        ipv6: settings.ipv6,
        nat: settings.nat,
        routed: settings.is_routed(),
        dhcp: settings.dhcp,
        domain: settings.domain,
        serving,
        names_fault: status.names_fault,
        pool_size: status.pool_size,
        leased: status.leased,
        exhausted: status.exhausted,
        faults,
        guests: status.guests.into_iter().map(GuestView::from).collect(),
        name,
    })
}

/// What a new bridge is to be; networks that are not given are chosen.
#[derive(Debug, Clone, Default)]
pub(crate) struct New {
    pub ipv4: Option<Ipv4Network>,
    pub ipv6: Option<Ipv6Network>,
    pub without_ipv6: bool,
    pub without_nat: bool,
    pub without_dhcp: bool,
}

/// Makes a bridge and brings it up; fails with `Kind::Conflict` if there is a link of its name.
pub(crate) fn create(layout: &Layout, name: &str, new: &New) -> Result<()> {
    if !crate::config::is_link_name(name) || name.starts_with('-') {
        return Err(Error::usage(format!("`{}` cannot be the name of a bridge", name.escape_default()))
            .hint("15 characters at most, without spaces, `/` and `:`"));
    }
    if bridge::exists(name) || NetworkFile::load(layout)?.bridge.contains_key(name) {
        return Err(Error::conflict(format!("there is a link or bridge `{name}` already")));
    }
    let settings = BridgeSettings {
        ipv4: new.ipv4.map(bridge::gateway4),
        ipv6: new.ipv6.map(bridge::gateway6),
        without_ipv6: new.without_ipv6,
        nat: !new.without_nat,
        dhcp: !new.without_dhcp,
        ..BridgeSettings::default()
    };
    bridge::add(layout, name, settings)?;
    bridge::up(layout, name).map(drop).inspect_err(|_| drop(delete(layout, name)))
}

/// Brings a bridge up with its server, and the rules of the firewall as they should be.
pub(crate) fn up(layout: &Layout, name: &str) -> Result<()> {
    bridge::up(layout, name)?;
    rules::repair(layout)
}

/// Changes one setting, in the file and, where the bridge is up, at once. `auto` chooses a network
/// anew, an empty value is the default.
pub(crate) fn set(layout: &Layout, name: &str, key: &str, value: &str) -> Result<()> {
    let file = NetworkFile::load(layout)?;
    let settings = file.get(name)?;
    let changed = match (key, value) {
        ("ipv4", "auto") => BridgeSettings { ipv4: None, ..settings.clone() },
        ("ipv6", "auto") => BridgeSettings { ipv6: None, without_ipv6: false, ..settings.clone() },
        _ => settings.with(key, value)?,
    };
    let changed = BridgeSettings {
        ipv4: changed.ipv4.map(bridge::gateway4),
        ipv6: changed.ipv6.map(bridge::gateway6),
        ..changed
    };
    let before = bridge::add(layout, name, changed)?;
    if owner::has(layout, name) {
        server::stop(layout, name)?;
        bridge::up(layout, name).map(drop).inspect_err(|_| {
            // Not more than what was asked for goes wrong.
            let back = before.map(|before| bridge::add(layout, name, before));
            if back.is_some_and(|back| back.is_ok()) {
                let _ = bridge::up(layout, name);
            }
        })?;
    }
    Ok(())
}

/// Takes a bridge down and forgets it; fails with `Kind::Conflict` while guests are on it.
pub(crate) fn delete(layout: &Layout, name: &str) -> Result<()> {
    bridge::down(layout, name)?;
    let mut file = NetworkFile::load(layout)?;
    file.bridge.remove(name);
    if file.bridge.is_empty() {
        // Whose names it goes by is decided anew with its next bridge.
        file.owner = None;
    }
    file.save(layout)
}
