//! The text of the table that routes, a pure function of what is known; [`super::guard`] is the other.
//!
//! It is nft's own language and not its JSON, which has no form for the sets that tie IP to MAC addresses
//! (`typeof` of raw payload).

use std::fmt::Write as _;
use std::net::IpAddr;

use super::holding::{Holding, Permit};
use crate::config::bridge::BridgeSettings;
use crate::net::publish::Published;

/// All that the rules depend on.
#[derive(Debug, Clone, Default)]
pub(super) struct RuleInputs {
    /// Name of both tables: each state directory of the host has its own ([`crate::net::owner`]).
    pub tag: String,
    pub bridges: Vec<(String, BridgeSettings)>,
    /// Addresses that are not leased: reserved for a MAC address for as long as its guest runs.
    pub fixed: Vec<Holding>,
    /// What guests may use by their settings.
    pub permits: Vec<Permit>,
    /// Addresses under lease. New leases add themselves, see the chain `learn`.
    pub leased: Vec<Holding>,
    pub published: Vec<Published>,
}

/// The table that routes: translation, and what the host accepts from its guests.
pub(super) fn inet_table(facts: &RuleInputs) -> String {
    let tag = &facts.tag;
    let mut text = format!("table inet {tag}\ndelete table inet {tag}\ntable inet {tag} {{\n");
    let names: Vec<String> = facts.bridges.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    set(&mut text, "bridges", "type ifname;", &names);
    let routed = facts.bridges.iter().filter(|(_, bridge)| bridge.is_routed()).map(|(name, _)| format!("\"{name}\""));
    set(&mut text, "routed", "type ifname;", &routed.collect::<Vec<_>>());
    let v4 = facts.bridges.iter().filter_map(|(_, bridge)| bridge.ipv4);
    let v4: Vec<String> = v4.map(|net| format!("{}/{}", net.network(), net.prefix())).collect();
    set(&mut text, "own4", "type ipv4_addr; flags interval; auto-merge;", &v4);
    let v6 = facts.bridges.iter().filter_map(|(_, bridge)| bridge.ipv6);
    let v6: Vec<String> = v6.map(|net| format!("{}/{}", net.network(), net.prefix())).collect();
    set(&mut text, "own6", "type ipv6_addr; flags interval; auto-merge;", &v6);
    text.push_str(
        "  chain input {\n    type filter hook input priority filter; policy accept;\n    \
         iifname @bridges udp dport { 53, 67, 547 } accept\n    iifname @bridges tcp dport 53 accept\n  }\n",
    );
    text.push_str(FORWARD);
    text.push_str("  chain postrouting {\n    type nat hook postrouting priority srcnat; policy accept;\n");
    for (_, bridge) in facts.bridges.iter().filter(|(_, bridge)| bridge.nat) {
        // Not to multicast, and not between networks of ours: guests see each other's own addresses.
        if let Some(net) = bridge.ipv4 {
            let net = format!("{}/{}", net.network(), net.prefix());
            let _ = writeln!(text, "    ip saddr {net} ip daddr != @own4 ip daddr != 224.0.0.0/4 masquerade");
        }
        if let Some(net) = bridge.ipv6 {
            let net = format!("{}/{}", net.network(), net.prefix());
            let _ = writeln!(text, "    ip6 saddr {net} ip6 daddr != @own6 ip6 daddr != ff00::/8 masquerade");
        }
    }
    text.push_str("  }\n");
    // What comes from a guest is left to the forwarder: translated, it would go back to the bridge
    // that it came from, and the answer past the host.
    text.push_str(
        "  chain prerouting {\n    type nat hook prerouting priority dstnat; policy accept;\n    \
         iifname @bridges return\n",
    );
    for published in facts.published.iter().filter(|published| published.is_reached_from_outside()) {
        let _ = writeln!(text, "    {}", translation(published));
    }
    text.push_str("  }\n}\n");
    text
}

/// Whoever has a route by this host reaches what is published, and no more: the bridges' networks are
/// private, but nothing keeps a neighbour on the LAN from setting a route to them.
const FORWARD: &str = "  \
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    iifname @bridges accept
    oifname @routed accept
    ct status dnat accept
    oifname @bridges drop
  }
";

fn translation(Published { publish, guest }: &Published) -> String {
    let protocol = publish.protocol.name();
    let family = if guest.is_ipv4() { "ipv4" } else { "ipv6" };
    let aimed_at = match publish.listen {
        Some(IpAddr::V4(address)) if !address.is_unspecified() => format!("ip daddr {address}"),
        Some(IpAddr::V6(address)) if !address.is_unspecified() => format!("ip6 daddr {address}"),
        _ => "fib daddr type local".into(),
    };
    let port = publish.guest_port;
    let to = match guest {
        IpAddr::V4(address) => format!("ip to {address}:{port}"),
        IpAddr::V6(address) => format!("ip6 to [{address}]:{port}"),
    };
    format!("meta nfproto {family} {aimed_at} {protocol} dport {} dnat {to}", publish.host_port)
}

pub(super) fn set(text: &mut String, name: &str, kind: &str, elements: &[String]) {
    // nft takes no empty list of elements.
    let elements =
        if elements.is_empty() { String::new() } else { format!(" elements = {{ {} }}", elements.join(", ")) };
    let _ = writeln!(text, "  set {name} {{ {kind}{elements} }}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> RuleInputs {
        let settings = |text: &str| toml::from_str::<BridgeSettings>(text).unwrap();
        RuleInputs {
            tag: "lxm".into(),
            bridges: vec![
                (
                    "lxmbr0".into(),
                    settings(
                        "ipv4 = \"10.99.0.1/24\"\nipv6 = \"fd00:1::1/64\"\nroute = [\"10.7.0.0/16 via 10.99.0.9\"]",
                    ),
                ),
                ("lab".into(), settings("ipv4 = \"10.98.0.1/24\"\nnat = false")),
            ],
            fixed: Vec::new(),
            permits: Vec::new(),
            leased: Vec::new(),
            published: vec![
                Published { publish: "8080:80".parse().unwrap(), guest: "10.99.0.5".parse().unwrap() },
                Published { publish: "192.0.2.1:53:5353/udp".parse().unwrap(), guest: "10.99.0.5".parse().unwrap() },
                Published { publish: "[::]:8080:80".parse().unwrap(), guest: "fd00:1::5".parse().unwrap() },
            ],
        }
    }

    #[test]
    fn nat_is_for_its_bridges_and_not_between_our_networks() {
        let text = inet_table(&facts());
        assert!(text.contains("ip saddr 10.99.0.0/24 ip daddr != @own4"));
        assert!(text.contains("ip6 saddr fd00:1::/64 ip6 daddr != @own6"));
        assert!(!text.contains("ip saddr 10.98.0.0/24"));
        assert!(text.contains("elements = { 10.99.0.0/24, 10.98.0.0/24 }"));
    }

    #[test]
    fn a_published_port_leads_to_its_guest_in_its_family() {
        let text = inet_table(&facts());
        for rule in [
            "meta nfproto ipv4 fib daddr type local tcp dport 8080 dnat ip to 10.99.0.5:80",
            "meta nfproto ipv4 ip daddr 192.0.2.1 udp dport 53 dnat ip to 10.99.0.5:5353",
            "meta nfproto ipv6 fib daddr type local tcp dport 8080 dnat ip6 to [fd00:1::5]:80",
        ] {
            assert!(text.contains(rule), "{rule}\n{text}");
        }
    }

    #[test]
    fn only_a_routed_bridge_is_reached_by_whoever_has_a_route() {
        let text = inet_table(&facts());
        assert!(text.contains("set routed { type ifname; elements = { \"lab\" } }"), "without translation: {text}");
        assert!(text.contains("oifname @routed accept\n    ct status dnat accept\n    oifname @bridges drop"));
    }
}
