//! A stopped guest's links go.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::unistd::Pid;

use super::announce::retract;
use super::netlink::open_netns;
use super::record::GuestRecord;
use super::{exhausted, lease, link, names, netlink, publish};
use crate::config::{Config, NetworkType};
use crate::error::{Context, Result};
use crate::net::netlink::Netlink;
use crate::store::Layout;
use crate::types::ContainerName;

/// Keeps the guest's network namespace until [`disconnect`], if a link of the host was moved into it.
///
/// A link that is not hardware dies with its namespace, and hardware would come back under whatever
/// name the guest has given it.
pub fn hold(config: &Config, leader: Pid) -> Option<OwnedFd> {
    if config.network.values().all(|network| network.kind != NetworkType::Physical) {
        return None;
    }
    // A guest that has ended has returned its links.
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
    if record.links.iter().any(|link| link.lease) {
        // While the link is there to give the lease back by.
        lease::stop(layout, name)?;
    }
    let mut ours: Vec<&String> = links.iter().collect();
    ours.extend(record.links.iter().flat_map(|link| link.host.iter().chain(&link.helpers)));
    ours.sort();
    ours.dedup();
    let moved: Vec<_> = record.links.iter().filter_map(|link| Some((&link.guest, link.moved.as_ref()?))).collect();
    if !ours.is_empty() || !moved.is_empty() {
        let netlink = Netlink::new()?;
        let host = netlink.open()?;
        let guest = held.map(|netns| netlink.open_in(netns)).transpose()?;
        let home = File::open("/proc/thread-self/ns/net").context(|| "open the host's network namespace")?;
        netlink.run(async {
            let mut first = Ok(());
            for link in ours {
                first = first.and(netlink::delete_link(&host, link).await);
            }
            for (interface, old_name) in moved {
                let full_name = names::full_name(&layout.name_on_bridge(name), interface);
                if let Some(guest) = &guest {
                    first = first.and(link::return_to_host(guest, home.as_raw_fd(), &full_name, old_name).await);
                }
                first = first.and(link::rename_returned(&host, &full_name, old_name).await.map(drop));
            }
            first
        })?;
    }
    retract(layout, name, &record.links)?;
    exhausted::forget(layout, name);
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
