//! What a container claims for itself alone, and when two claims clash.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;

use crate::config::{Address, AllowedAddress, AllowedMac, Config, IdMap, Network, NetworkType, PublishedPort};
use crate::error::Result;
use crate::net::{self, bridge};
use crate::storage;
use crate::store::{Layout, Origin};
use crate::types::{ContainerName, IdRange, Mac};

/// One thing that only one container may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    Ids(IdRange),
    Uuid(String),
    Mac(Mac),
    /// On a bridge, or on the link under a macvlan or ipvlan.
    Address {
        link: String,
        address: IpAddr,
    },
    /// Addresses that it may use without a lease. Several may: one that moves between them.
    Allowed {
        link: String,
        net: IpNetwork,
    },
    Port(PublishedPort),
    /// The directory that an overlay writes to.
    Upper(PathBuf),
}

impl Claim {
    /// Whether two containers cannot have both.
    pub(crate) fn clashes(&self, other: &Claim) -> bool {
        match (self, other) {
            (Claim::Ids(a), Claim::Ids(b)) => a.overlaps(b),
            (Claim::Port(a), Claim::Port(b)) => ports_clash(a, b),
            (Claim::Allowed { .. }, Claim::Allowed { .. }) => false,
            (Claim::Allowed { link: a, net }, Claim::Address { link: b, address })
            | (Claim::Address { link: b, address }, Claim::Allowed { link: a, net }) => {
                a == b && net.contains(*address)
            }
            (a, b) => a == b,
        }
    }

    /// What two claims that clash have in common.
    pub(super) fn bucket(&self) -> String {
        match self {
            Claim::Ids(_) => "ids".into(),
            Claim::Port(port) => format!("port {}", port.host_port),
            // A network may have any of them.
            Claim::Address { link, .. } | Claim::Allowed { link, .. } => format!("addresses on {link}"),
            other => other.to_string(),
        }
    }

    /// The hint for the second container that wants it, with this configuration.
    pub(super) fn remedy(
        &self,
        layout: &Layout,
        name: &ContainerName,
        config: &Config,
        holder: &ContainerName,
    ) -> String {
        let adopt = layout.adopt_command(name);
        match self {
            Claim::Ids(_) if config.security.idmap == IdMap::Auto => {
                format!("`{adopt}` gives it a range of its own")
            }
            Claim::Ids(_) => format!("`{}` gives it a range of its own", layout.unset_command(name, "security.idmap")),
            Claim::Uuid(_) | Claim::Upper(_) => {
                format!("if `{name}` is a copy of it, `{adopt}` makes it another container")
            }
            Claim::Mac(_) => "without `mac` an interface has one that is made of the container's uuid".into(),
            Claim::Address { .. } | Claim::Allowed { .. } | Claim::Port(_) => {
                format!("choose another, or change `{holder}` first")
            }
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claim::Ids(range) => write!(f, "ids of {range}"),
            Claim::Uuid(uuid) => write!(f, "the uuid {uuid}"),
            Claim::Mac(mac) => write!(f, "the MAC address {mac}"),
            Claim::Address { link, address } => write!(f, "the address {address} on `{link}`"),
            Claim::Allowed { link, net } => write!(f, "addresses of {net} on `{link}`"),
            Claim::Port(PublishedPort { listen: None, host_port, protocol, .. }) => {
                write!(f, "the published port {host_port}/{}", protocol.name())
            }
            Claim::Port(PublishedPort { listen: Some(at), host_port, protocol, .. }) => {
                write!(f, "the published port {host_port}/{} of {at}", protocol.name())
            }
            Claim::Upper(dir) => write!(f, "the overlay layer `{}`", dir.display()),
        }
    }
}

/// Whether two ports would be bound on a common address of the host. Unset is every address, IPv4
/// and IPv6; the unspecified address is every one of its family.
fn ports_clash(a: &PublishedPort, b: &PublishedPort) -> bool {
    let same_port = (a.host_port, a.protocol) == (b.host_port, b.protocol);
    let same_address = match (a.listen, b.listen) {
        (None, _) | (_, None) => true,
        (Some(a), Some(b)) => a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()),
    };
    same_port && same_address
}

/// What a container claims with this configuration.
pub(crate) fn of(layout: &Layout, name: &ContainerName, config: &Config, origin: &Origin) -> Result<Vec<Claim>> {
    let mut claims: Vec<Claim> = config.security.ids(origin.range()).map(Claim::Ids).into_iter().collect();
    if !config.uuid.is_empty() {
        claims.push(Claim::Uuid(config.uuid.to_ascii_lowercase()));
    }
    claims.extend(of_network(layout, name, config)?);
    claims.extend(storage::upper_layer(layout, &origin.storage, &layout.container(name))?.map(Claim::Upper));
    Ok(claims)
}

fn of_network(layout: &Layout, name: &ContainerName, config: &Config) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    let mut default = None;
    for (guest, network) in &config.network {
        let has_mac = match network.kind {
            NetworkType::None | NetworkType::Host => continue,
            // It keeps the address that it has, unless another one is set.
            NetworkType::Physical => network.mac.is_some(),
            // Guests of one ipvlan have their link's address.
            NetworkType::Ipvlan => false,
            NetworkType::Veth | NetworkType::Macvlan => true,
        };
        if has_mac && let Ok(mac) = net::mac_of(name, config, guest, network) {
            claims.push(Claim::Mac(mac));
        }
        claims.extend(network.allow_macs.iter().filter_map(|allowed| match allowed {
            AllowedMac::Of(mac) => Some(Claim::Mac(*mac)),
            AllowedMac::Any => None,
        }));
        if network.kind == NetworkType::Veth && network.bridge.is_none() && default.is_none() {
            default = Some(bridge::default_name(&layout.host_settings()).to_owned());
        }
        claims.extend(of_addresses(network, default.as_deref()));
        claims.extend(network.publish.iter().copied().map(Claim::Port));
    }
    Ok(claims)
}

fn of_addresses(network: &Network, default: Option<&str>) -> Vec<Claim> {
    let link = match network.kind {
        NetworkType::Veth => network.bridge.as_deref().or(default),
        _ => network.parent.as_deref(),
    };
    let Some(link) = link else { return Vec::new() };
    let given = [network.ipv4, network.ipv6].into_iter().filter_map(|address| match address {
        Address::Static(net) => Some(net.ip()),
        Address::Reserved(ip) => Some(ip),
        Address::None | Address::Dhcp | Address::Auto => None,
    });
    let own: Vec<IpAddr> = given.collect();
    let own_claims = own.iter().map(|address| Claim::Address { link: link.to_owned(), address: *address });
    let allowed = network.allow_addresses.iter().filter_map(|allowed| match allowed {
        // Its own address is within what it is allowed, or it would have to be taken out of a network.
        AllowedAddress::Of(net) if !own.iter().any(|address| net.contains(*address)) => {
            Some(Claim::Allowed { link: link.to_owned(), net: *net })
        }
        AllowedAddress::Of(_) | AllowedAddress::Any => None,
    });
    own_claims.chain(allowed).collect()
}

/// The first thing that a container claims twice for itself: a port published twice, an address on
/// two interfaces.
pub(super) fn claimed_twice(claims: &[Claim]) -> Option<&Claim> {
    let mut seen = BTreeSet::new();
    let suspects: Vec<usize> = (0..claims.len()).filter(|at| !seen.insert(claims[*at].bucket())).collect();
    suspects.into_iter().find(|at| claims[..*at].iter().any(|other| claims[*at].clashes(other))).map(|at| &claims[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(text: &str) -> Claim {
        Claim::Port(text.parse().unwrap())
    }

    #[test]
    fn ports_clash_where_they_would_be_bound_on_one_address() {
        for (a, b, clash) in [
            ("80:80", "80:8080", true),
            ("80:80", "81:80", false),
            ("80:80/udp", "80:80/tcp", false),
            ("80:80", "127.0.0.1:80:80", true),
            ("0.0.0.0:80:80", "127.0.0.1:80:80", true),
            ("0.0.0.0:80:80", "[::1]:80:80", false),
            ("127.0.0.1:80:80", "127.0.0.2:80:80", false),
            ("[::]:80:80", "[::1]:80:80", true),
        ] {
            assert_eq!(port(a).clashes(&port(b)), clash, "{a} {b}");
            assert_eq!(port(b).clashes(&port(a)), clash, "{b} {a}");
        }
    }

    #[test]
    fn a_port_published_twice_is_reported() {
        assert_eq!(claimed_twice(&[port("80:80"), port("81:80")]), None);
        let twice = [port("80:80"), port("81:80"), port("127.0.0.1:80:81")];
        assert_eq!(claimed_twice(&twice), Some(&twice[2]));
    }

    #[test]
    fn ids_clash_where_they_overlap() {
        let ids = |text: &str| Claim::Ids(text.parse().unwrap());
        assert!(ids("524288:65536").clashes(&ids("580000:1000")));
        assert!(!ids("524288:65536").clashes(&ids("589824:65536")));
    }
}
