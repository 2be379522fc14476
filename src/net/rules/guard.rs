//! The text of the table that keeps guests honest: what a port of ours may send, whoever's bridge it
//! is on, as a pure function of what is known.
//!
//! No rule names a guest. Ports are recognised by their link group, which is the owner's: on bridges of
//! another state directory (`LXM_ROOT`) other addresses are the right ones. A port carries its guest's
//! hardware address alone because the bridge locks it. What is filtered is what a victim accepts, not what an
//! honest sender does. A MAC address may use an address that lxm has given it: leased (the chain `learn` sees
//! the answer pass), set, or made of the hardware address that lxm has chosen; no other guest may use such an
//! address from its start to its end. Any other IPv6 address belongs to its first sender for as long as it is
//! used, and a MAC address has a few of those.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::elements::{number_of, number4, number6};
use super::holding::{Holding, Permit, prefix_of};
use super::tables::{RuleInputs, set};
use crate::net::bridge;
use crate::net::groups::{self, GROUP_CHECKED, GROUP_ISOLATED};

/// All flags of a group.
const GROUP_ALL: u32 = GROUP_CHECKED | GROUP_ISOLATED;

/// The whole table.
pub(super) fn bridge_table(facts: &RuleInputs) -> String {
    let tag = &facts.tag;
    let mut text = format!("table bridge {tag}\ndelete table bridge {tag}\ntable bridge {tag} {{\n");
    sets4(&mut text, facts);
    sets6(&mut text, facts);
    let group = groups::of_owner(tag);
    // A mask and a comparison cost a packet less than a lookup in a set.
    let some = |which: &str, flag: u32| format!("meta {which} & {:#x} == {:#x}", !(GROUP_ALL ^ flag), group | flag);
    let any = |which: &str| format!("meta {which} & {:#x} == {group:#x}", !GROUP_ALL);
    let (from_isolated, to_isolated) = (some("iifgroup", GROUP_ISOLATED), some("oifgroup", GROUP_ISOLATED));
    let (from_any, to_any) = (any("iifgroup"), any("oifgroup"));
    let from_checked = some("iifgroup", GROUP_CHECKED);
    let _ = write!(
        text,
        "  chain forward {{\n    type filter hook forward priority filter; policy accept;\n    \
         {from_isolated} {to_any} drop\n    {to_isolated} {from_any} drop\n  }}\n  \
         chain prerouting {{\n    type filter hook prerouting priority dstnat; policy accept;\n    \
         {from_isolated} jump from_isolated\n    {from_checked} jump check\n    \
         {from_any} {TO_THE_BRIDGE} drop\n  }}\n  \
         chain learn {{\n    type filter hook output priority filter; policy accept;\n    \
         {to_isolated} jump to_isolated\n    \
         udp sport 67 udp dport 68 @th,64,8 2 jump lease\n  }}\n"
    );
    text.push_str(CHAINS);
    text.push_str("}\n");
    text
}

/// What bridges tell each other (IEEE 802.1D, table 7-10), the spanning tree above all. A guest is no
/// bridge, and a switch that guards against such closes the host's own port.
const TO_THE_BRIDGE: &str = "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00";

fn sets4(text: &mut String, facts: &RuleInputs) {
    const PAIR: &str = "typeof @ll,48,48 . @nh,96,32;";
    let pairs = |list: &[Holding]| -> Vec<String> {
        let pair = |holding: &Holding| match holding.address {
            IpAddr::V4(address) => Some(format!("{} . {}", number_of(holding.mac), number4(address))),
            IpAddr::V6(_) => None,
        };
        list.iter().filter_map(pair).collect()
    };
    // A lease that its client does not renew ends long before this.
    let longest = facts.bridges.iter().map(|(_, bridge)| bridge.lease_time.get().as_secs()).max().unwrap_or(0);
    let keep = longest.saturating_mul(2).clamp(3600, 365 * 86_400);
    set(text, "fixed", PAIR, &pairs(&facts.fixed));
    let leased = format!("{PAIR} size 65535; flags dynamic,timeout; timeout {keep}s;");
    set(text, "leased", &leased, &pairs(&facts.leased));
    let allowed = |permit: &Permit| match permit.net {
        IpNetwork::V4(net) => {
            let mac = number_of(permit.mac);
            Some(format!("{mac} . {}-{}", number4(net.network()), number4(net.broadcast())))
        }
        IpNetwork::V6(_) => None,
    };
    let allowed: Vec<String> = facts.permits.iter().filter_map(allowed).collect();
    set(text, "allowed4", &format!("{PAIR} flags interval;"), &allowed);
    let networks = facts.bridges.iter().filter_map(|(_, bridge)| bridge.ipv4);
    let own: Vec<String> = networks.clone().map(|net| format!("{}/{}", net.network(), net.prefix())).collect();
    set(text, "own4", "type ipv4_addr; flags interval; auto-merge;", &own);
    let gateways: Vec<String> = networks.map(|net| net.ip().to_string()).collect();
    set(text, "gateways4", "type ipv4_addr;", &gateways);
    // Networks behind guests, and the guests that are the way there, which may send from them.
    let routes = || facts.bridges.iter().flat_map(|(_, bridge)| &bridge.route);
    let routed = routes().map(|route| route.to.to_string());
    set(text, "routed4", "type ipv4_addr; flags interval; auto-merge;", &routed.collect::<Vec<_>>());
    let mut ways: Vec<String> = routes().map(|route| number4(route.via)).collect();
    ways.sort();
    ways.dedup();
    set(text, "ways4", "typeof @nh,96,32;", &ways);
    let is_way = |holding: &&Holding| routes().any(|route| IpAddr::V4(route.via) == holding.address);
    let mut routers: Vec<String> =
        facts.fixed.iter().chain(&facts.leased).filter(is_way).map(|holding| number_of(holding.mac)).collect();
    routers.sort();
    routers.dedup();
    let kind = format!("typeof @ll,48,48; size 65535; flags dynamic,timeout; timeout {keep}s;");
    set(text, "routers4", &kind, &routers);
}

fn sets6(text: &mut String, facts: &RuleInputs) {
    let held = |holding: &Holding| match holding.address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some((number6(address), number_of(holding.mac))),
    };
    let held: Vec<(String, String)> = facts.fixed.iter().filter_map(held).collect();
    let pairs: Vec<String> = held.iter().map(|(address, mac)| format!("{address} . {mac}")).collect();
    set(text, "fixed6", "typeof @nh,64,128 . @ll,48,48;", &pairs);
    let allowed = |permit: &Permit| match permit.net {
        IpNetwork::V6(net) => {
            let mac = number_of(permit.mac);
            Some(format!("{}-{} . {mac}", number6(net.network()), number6(net.broadcast())))
        }
        IpNetwork::V4(_) => None,
    };
    let allowed: Vec<String> = facts.permits.iter().filter_map(allowed).collect();
    set(text, "allowed6", "typeof @nh,64,128 . @ll,48,48; flags interval;", &allowed);
    let gateways = facts.bridges.iter().flat_map(|(name, bridge)| {
        let own = bridge.ipv6.map(|net| net.ip());
        own.into_iter().chain([bridge::mac(name, bridge).link_local()])
    });
    let gateways: Vec<String> = gateways.map(number6).collect();
    set(text, "gateways6", "typeof @nh,64,128;", &gateways);
    let singles = facts.permits.iter().filter_map(Permit::single6).map(number6);
    let mut all: Vec<String> = held.into_iter().map(|(address, _)| address).chain(gateways).chain(singles).collect();
    all.sort();
    all.dedup();
    set(text, "held6", "typeof @nh,64,128;", &all);
    let mut prefixes = vec!["0xfe80000000000000".to_owned()];
    let own = facts.bridges.iter().filter_map(|(_, bridge)| bridge.ipv6);
    prefixes.extend(own.map(|net| format!("{:#018x}", prefix_of(net.network()))));
    set(text, "prefixes6", "typeof @nh,64,64;", &prefixes);
    let macs = facts.bridges.iter().map(|(name, bridge)| number_of(bridge::mac(name, bridge)));
    set(text, "gateway_macs", "typeof @ll,0,48;", &macs.collect::<Vec<_>>());
    text.push_str(
        "  set owned6 { typeof @nh,64,128; size 65535; flags dynamic,timeout; timeout 1h; }\n  \
           set bound6 { typeof @nh,64,128 . @ll,48,48; size 65535; flags dynamic,timeout; timeout 1h; }\n  \
           set dropped { typeof @ll,48,48; size 65535; flags dynamic,timeout; timeout 1h; }\n  \
           set dropped4 { typeof @ll,48,48 . @nh,96,32; size 4096; flags dynamic,timeout; timeout 10m; }\n  \
           set dropped6 { typeof @nh,64,128 . @ll,48,48; size 4096; flags dynamic,timeout; timeout 10m; }\n  \
           set claims6 { typeof @ll,48,48; size 65535; flags dynamic,timeout; timeout 1h; }\n",
    );
}

/// Offsets in bits. Of an IPv4 header: 96 source. Of ARP: 64 sender's MAC address, 112 sender's address, 192
/// the address that is asked for. Of IPv6: 48 the next header, 64 source, 192 destination. Of a neighbour
/// solicitation and advertisement: 64 its target. Of a BOOTP reply in UDP: 64 its kind, 192 the client's
/// address, 288 the client's MAC address.
///
/// `ether type` and not `meta protocol`: of a frame with a VLAN tag the latter is what the tag hides, but
/// nft's own rules for a protocol match the former, and would all pass such a frame by.
///
/// `l4proto != 255` matches every packet whose headers the kernel could follow to their end, and none
/// else: programs that listen on the link itself, as DHCP clients do, read those too. Protocols are numbers: nft
/// looks names up in /etc/protocols, which a small system does not have (58 is ICMPv6, 50 ESP, 132 SCTP).
///
/// `allowed4` and `allowed6` are what guests may use by their settings; a gateway's address is nobody's. What a guest
/// sends from an address that is not its own is counted in `dropped`, and its addresses are in `dropped4` and
/// `dropped6`; where those are full it is dropped all the same.
///
/// `owned6` are the IPv6 addresses in use that lxm has not given, `bound6` by whom; `claims6` counts them: a
/// MAC address has 32 at once, and 32 more in an hour.
const CHAINS: &str = "  \
  chain lease {
    @th,192,32 0 return
    update @leased { @th,288,48 . @th,192,32 }
    @th,192,32 @ways4 update @routers4 { @th,288,48 }
  }
  chain from_isolated {
    ip daddr @own4 ip daddr != @gateways4 drop
    ip daddr @routed4 drop
    meta protocol ip6 @nh,192,64 @prefixes6 @nh,192,128 != @gateways6 drop
  }
  chain to_isolated {
    ip saddr @own4 ip saddr != @gateways4 drop
    ip saddr @routed4 drop
    meta protocol ip6 @nh,64,64 @prefixes6 @nh,64,128 != @gateways6 drop
  }
  chain check {
    ether type ip goto check4
    ether type arp goto check_arp
    ether type ip6 goto check6
    drop
  }
  chain control4 {
    icmp type redirect drop
    igmp type membership-query drop
  }
  chain check4 {
    udp dport 68 drop
    meta l4proto 1-2 jump control4
    meta l4proto != 255 @ll,48,48 . @nh,96,32 @leased accept
    meta l4proto != 255 @ll,48,48 . @nh,96,32 @fixed accept
    ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
    meta l4proto != 255 ip saddr @routed4 @ll,48,48 @routers4 accept
    ip saddr @gateways4 drop
    meta l4proto != 255 @ll,48,48 . @nh,96,32 @allowed4 accept
    @nh,96,32 0 drop
    goto dropped4
  }
  chain dropped4 {
    update @dropped { @ll,48,48 counter }
    update @dropped4 { @ll,48,48 . @nh,96,32 } drop
    drop
  }
  chain check_arp {
    @nh,64,48 . @nh,112,32 @leased accept
    @nh,64,48 . @nh,112,32 @fixed accept
    arp operation request arp saddr ip 0.0.0.0 @ll,48,48 . @nh,192,32 @leased accept
    arp operation request arp saddr ip 0.0.0.0 @ll,48,48 . @nh,192,32 @fixed accept
    arp saddr ip @gateways4 drop
    @nh,64,48 . @nh,112,32 @allowed4 accept
    arp operation request arp saddr ip 0.0.0.0 @ll,48,48 . @nh,192,32 @allowed4 accept
    @nh,112,32 0 drop
    update @dropped { @ll,48,48 counter }
    update @dropped4 { @ll,48,48 . @nh,112,32 } drop
    drop
  }
  chain check6 {
    @nh,48,8 { 0, 43, 44, 51, 60 } jump extended6
    udp dport 546 drop
    meta l4proto 58 jump icmp6
    @ll,0,48 @gateway_macs @nh,192,64 @prefixes6 @nh,192,128 != @held6 @nh,192,128 != @owned6 drop
    meta l4proto != 255 @nh,64,128 . @ll,48,48 @fixed6 accept
    meta l4proto != 255 @nh,64,128 . @ll,48,48 @bound6 update @bound6 { @nh,64,128 . @ll,48,48 } update @owned6 { @nh,64,128 } accept
    ip6 saddr :: meta l4proto 58 accept
    @nh,64,128 @gateways6 drop
    meta l4proto != 255 @nh,64,128 . @ll,48,48 @allowed6 accept
    @nh,64,64 != @prefixes6 goto dropped6
    @nh,64,128 @held6 goto dropped6
    @nh,64,128 @owned6 goto dropped6
    update @claims6 { @ll,48,48 limit rate over 32/hour burst 32 packets } drop
    meta l4proto != 255 add @owned6 { @nh,64,128 } add @bound6 { @nh,64,128 . @ll,48,48 } accept
    drop
  }
  chain dropped6 {
    update @dropped { @ll,48,48 counter }
    update @dropped6 { @nh,64,128 . @ll,48,48 } drop
    drop
  }
  chain extended6 {
    frag nexthdr { 0, 43, 44, 51, 60 } drop
    exthdr frag exists icmpv6 type 130-137 drop
    meta l4proto { 6, 17, 50, 58, 132 } return
    drop
  }
  chain icmp6 {
    icmpv6 type vmap { nd-router-advert : drop, nd-redirect : drop, mld-listener-query : drop, 151 : drop, nd-neighbor-advert : goto target6, nd-neighbor-solicit : goto solicited6, nd-router-solicit : return, mld-listener-report : return, mld-listener-done : return, mld2-listener-report : return }
    ip6 saddr :: drop
  }
  chain solicited6 {
    ip6 saddr != :: return
    goto target6
  }
  chain target6 {
    @th,64,128 . @ll,48,48 @fixed6 return
    @th,64,128 . @ll,48,48 @bound6 return
    @th,64,128 @gateways6 drop
    @th,64,128 . @ll,48,48 @allowed6 return
    @th,64,64 != @prefixes6 drop
    @th,64,128 @held6 drop
    @th,64,128 @owned6 drop
    update @claims6 { @ll,48,48 limit rate over 32/hour burst 32 packets } drop
    add @owned6 { @th,64,128 } add @bound6 { @th,64,128 . @ll,48,48 } return
    drop
  }
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::bridge::BridgeSettings;
    use crate::types::Mac;

    #[test]
    fn addresses_are_written_as_raw_payload() {
        let settings: BridgeSettings =
            toml::from_str("ipv4 = \"10.99.0.1/24\"\nipv6 = \"fd00:1::1/64\"\nroute = [\"10.7.0.0/16 via 10.99.0.9\"]")
                .unwrap();
        let holding =
            |last: u8, address: &str| Holding { mac: Mac([2, 0, 0, 0, 0, last]), address: address.parse().unwrap() };
        let facts = RuleInputs {
            bridges: vec![("lxmbr0".into(), settings)],
            tag: "lxm".into(),
            fixed: vec![holding(5, "10.99.0.5"), holding(5, "fd00:1::5"), holding(9, "10.99.0.9")],
            ..RuleInputs::default()
        };
        let text = bridge_table(&facts);
        for part in [
            "set fixed { typeof @ll,48,48 . @nh,96,32; elements = { 0x020000000005 . 0x0a630005, 0x020000000009 . 0x0a630009 } }",
            "set routed4 { type ipv4_addr; flags interval; auto-merge; elements = { 10.7.0.0/16 } }",
            "elements = { 0x020000000009 } }",
            "elements = { 0xfe80000000000000, 0xfd00000100000000 }",
            "elements = { 0xfd000001000000000000000000000005 . 0x020000000005 }",
            "set gateways4 { type ipv4_addr; elements = { 10.99.0.1 } }",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
