//! The text of the two tables, a pure function of what is known.
//!
//! It is nft's own language and not its JSON, which has no form for the sets that tie addresses to
//! stations (`typeof` of raw payload).

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use crate::config::{Publish, PublishProtocol};
use crate::net::bridge;
use crate::net::link::{GROUP_CHECKED, GROUP_ISOLATED};
use crate::net::owner;
use crate::net::settings::BridgeSettings;
use crate::types::Mac;

/// All that the rules depend on.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Name of both tables: each state directory of the host has its own ([`crate::net::owner`]).
    pub tag: String,
    pub bridges: Vec<(String, BridgeSettings)>,
    /// Addresses that are set and not leased: they are their station's for as long as it runs.
    pub fixed: Vec<(Mac, Ipv4Addr)>,
    /// Addresses under lease. New leases add themselves, see the chain `learn`.
    pub leased: Vec<(Mac, Ipv4Addr)>,
    pub published: Vec<Published>,
}

/// A published port whose guest has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub publish: Publish,
    pub guest: IpAddr,
}

impl Published {
    /// Not where it listens on loopback, nor on addresses of the other family.
    fn is_reached_from_outside(&self) -> bool {
        self.publish.listen.is_none_or(|at| !at.is_loopback() && at.is_ipv4() == self.guest.is_ipv4())
    }
}

/// The table that routes: translation, and what the host accepts from its guests.
pub fn inet_table(facts: &Facts) -> String {
    let tag = &facts.tag;
    let mut text = format!("table inet {tag}\ndelete table inet {tag}\ntable inet {tag} {{\n");
    let names: Vec<String> = facts.bridges.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    set(&mut text, "bridges", "type ifname;", &names);
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
    text.push_str(
        "  chain forward {\n    type filter hook forward priority filter; policy accept;\n    \
         iifname @bridges accept\n    oifname @bridges accept\n    ct status dnat accept\n  }\n",
    );
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

fn translation(Published { publish, guest }: &Published) -> String {
    let protocol = match publish.protocol {
        PublishProtocol::Tcp => "tcp",
        PublishProtocol::Udp => "udp",
    };
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

/// The table that keeps guests honest: what a port of ours may send, whoever's bridge it is on.
///
/// No rule names a guest. Ports are told by their link group, which is the owner's: on bridges of another
/// state directory (`LXM_ROOT`) other addresses are the right ones; a port carries its guest's hardware
/// address alone because the bridge locks it; an IPv4 address is a station's when our server has
/// leased it (the chain `learn` sees the answer pass) or lxm has set it; an IPv6 address is the
/// first speaker's for as long as it is used.
pub fn bridge_table(facts: &Facts) -> String {
    let tag = &facts.tag;
    let mut text = format!("table bridge {tag}\ndelete table bridge {tag}\ntable bridge {tag} {{\n");
    const PAIR4: &str = "typeof @ll,48,48 . @nh,96,32;";
    let elements = |list: &[(Mac, Ipv4Addr)]| if list.is_empty() { Vec::new() } else { vec![pairs(list)] };
    // A lease that its client does not renew ends long before this.
    let longest = facts.bridges.iter().map(|(_, bridge)| bridge.lease_time.get().as_secs()).max().unwrap_or(0);
    let keep = longest.saturating_mul(2).clamp(3600, 365 * 86_400);
    set(&mut text, "fixed", PAIR4, &elements(&facts.fixed));
    let leased = format!("{PAIR4} size 65535; flags dynamic,timeout; timeout {keep}s;");
    set(&mut text, "leased", &leased, &elements(&facts.leased));
    // Networks behind guests, which these may send from.
    let routed = facts.bridges.iter().flat_map(|(_, bridge)| &bridge.route).map(|route| route.to.to_string());
    set(&mut text, "routed4", "type ipv4_addr; flags interval; auto-merge;", &routed.collect::<Vec<_>>());
    let mut networks = vec!["fe80::/10".to_owned()];
    networks.extend(
        facts.bridges.iter().filter_map(|(_, bridge)| bridge.ipv6).map(|n| format!("{}/{}", n.network(), n.prefix())),
    );
    set(&mut text, "networks6", "type ipv6_addr; flags interval; auto-merge;", &networks);
    let gateways = facts.bridges.iter().flat_map(|(name, bridge)| {
        let own = bridge.ipv6.map(|net| net.ip());
        own.into_iter().chain([bridge::link_local(bridge::mac(name, bridge))])
    });
    let gateways: Vec<String> = gateways.map(|address| format!("{:#034x}", u128::from(address))).collect();
    set(&mut text, "gateways6", "typeof @nh,64,128;", &gateways);
    text.push_str(BRIDGE_SETS);
    let group = owner::group(tag);
    let with = |flags: &[u32]| flags.iter().map(|flag| (group | flag).to_string()).collect::<Vec<_>>().join(", ");
    let isolated = with(&[GROUP_ISOLATED, GROUP_ISOLATED | GROUP_CHECKED]);
    let all = with(&[0, GROUP_CHECKED, GROUP_ISOLATED, GROUP_ISOLATED | GROUP_CHECKED]);
    let checked = with(&[GROUP_CHECKED, GROUP_ISOLATED | GROUP_CHECKED]);
    let _ = write!(
        text,
        "  chain forward {{\n    type filter hook forward priority filter; policy accept;\n    \
         meta iifgroup {{ {isolated} }} meta oifgroup {{ {all} }} drop\n    \
         meta iifgroup {{ {all} }} meta oifgroup {{ {isolated} }} drop\n  }}\n  \
         chain prerouting {{\n    type filter hook prerouting priority dstnat; policy accept;\n    \
         meta iifgroup {{ {checked} }} jump check\n  }}\n"
    );
    text.push_str(BRIDGE_CHAINS);
    text.push_str("}\n");
    text
}

/// Elements of the sets `fixed` and `leased`.
pub fn pairs(list: &[(Mac, Ipv4Addr)]) -> String {
    let pair = |(mac, address): &(Mac, Ipv4Addr)| format!("{} . {:#010x}", number(*mac), u32::from(*address));
    list.iter().map(pair).collect::<Vec<_>>().join(", ")
}

/// A hardware address as raw payload is written.
fn number(mac: Mac) -> String {
    let [a, b, c, d, e, f] = mac.0;
    format!("{:#014x}", u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

/// `owned6` are the IPv6 addresses in use, `bound6` by whom. A guest that claims more than twenty a
/// minute is trying to fill them.
const BRIDGE_SETS: &str = "  \
  set owned6 { typeof @nh,64,128; size 65535; flags dynamic,timeout; timeout 1h; }
  set bound6 { typeof @nh,64,128 . @ll,48,48; size 65535; flags dynamic,timeout; timeout 1h; }
  set claims6 { typeof @ll,48,48; size 65535; flags dynamic,timeout; timeout 1m; }
";

/// Offsets in bits. Of an IPv4 header: 96 source. Of ARP: 64 sender's station, 112 sender's
/// address. Of IPv6: 64 source. Of a neighbour advertisement: 64 its target. Of a BOOTP reply in
/// UDP: 64 its kind, 192 the client's address, 288 the client's station.
const BRIDGE_CHAINS: &str = "  \
  chain learn {
    type filter hook output priority filter; policy accept;
    udp sport 67 udp dport 68 @th,64,8 2 update @leased { @th,288,48 . @th,192,32 }
  }
  chain check {
    udp sport { 67, 547 } drop
    icmpv6 type nd-router-advert drop
    meta protocol ip goto check4
    meta protocol arp goto check_arp
    meta protocol ip6 goto check6
    drop
  }
  chain check4 {
    @ll,48,48 . @nh,96,32 @leased accept
    @ll,48,48 . @nh,96,32 @fixed accept
    ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
    ip saddr @routed4 accept
    drop
  }
  chain check_arp {
    @nh,64,48 . @nh,112,32 @leased accept
    @nh,64,48 . @nh,112,32 @fixed accept
    arp operation request arp saddr ip 0.0.0.0 accept
    drop
  }
  chain check6 {
    icmpv6 type nd-neighbor-advert jump advertisement6
    ip6 saddr :: accept
    @nh,64,128 . @ll,48,48 @bound6 update @bound6 { @nh,64,128 . @ll,48,48 } update @owned6 { @nh,64,128 } accept
    @nh,64,128 @gateways6 drop
    ip6 saddr != @networks6 drop
    @nh,64,128 @owned6 drop
    update @claims6 { @ll,48,48 limit rate over 20/minute burst 60 packets } drop
    add @owned6 { @nh,64,128 } add @bound6 { @nh,64,128 . @ll,48,48 } accept
    drop
  }
  chain advertisement6 {
    @th,64,128 . @ll,48,48 @bound6 return
    @th,64,128 @gateways6 drop
    @th,64,128 @owned6 drop
    update @claims6 { @ll,48,48 limit rate over 20/minute burst 60 packets } drop
    add @owned6 { @th,64,128 } add @bound6 { @th,64,128 . @ll,48,48 } return
    drop
  }
";

fn set(text: &mut String, name: &str, kind: &str, elements: &[String]) {
    // nft takes no empty list of elements.
    let elements =
        if elements.is_empty() { String::new() } else { format!(" elements = {{ {} }}", elements.join(", ")) };
    let _ = writeln!(text, "  set {name} {{ {kind}{elements} }}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let settings = |text: &str| toml::from_str::<BridgeSettings>(text).unwrap();
        Facts {
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
            fixed: vec![(Mac([2, 0, 0, 0, 0, 5]), Ipv4Addr::new(10, 99, 0, 5))],
            leased: Vec::new(),
            published: vec![
                Published { publish: "8080:80".parse().unwrap(), guest: "10.99.0.5".parse().unwrap() },
                Published { publish: "192.0.2.1:53:5353/udp".parse().unwrap(), guest: "10.99.0.5".parse().unwrap() },
                Published { publish: "[::]:8080:80".parse().unwrap(), guest: "fd00:1::5".parse().unwrap() },
            ],
        }
    }

    #[test]
    fn only_bridges_with_nat_are_translated_and_never_towards_our_own_networks() {
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
    fn stations_and_addresses_are_written_as_raw_payload() {
        let text = bridge_table(&facts());
        assert!(
            text.contains("set fixed { typeof @ll,48,48 . @nh,96,32; elements = { 0x020000000005 . 0x0a630005 } }")
        );
        assert!(
            text.contains("set routed4 { type ipv4_addr; flags interval; auto-merge; elements = { 10.7.0.0/16 } }")
        );
        assert!(text.contains("elements = { fe80::/10, fd00:1::/64 }"));
        assert!(text.contains("0xfd000001000000000000000000000001"));
    }
}
