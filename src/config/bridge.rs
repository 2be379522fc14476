//! `/etc/lxm/network.toml`: the bridges that lxm made, with the addresses it chose and keeps.
//!
//! Written by `lxm network …` and by the first start of a container with a network; read by the
//! lease and name server of each bridge.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::str::FromStr;

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::{Context, Error, Result};
use crate::types::{Timeout, closest};

/// All bridges, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct NetworkFile {
    /// What the host-wide things of this state directory (`LXM_ROOT`) are called, where another one
    /// had the plain names first (`net::owner`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub bridge: BTreeMap<String, BridgeSettings>,
}

/// `[bridge.NAME]`: one bridge's addresses and what is served on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BridgeSettings {
    /// The bridge's own address, the guests' gateway, with the prefix length of the subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Network>,
    /// The same for IPv6; guests make their addresses themselves, so the prefix is a /64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Network>,
    /// No IPv6 network is chosen: `ipv6 none`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_ipv6: bool,
    /// Whether guests reach the outside under the host's address.
    #[serde(default = "yes")]
    pub nat: bool,
    /// Whether other hosts can reach the guests by routing; published ports they reach in any case. Unset
    /// means that they can where guests have no NAT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routed: Option<bool>,
    /// Whether leases, router advertisements and names are served.
    #[serde(default = "yes")]
    pub dhcp: bool,
    /// Domain of the guests' names.
    #[serde(default = "default_domain")]
    pub domain: String,
    /// Addresses that leases are given from; unset means the whole subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// How long a lease lasts; a guest renews it at half of that.
    #[serde(default = "default_lease_time")]
    pub lease_time: Timeout,
    /// Upstream DNS servers; none means the host's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstream: Vec<IpAddr>,
    /// Other domains whose names may resolve to private addresses; `*` stands for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private_names: Vec<String>,
    /// Time servers that leases name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<Ipv4Addr>,
    /// Routes that leases name besides the default one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<Route>,
    /// Unset means the kernel's default, 1500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
}

fn yes() -> bool {
    true
}

fn default_domain() -> String {
    "lxm".into()
}

fn default_lease_time() -> Timeout {
    Timeout::from_secs(3600)
}

impl Default for BridgeSettings {
    fn default() -> Self {
        BridgeSettings {
            ipv4: None,
            ipv6: None,
            without_ipv6: false,
            nat: true,
            routed: None,
            dhcp: true,
            private_names: Vec::new(),
            domain: default_domain(),
            range: None,
            lease_time: default_lease_time(),
            upstream: Vec::new(),
            ntp: Vec::new(),
            route: Vec::new(),
            mtu: None,
        }
    }
}

impl BridgeSettings {
    /// Whether other hosts with a route to its guests can reach them.
    pub fn is_routed(&self) -> bool {
        self.routed.unwrap_or(!self.nat)
    }

    /// Who answers for names on it, if lxm does, and the domain of the guests' names.
    pub fn resolver(&self) -> (Option<IpAddr>, &str) {
        let own = self.ipv4.map(|net| net.ip().into()).or(self.ipv6.map(|net| net.ip().into()));
        (own.filter(|_| self.dhcp), &self.domain)
    }

    /// First and last address that a lease may have: the configured range, or every host address
    /// of the subnet. The gateway may lie within.
    pub fn pool(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let subnet = self.ipv4?;
        let inner = |end: Ipv4Addr, step: i64| Ipv4Addr::from((i64::from(u32::from(end)) + step) as u32);
        let whole = || (inner(subnet.network(), 1), inner(subnet.broadcast(), -1));
        Some(self.range.map_or_else(whole, |range| (range.first, range.last)))
    }

    /// The settings with `key` set to what an administrator typed: lists are separated by commas,
    /// and nothing is the default.
    pub fn with(&self, key: &str, value: &str) -> Result<Self> {
        let mut table = toml::Table::try_from(self).map_err(|e| Error::failed(e.to_string()))?;
        let bad = |e: toml::de::Error| Error::usage(format!("`{key}`: {}", e.message().replace('\n', ", ")));
        if key == "ipv6" {
            table.remove("without-ipv6");
        }
        if (key, value) == ("ipv6", "none") {
            table.remove(key);
            table.insert("without-ipv6".into(), true.into());
        } else if value.is_empty() {
            table.remove(key);
        } else {
            let list = || value.split(',').map(|item| toml::Value::from(item.trim())).collect::<Vec<_>>();
            let typed = match key {
                "nat" | "dhcp" | "routed" => value.parse::<bool>().map(toml::Value::from).ok(),
                "mtu" => value.parse::<i64>().map(toml::Value::from).ok(),
                "upstream" | "ntp" | "route" | "private-names" => Some(list().into()),
                _ => Some(value.into()),
            };
            let typed = typed.ok_or_else(|| Error::usage(format!("`{value}` is not a value of `{key}`")))?;
            table.insert(key.to_owned(), typed);
        }
        table.try_into().map_err(bad)
    }

    /// Refuses what cannot work, naming the key.
    pub fn check(&self, bridge: &str) -> Result<()> {
        let fault = |key: &str, why: String| Err(Error::config(format!("bridge `{bridge}`: `{key}` {why}")));
        if let Some(ipv4) = self.ipv4
            && let Some(why) = unfit4(ipv4)
        {
            return fault("ipv4", format!("({ipv4}) {why}"));
        }
        if let Some(ipv6) = self.ipv6
            && let Some(why) = unfit6(ipv6)
        {
            return fault("ipv6", format!("({ipv6}) {why}"));
        }
        if self.ipv6.is_some() && self.without_ipv6 {
            return fault("without-ipv6", "contradicts `ipv6`".into());
        }
        if let Some(mtu) = self.mtu
            && mtu < if self.ipv6.is_some() { 1280 } else { 576 }
        {
            return fault("mtu", format!("({mtu}) is too small: IPv4 needs 576, IPv6 1280"));
        }
        if let Some(subnet) = self.ipv4
            && let Some(route) = self.route.iter().find(|route| !subnet.contains(route.via))
        {
            return fault("route", format!("({route}) does not begin in {subnet}"));
        }
        if let (Some(range), Some(subnet)) = (self.range, self.ipv4)
            && !(subnet.contains(range.first) && subnet.contains(range.last))
        {
            return fault("range", format!("({range}) is not within {subnet}"));
        }
        if self.lease_time < Timeout::from_secs(10) {
            return fault("lease-time", format!("({}) is shorter than 10s", self.lease_time));
        }
        let label = |label: &str| label.parse::<crate::types::ContainerName>().is_ok();
        let is_domain = |domain: &str| domain.len() <= 200 && domain.split('.').all(label);
        if !is_domain(&self.domain) {
            return fault("domain", format!("(`{}`) is not a domain name", self.domain.escape_default()));
        }
        if let Some(name) = self.private_names.iter().find(|name| *name != "*" && !is_domain(name)) {
            return fault("private-names", format!("(`{}`) is neither a domain name nor `*`", name.escape_default()));
        }
        Ok(())
    }
}

/// Why a bridge and its guests cannot have addresses of this network, if they cannot.
fn unfit4(net: Ipv4Network) -> Option<&'static str> {
    let ip = net.ip();
    if ip.is_loopback() || ip.is_multicast() || ip.octets()[0] == 0 || ip.octets()[0] >= 240 {
        return Some("is not an address that a machine can have");
    }
    if !(8..=30).contains(&net.prefix()) {
        return Some("must be a network from /8 to /30");
    }
    let outer = [net.network(), net.broadcast()];
    outer.contains(&ip).then_some("must be an address within its network, not its first or last")
}

/// The same for IPv6.
fn unfit6(net: Ipv6Network) -> Option<&'static str> {
    let ip = net.ip();
    if net.prefix() != 64 {
        return Some("must be a /64: guests make their addresses from it");
    }
    if ip.is_multicast() || ip.is_unicast_link_local() || net.network().is_unspecified() {
        return Some("is not an address that a machine can have");
    }
    (ip == net.network()).then_some("must be an address within its network, not its first")
}

impl NetworkFile {
    /// Parses its text; errors name `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let file: Self = config::parse(text, path)?;
        file.bridge.iter().try_for_each(|(name, bridge)| bridge.check(name)).context(|| path.display().to_string())?;
        Ok(file)
    }

    /// The settings of a bridge of ours; fails with `Kind::NotFound` for any other.
    pub fn get(&self, bridge: &str) -> Result<&BridgeSettings> {
        self.bridge.get(bridge).ok_or_else(|| {
            let error = Error::not_found(format!("bridge `{bridge}` is not one of lxm's"));
            match closest(bridge, self.bridge.keys().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("`lxm network show` lists them"),
            }
        })
    }
}

/// `10.0.3.10-10.0.3.99`: both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad = || Error::config(format!("`{s}` is not a range")).hint("write `10.0.3.10-10.0.3.99`");
        let (first, last) = s.split_once('-').ok_or_else(bad)?;
        let parse = |text: &str| text.trim().parse::<Ipv4Addr>().map_err(|_| bad());
        let range = Range { first: parse(first)?, last: parse(last)? };
        if range.first > range.last { Err(bad()) } else { Ok(range) }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

crate::types::serde_as_text!(Range);

/// `192.168.9.0/24 via 10.0.3.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub to: Ipv4Network,
    pub via: Ipv4Addr,
}

impl FromStr for Route {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad = || Error::config(format!("`{s}` is not a route")).hint("write `192.168.9.0/24 via 10.0.3.7`");
        let (to, via) = s.split_once(" via ").ok_or_else(bad)?;
        Ok(Route { to: to.trim().parse().map_err(|_| bad())?, via: via.trim().parse().map_err(|_| bad())? })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} via {}", self.to, self.via)
    }
}

crate::types::serde_as_text!(Route);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NetworkFile> {
        NetworkFile::parse(text, Path::new("network.toml"))
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = "[bridge.lxmbr0]\nipv4 = \"10.9.8.1/24\"\nipv6 = \"fd00:1::1/64\"\nrange = \"10.9.8.10-10.9.8.20\"\n\
                    route = [\"192.168.9.0/24 via 10.9.8.7\"]\nlease-time = \"20s\"\nntp = [\"10.9.8.1\"]\nmtu = 1400\n";
        let file = parse(text).unwrap();
        let bridge = file.get("lxmbr0").unwrap();
        assert_eq!((bridge.nat, bridge.dhcp, bridge.domain.as_str()), (true, true, "lxm"));
        assert_eq!(parse(&toml::to_string(&file).unwrap()).unwrap(), file);
        assert_eq!(file.get("br0").unwrap_err().kind().exit_status(), 3);
    }

    #[test]
    fn a_setting_is_changed_as_it_is_typed() {
        let settings = BridgeSettings::default();
        let with = |key: &str, value: &str| settings.with(key, value);
        assert!(!with("nat", "false").unwrap().nat);
        assert_eq!(with("mtu", "1400").unwrap().mtu, Some(1400));
        let without = with("ipv6", "none").unwrap();
        assert!(without.without_ipv6 && without.check("b").is_ok());
        assert!(!without.with("ipv6", "fd00:1::1/64").unwrap().without_ipv6);
        assert!(!without.with("ipv6", "").unwrap().without_ipv6);
        assert_eq!(with("upstream", "9.9.9.9, 2620:fe::fe").unwrap().upstream.len(), 2);
        assert_eq!(with("ipv4", "10.1.2.1/24").unwrap().ipv4.unwrap().to_string(), "10.1.2.1/24");
        assert!(!with("routed", "false").unwrap().with("nat", "false").unwrap().is_routed());
        assert!(with("nat", "false").unwrap().is_routed() && !settings.is_routed());
        assert_eq!(with("private-names", "corp.example, *").unwrap().private_names.len(), 2);
        assert_eq!(with("domain", "lab").unwrap().with("domain", "").unwrap().domain, "lxm");
        for (key, value) in [("nat", "maybe"), ("mtu", "x"), ("ipv4", "10.1.2.1/99"), ("colour", "red"), ("route", "x")]
        {
            assert_eq!(with(key, value).unwrap_err().kind().exit_status(), 2, "{key}");
        }
    }

    #[test]
    fn the_pool_is_the_range_or_every_host_address() {
        let pool = |text: &str| parse(text).unwrap().get("b").unwrap().pool();
        let pair = |a: &str, b: &str| Some((a.parse().unwrap(), b.parse().unwrap()));
        assert_eq!(pool("[bridge.b]\nipv4 = \"10.9.8.1/24\""), pair("10.9.8.1", "10.9.8.254"));
        let ranged = "[bridge.b]\nipv4 = \"10.9.8.1/24\"\nrange = \"10.9.8.2-10.9.8.3\"";
        assert_eq!(pool(ranged), pair("10.9.8.2", "10.9.8.3"));
        assert_eq!(pool("[bridge.b]"), None);
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_key() {
        for (line, key) in [
            ("ipv4 = \"10.9.8.1/24\"\nrange = \"10.9.7.2-10.9.8.3\"", "range"),
            ("range = \"10.9.8.3-10.9.8.2\"", "range"),
            ("ipv4 = \"127.0.0.1/8\"", "ipv4"),
            ("ipv4 = \"224.0.0.1/24\"", "ipv4"),
            ("ipv4 = \"0.0.0.1/0\"", "ipv4"),
            ("ipv4 = \"10.9.8.1/32\"", "ipv4"),
            ("ipv4 = \"10.9.8.0/24\"", "ipv4"),
            ("ipv4 = \"10.9.8.255/24\"", "ipv4"),
            ("ipv6 = \"fd00::1/48\"", "ipv6"),
            ("ipv6 = \"fd00::/64\"", "ipv6"),
            ("ipv6 = \"::1/64\"", "ipv6"),
            ("ipv6 = \"ff02::1/64\"", "ipv6"),
            ("mtu = 20", "mtu"),
            ("ipv6 = \"fd00::1/64\"\nmtu = 1000", "mtu"),
            ("ipv6 = \"fd00::1/64\"\nwithout-ipv6 = true", "without-ipv6"),
            ("ipv4 = \"10.9.8.1/24\"\nroute = [\"10.1.0.0/16 via 10.9.9.1\"]", "route"),
            ("lease-time = \"1s\"", "lease-time"),
            ("domain = \"a..b\"", "domain"),
            ("domain = \"\"", "domain"),
            ("private-names = [\"a..b\"]", "private-names"),
            ("route = [\"10.0.0.0/8\"]", "route"),
        ] {
            let e = parse(&format!("[bridge.b]\n{line}\n")).unwrap_err();
            assert!(e.to_string().contains(key), "{e}");
            assert_eq!(e.kind().exit_status(), 6, "{e}");
        }
    }
}
