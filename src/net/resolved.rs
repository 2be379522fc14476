//! Registers a bridge's names with the host's resolver, where that is systemd-resolved.

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::Ipv4Network;
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
    domains.extend(settings.ipv4.map(reverse4).unwrap_or_default());
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

/// The reverse domains of a network: a domain is of whole bytes, so that one that ends within a byte has several.
/// Of one wider than a /16 there are none: most of them are other machines' addresses.
fn reverse4(net: Ipv4Network) -> Vec<String> {
    if net.prefix() < 16 {
        return Vec::new();
    }
    let whole = usize::from(net.prefix() / 8).min(3);
    let last = usize::from(net.prefix().div_ceil(8)).min(3);
    let (first_bytes, last_bytes) = (net.network().octets(), net.broadcast().octets());
    let domain = |bytes: &[u8]| {
        let labels: Vec<String> = bytes.iter().rev().map(ToString::to_string).collect();
        format!("{}.in-addr.arpa", labels.join("."))
    };
    if whole == last {
        return vec![domain(&first_bytes[..whole])];
    }
    (first_bytes[whole]..=last_bytes[whole]).map(|byte| domain(&[&first_bytes[..whole], &[byte]].concat())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_guests_addresses_are_the_bridge_s_too() {
        let settings: BridgeSettings = toml::from_str("ipv4 = \"10.9.8.1/24\"\nipv6 = \"fd00:1::1/64\"").unwrap();
        let expected = ["lxm", "8.9.10.in-addr.arpa", "0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa"];
        assert_eq!(domains(&settings), expected);
        let of = |net: &str| reverse4(net.parse().unwrap());
        assert_eq!(of("10.9.16.1/20").len(), 16);
        assert_eq!(of("10.9.16.1/20")[15], "31.9.10.in-addr.arpa");
        assert_eq!(of("10.9.0.1/16"), ["9.10.in-addr.arpa"]);
        assert_eq!(of("10.9.8.129/28"), ["8.9.10.in-addr.arpa"]);
        assert!(of("10.0.0.1/8").is_empty());
    }
}
