//! Bridges made on first use, brought up after a boot, and taken down.

use super::link::{is_bridge, is_up, mtu, mtu_of, ports};
use super::port::Bridge;
use super::raise::{lock_file, raise};
use super::subnet::choose;
use crate::config::bridge::{BridgeSettings, NetworkFile};
use crate::config::{Config, HostConfig, NetworkType};
use crate::error::{Context, Error, Result};
use crate::net::netlink::{Netlink, delete_link, link_by_name, similar_link};
use crate::net::owner::{self, DEFAULT_BRIDGE};
use crate::net::{firewall, groups, repair, resolved, rules, server};
use crate::store::{FileLock, Layout};

/// The bridge of an interface that names none.
pub(crate) fn default_name(host: &HostConfig) -> &str {
    match host.network.default.as_str() {
        // These are defaults of `create`; an interface that is a veth has a bridge.
        "none" | "host" => DEFAULT_BRIDGE,
        bridge => bridge,
    }
}

/// The same, read only where an interface of `config` names none: a mistake in `lxm.toml` must not keep
/// others from being wired, nor wire one to another bridge.
pub(crate) fn default_of(layout: &Layout, config: &Config) -> Result<String> {
    let mut all = config.network.values();
    let host = match all.any(|network| network.kind == NetworkType::Veth && network.bridge.is_none()) {
        true => layout.host_config()?,
        false => HostConfig::default(),
    };
    Ok(default_name(&host).to_owned())
}

/// The refusal of a bridge that is not there.
pub(crate) fn missing(name: &str) -> Error {
    let error = Error::not_found(format!("this host has no bridge `{name}`"));
    match similar_link(name) {
        Some(near) => error.hint(format!("did you mean `{near}`? `lxm network create {name}` makes one")),
        None => error.hint(format!("`lxm network create {name}` makes one")),
    }
}

/// The refusal of a link that is no bridge.
pub(crate) fn is_none(name: &str) -> Error {
    Error::config(format!("the link `{name}` is not a bridge"))
}

/// Serialises commands that make, change or remove a bridge.
pub(crate) fn lock(layout: &Layout) -> Result<FileLock> {
    FileLock::acquire(&lock_file(layout))
}

/// Makes sure that the bridge is there and works: makes [`DEFAULT_BRIDGE`] on its first use, brings up
/// others of lxm's after a boot, and takes the host's own as they are. `name` is that on this host
/// ([`owner::bridge_name`]).
pub(crate) fn ensure(layout: &Layout, name: &str) -> Result<Bridge> {
    let netlink = Netlink::new()?;
    let host = netlink.open()?;
    let settings = NetworkFile::load(layout)?.bridge.remove(name);
    let link = netlink.run(link_by_name(&host, name))?;
    let is_default = settings.is_none() && name == owner::default_bridge(layout)?;
    if settings.is_some() {
        owner::require_own(layout, name)?;
    }
    let group = || owner::tag(layout).map(|tag| groups::of_owner(&tag));
    match (settings, link) {
        // A bridge of ours is brought up last of all, so up means that everything else is done.
        (Some(settings), Some(link)) if is_up(&link) => {
            server::ensure(layout, name)?;
            Ok(Bridge { index: link.header.index, mtu: mtu_of(&settings), group: group()?, settings: Some(settings) })
        }
        (None, Some(link)) if !is_default => {
            if !is_bridge(&link) {
                return Err(is_none(name));
            }
            Ok(Bridge { index: link.header.index, mtu: mtu(&link), group: group()?, settings: None })
        }
        (None, None) if !is_default => Err(missing(name)),
        _ => up(layout, name),
    }
}

/// Notes the settings of a bridge that is to be lxm's, with networks chosen where they leave them open;
/// returns those that it had before.
pub(crate) fn add(layout: &Layout, name: &str, settings: BridgeSettings) -> Result<Option<BridgeSettings>> {
    let _lock = lock(layout)?;
    let netlink = Netlink::new()?;
    let host = netlink.open()?;
    let mut file = NetworkFile::load(layout)?;
    let settings = netlink.run(choose(layout, &owner::tag(layout)?, &host, name, settings))?;
    owner::note(layout, &mut file)?;
    let before = file.bridge.insert(name.to_owned(), settings);
    file.save(layout)?;
    Ok(before)
}

/// Brings a bridge of lxm's up, choosing its networks if it has none yet. Safe to repeat.
pub(crate) fn up(layout: &Layout, name: &str) -> Result<Bridge> {
    let _lock = lock(layout)?;
    let netlink = Netlink::new()?;
    let host = netlink.open()?;
    let bring_up = || -> Result<Bridge> {
        let mut file = NetworkFile::load(layout)?;
        let settings = match file.get(name) {
            Ok(settings) => settings.clone(),
            // Others are made on purpose.
            Err(e) if name != owner::default_bridge(layout)? => return Err(e),
            Err(_) => {
                let settings =
                    netlink.run(choose(layout, &owner::tag(layout)?, &host, name, BridgeSettings::default()))?;
                owner::note(layout, &mut file)?;
                file.bridge.insert(name.to_owned(), settings.clone());
                file.save(layout)?;
                settings
            }
        };
        owner::require_own(layout, name)?;
        repair::forget(layout, name)?;
        let (index, settings) = raise(layout, &netlink, &host, name, settings)?;
        server::ensure(layout, name)?;
        resolved::announce(index, &settings);
        Ok(Bridge {
            index,
            mtu: mtu_of(&settings),
            group: groups::of_owner(&owner::tag(layout)?),
            settings: Some(settings),
        })
    };
    bring_up().context(|| format!("bridge `{name}`"))
}

/// Takes a bridge of lxm's down: its link and its rules; its settings stay.
///
/// Fails with `Kind::Conflict` while guests are on it.
pub(crate) fn down(layout: &Layout, name: &str) -> Result<()> {
    let _lock = lock(layout)?;
    NetworkFile::load(layout)?.get(name)?;
    let netlink = Netlink::new()?;
    let host = netlink.open()?;
    let link = netlink.run(link_by_name(&host, name))?;
    // Another owner's of this name is not ours to take down.
    let Some(link) = link.filter(|_| owner::other_owner(layout, name).is_none()) else { return rules::apply(layout) };
    let ports = netlink.run(ports(&host, link.header.index))?;
    if !ports.is_empty() {
        return Err(Error::conflict(format!("bridge `{name}` is in use: {}", ports.join(", ")))
            .hint("stop the containers that are on it"));
    }
    server::stop(layout, name)?;
    firewall::close(name)?;
    netlink.run(delete_link(&host, name))?;
    rules::apply(layout)
}
