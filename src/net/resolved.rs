//! Registers a bridge's names with the host's resolver, where that is systemd-resolved.

use std::net::IpAddr;
use std::time::Duration;

use zbus::Connection;

use crate::config::bridge::BridgeSettings;
use crate::systemd::bus;

const RESOLVED: &str = "org.freedesktop.resolve1";
/// How long the bus may take: a start does not hang for a name.
const TIMEOUT: Duration = Duration::from_secs(2);

/// `SetLinkDNS` takes a family and the address's bytes.
type DnsServer = (i32, Vec<u8>);

/// Sends questions for the guests' names, and for names of their addresses, to the bridge's server.
///
/// A host without resolved does not need it, and one where it fails has its network all the same:
/// `lxm check` tells.
pub(super) fn announce(index: u32, settings: &BridgeSettings) {
    let _ = bus::run_with(RESOLVED, TIMEOUT, async |bus| {
        let servers: Vec<DnsServer> = servers(settings)
            .into_iter()
            .map(|address| match address {
                IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
                IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
            })
            .collect();
        // `true`: a domain to route questions by, not one to complete short names with.
        let domains: Vec<(String, bool)> = domains(settings).into_iter().map(|domain| (domain, true)).collect();
        let link = index as i32;
        call(bus, "SetLinkDNS", &(link, servers)).await?;
        call(bus, "SetLinkDomains", &(link, domains)).await?;
        call(bus, "SetLinkDefaultRoute", &(link, false)).await
    });
}

async fn call<B>(bus: &Connection, method: &str, body: &B) -> zbus::Result<()>
where
    B: serde::Serialize + zbus::DynamicType,
{
    let interface = "org.freedesktop.resolve1.Manager";
    bus.call_method(Some(RESOLVED), "/org/freedesktop/resolve1", Some(interface), method, body).await.map(drop)
}

fn servers(settings: &BridgeSettings) -> Vec<IpAddr> {
    let ipv4 = settings.ipv4.map(|net| IpAddr::V4(net.ip()));
    ipv4.into_iter().chain(settings.ipv6.map(|net| IpAddr::V6(net.ip()))).collect()
}

/// The guests' domain, and the reverse domains of their addresses (RFC 1035, RFC 3596).
fn domains(settings: &BridgeSettings) -> Vec<String> {
    let mut domains = vec![settings.domain.clone()];
    if let Some(net) = settings.ipv4 {
        // Whole bytes of the prefix: what is between them cannot be said in a domain.
        let bytes = net.network().octets();
        let kept = bytes[..usize::from(net.prefix() / 8)].iter().rev();
        let labels: Vec<String> = kept.map(ToString::to_string).collect();
        if labels.len() >= 2 {
            domains.push(format!("{}.in-addr.arpa", labels.join(".")));
        }
    }
    if let Some(net) = settings.ipv6 {
        let digits: Vec<String> = net
            .network()
            .octets()
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| format!("{digit:x}"))
            .collect();
        let kept = digits[..usize::from(net.prefix() / 4)].iter().rev().cloned();
        domains.push(format!("{}.ip6.arpa", kept.collect::<Vec<_>>().join(".")));
    }
    domains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_guests_addresses_are_the_bridge_s_too() {
        let settings: BridgeSettings = toml::from_str("ipv4 = \"10.9.8.1/24\"\nipv6 = \"fd00:1::1/64\"").unwrap();
        let expected = ["lxm", "8.9.10.in-addr.arpa", "0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa"];
        assert_eq!(domains(&settings), expected);
    }
}
