//! Bridges: lxm's own, made on first use, and the host's, used as they are.

use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo};

use super::link::{GROUP, GROUP_CHECKED, GROUP_ISOLATED};
use super::plan::Interface;
use super::wire::{Wire, link_by_name};
use crate::config::HostConfig;
use crate::error::{Error, Result};
use crate::store::Layout;

/// The bridge that lxm makes when nobody says otherwise.
pub const DEFAULT: &str = "lxmbr0";

/// A bridge that is ready for a guest's port.
#[derive(Debug, Clone)]
pub struct Bridge {
    pub index: u32,
    /// lxm made it and serves leases and names on it.
    pub managed: bool,
}

impl Bridge {
    /// The group that tells the bridge's rules what this guest's port may do.
    pub(super) fn group(&self, interface: &Interface) -> u32 {
        let checked = if self.managed { GROUP_CHECKED } else { 0 };
        let isolated = if interface.isolated { GROUP_ISOLATED } else { 0 };
        GROUP | checked | isolated
    }

    pub(super) fn complete_gateways(&self, _interface: &mut Interface) {}
}

/// The bridge of an interface that names none.
pub fn default_name(host: &HostConfig) -> &str {
    match host.network.default.as_str() {
        // These are defaults of `create`; an interface that is a veth has a bridge.
        "none" | "host" => DEFAULT,
        bridge => bridge,
    }
}

/// Makes sure that the bridge is there and works.
pub fn ensure(_layout: &Layout, name: &str) -> Result<Bridge> {
    let wire = Wire::new()?;
    let host = wire.open()?;
    let link = wire.run(link_by_name(&host, name))?.ok_or_else(|| {
        Error::not_found(format!("this host has no bridge `{name}`"))
            .hint(format!("`lxm network create {name}` makes one"))
    })?;
    let is_bridge = link.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.contains(&LinkInfo::Kind(InfoKind::Bridge)))
    });
    if !is_bridge {
        return Err(Error::config(format!("the link `{name}` is not a bridge")));
    }
    Ok(Bridge { index: link.header.index, managed: false })
}
