//! `[network.NAME]`: an interface of the guest.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::defaults::is_default;
use crate::error::{Error, Result};
use crate::types::Mac;

/// `[network.NAME]`: one interface of the guest, called NAME in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Network {
    #[serde(rename = "type")]
    pub kind: NetworkType,
    /// `veth`: the bridge to join; unset means the host's default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// `macvlan`, `ipvlan`, `physical`: the host's link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Made at create, so that an address stays for the container's life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    pub ipv4: Address,
    pub ipv6: Address,
    /// Who asks for the lease and sets the addresses.
    #[serde(skip_serializing_if = "is_default")]
    pub managed: Managed,
    /// Next hop of the default route where the address is static.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<IpAddr>,
    /// Further addresses that the guest may use on a bridge of lxm's: those that are set in it, and those of
    /// machines behind it. `any` turns the check of its addresses off.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_addresses: Vec<AllowedAddress>,
    /// Further MAC addresses that the guest may send from. `any` turns the check of its MAC addresses off, and
    /// with it that of its addresses, which goes by them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_macs: Vec<AllowedMac>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The VLAN that it is in. Of a `physical` link the guest then has that VLAN, and the host keeps
    /// the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Ports of the host that lead into the guest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<PublishedPort>,
    /// Keeps the guest from its neighbours on the bridge.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
    /// Most traffic into the guest, in bits a second (`100Mbit`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<String>,
    /// Most traffic out of the guest, in bits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<String>,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            kind: NetworkType::Veth,
            bridge: None,
            parent: None,
            mac: None,
            ipv4: Address::Dhcp,
            ipv6: Address::Auto,
            managed: Managed::Auto,
            gateway: Vec::new(),
            allow_addresses: Vec::new(),
            allow_macs: Vec::new(),
            mtu: None,
            vlan: None,
            publish: Vec::new(),
            isolated: false,
            ingress: None,
            egress: None,
        }
    }
}

impl Network {
    /// Whether the host configures it, for a guest of which it is known whether something in it would.
    pub(crate) fn is_managed_by_host(&self, guest_does: bool) -> bool {
        match self.managed {
            Managed::Auto => !guest_does,
            managed => managed == Managed::Host,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkType {
    /// Loopback alone.
    None,
    /// The host's own network namespace.
    Host,
    Veth,
    Macvlan,
    Ipvlan,
    /// A link of the host moved into the guest.
    Physical,
}

/// Who configures an interface of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Managed {
    /// The guest, if something in its root file system does that, else the host.
    #[default]
    Auto,
    /// The host: lease, routes and resolv.conf are there before init runs, and are kept.
    Host,
    Guest,
}

/// Where an interface's address comes from.
///
/// `dhcp`: a lease. `auto`: what the network announces. `none`: no address. An address without a
/// prefix length is a reservation in the bridge's range; with one it is set before init runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    None,
    Dhcp,
    Auto,
    Reserved(IpAddr),
    Static(IpNetwork),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "none" => Ok(Address::None),
            "dhcp" => Ok(Address::Dhcp),
            "auto" => Ok(Address::Auto),
            _ if s.contains('/') => s.parse().map(Address::Static).map_err(|_| bad_address(s)),
            _ => s.parse().map(Address::Reserved).map_err(|_| bad_address(s)),
        }
    }
}

fn bad_address(s: &str) -> Error {
    Error::config(format!("`{s}` is not an address")).hint("write `dhcp`, `auto`, `none`, `10.1.2.3` or `10.1.2.3/24`")
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::None => f.write_str("none"),
            Address::Dhcp => f.write_str("dhcp"),
            Address::Auto => f.write_str("auto"),
            Address::Reserved(address) => address.fmt(f),
            Address::Static(network) => network.fmt(f),
        }
    }
}

crate::types::serde_as_text!(Address);

/// An item of `allow-addresses`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedAddress {
    Any,
    /// A network, or one address.
    Of(IpNetwork),
}

impl FromStr for AllowedAddress {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        if s == "any" {
            return Ok(AllowedAddress::Any);
        }
        let bad = |_| {
            Error::config(format!("`{s}` is neither an address nor a network"))
                .hint("write `10.0.3.50`, `10.0.4.0/24`, `fd00:1::/64` or `any`")
        };
        let net: IpNetwork = s.parse().map_err(bad)?;
        // As the kernel compares it: without the bits of a host.
        Ok(AllowedAddress::Of(IpNetwork::new(net.network(), net.prefix()).unwrap_or(net)))
    }
}

impl fmt::Display for AllowedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllowedAddress::Any => f.write_str("any"),
            AllowedAddress::Of(net) if net.prefix() == if net.is_ipv4() { 32 } else { 128 } => net.ip().fmt(f),
            AllowedAddress::Of(net) => net.fmt(f),
        }
    }
}

crate::types::serde_as_text!(AllowedAddress);

/// An item of `allow-macs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedMac {
    Any,
    Of(Mac),
}

impl FromStr for AllowedMac {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        if s == "any" {
            return Ok(AllowedMac::Any);
        }
        s.parse::<Mac>().ok().filter(|mac| mac.is_unicast()).map(AllowedMac::Of).ok_or_else(|| {
            Error::config(format!("`{s}` is not a unicast MAC address"))
                .hint("write for example `02:6c:78:00:00:01`, or `any`")
        })
    }
}

impl fmt::Display for AllowedMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllowedMac::Any => f.write_str("any"),
            AllowedMac::Of(mac) => mac.fmt(f),
        }
    }
}

crate::types::serde_as_text!(AllowedMac);

/// A published port: `[HOST_ADDRESS:]HOST_PORT:GUEST_PORT[/tcp|/udp]`, IPv6 addresses in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedPort {
    /// `None` means every address of the host, IPv4 and IPv6.
    pub listen: Option<IpAddr>,
    pub host_port: u16,
    pub guest_port: u16,
    pub protocol: PublishProtocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PublishProtocol {
    Tcp,
    Udp,
}

impl PublishProtocol {
    /// As settings and nft write it.
    pub fn name(self) -> &'static str {
        match self {
            PublishProtocol::Tcp => "tcp",
            PublishProtocol::Udp => "udp",
        }
    }
}

impl FromStr for PublishedPort {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad = || {
            Error::config(format!("`{s}` is not a published port"))
                .hint("write `8080:80`, `127.0.0.1:2222:22/tcp` or `[::]:53:53/udp`")
        };
        let (ports, protocol) = match s.rsplit_once('/') {
            None => (s, PublishProtocol::Tcp),
            Some((ports, "tcp")) => (ports, PublishProtocol::Tcp),
            Some((ports, "udp")) => (ports, PublishProtocol::Udp),
            Some(_) => return Err(bad()),
        };
        let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port != 0).ok_or_else(bad);
        let (rest, guest) = ports.rsplit_once(':').ok_or_else(bad)?;
        let (listen, host) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((address, host)) => {
                let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
                let listen: IpAddr = bare.unwrap_or(address).parse().map_err(|_| bad())?;
                if listen.is_ipv6() != bare.is_some() {
                    return Err(bad());
                }
                (Some(listen), host)
            }
        };
        Ok(PublishedPort { listen, host_port: port(host)?, guest_port: port(guest)?, protocol })
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.listen {
            None => {}
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
        }
        write!(f, "{}:{}/{}", self.host_port, self.guest_port, self.protocol.name())
    }
}

crate::types::serde_as_text!(PublishedPort);

/// Whether the kernel takes it as a link's name (dev_valid_name).
pub(crate) fn is_link_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 15
        && name != "."
        && name != ".."
        && name.bytes().all(|c| c.is_ascii_graphic() && c != b'/' && c != b':')
}

/// Whether a guest's own interface can have the name: `lo` is there already, and the kernel keeps `all`
/// and `default` for /proc/sys/net (sysctl_dev_name_is_allowed).
pub(crate) fn is_interface_name(name: &str) -> bool {
    is_link_name(name) && !["lo", "all", "default"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_read_back_as_written() {
        for (text, canonical) in [
            ("8080:80", "8080:80/tcp"),
            ("127.0.0.1:2222:22/tcp", "127.0.0.1:2222:22/tcp"),
            ("[::]:53:53/udp", "[::]:53:53/udp"),
        ] {
            assert_eq!(text.parse::<PublishedPort>().unwrap().to_string(), canonical);
        }
        for text in ["", "80", "0:80", "80:0", "a:b", "::1:80:80", "[10.0.0.1]:80:80", "80:80/sctp", "65536:1"] {
            assert!(text.parse::<PublishedPort>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_with_a_prefix_is_static_else_reserved() {
        assert_eq!("10.0.0.5".parse::<Address>().unwrap(), Address::Reserved("10.0.0.5".parse().unwrap()));
        assert_eq!("10.0.0.5/24".parse::<Address>().unwrap(), Address::Static("10.0.0.5/24".parse().unwrap()));
        assert!("10.0.0.500".parse::<Address>().is_err());
    }

    #[test]
    fn what_is_allowed_reads_back_without_bits_of_hosts() {
        for (text, canonical) in [
            ("any", "any"),
            ("10.0.3.50", "10.0.3.50"),
            ("10.0.4.7/24", "10.0.4.0/24"),
            ("fd00::5", "fd00::5"),
            ("fd00::5/64", "fd00::/64"),
        ] {
            assert_eq!(text.parse::<AllowedAddress>().unwrap().to_string(), canonical);
        }
        assert!("10.0.3".parse::<AllowedAddress>().is_err() && "all".parse::<AllowedAddress>().is_err());
        assert_eq!("00:00:5E:00:01:0a".parse::<AllowedMac>().unwrap().to_string(), "00:00:5e:00:01:0a");
        assert!("ff:ff:ff:ff:ff:ff".parse::<AllowedMac>().is_err());
    }

    #[test]
    fn names_that_the_kernel_refuses_are_refused() {
        for name in ["eth0", "br-lan", "x", "a.b", &"x".repeat(15)] {
            assert!(is_link_name(name), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "a:b", "ä", &"x".repeat(16)] {
            assert!(!is_link_name(name), "{name}");
        }
    }
}
