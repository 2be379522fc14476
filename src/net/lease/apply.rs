//! A lease becomes an address and routes of the guest, by netlink in its namespace.

use std::net::Ipv4Addr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, CacheInfo};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::{Handle, RouteMessageBuilder};

use super::client::Lease;
use crate::error::{Context, Result};

/// What the guest itself sets has precedence: its routes have none, and so the least, metric.
const METRIC: u32 = 1024;

/// Sets what is not set, and prolongs what is. The kernel takes the address away when the lease ends, also
/// where nobody is left to do it.
pub(super) async fn configure(guest: &Handle, link: u32, lease: &Lease) -> Result<()> {
    let net = lease.address;
    let mut add = guest.address().add(link, net.ip().into(), net.prefix()).replace();
    let mut lifetime = CacheInfo::default();
    (lifetime.ifa_preferred, lifetime.ifa_valid) = (lease.seconds, lease.seconds);
    add.message_mut().attributes.push(AddressAttribute::CacheInfo(lifetime));
    add.execute().await.context(|| format!("set {net}"))?;
    for (to, router) in &lease.routes {
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.ip(), to.prefix())
            .output_interface(link)
            // With the address the kernel takes the routes away that lead from it.
            .pref_source(net.ip())
            .priority(METRIC)
            .protocol(RouteProtocol::Dhcp);
        if router.is_unspecified() {
            route = route.scope(rtnetlink::packet_route::route::RouteScope::Link);
        } else {
            route = route.gateway(*router);
            if !net.contains(*router) {
                route = route.onlink();
            }
        }
        let added = guest.route().add(route.build()).replace().execute().await;
        added.context(|| format!("route {to} by {router}"))?;
    }
    Ok(())
}

/// Takes the address away, and with it the routes.
pub(super) async fn remove(guest: &Handle, link: u32, lease: &Lease) -> Result<()> {
    let mut present = guest.address().get().set_link_index_filter(link).execute();
    let is_it = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Local(address) if *address == std::net::IpAddr::V4(lease.address.ip()));
    while let Some(address) = present.try_next().await.context(|| "list the guest's addresses")? {
        if address.attributes.iter().any(is_it) {
            guest.address().del(address).execute().await.context(|| format!("remove {}", lease.address))?;
        }
    }
    Ok(())
}
