//! What a bridge needs of iptables' filter tables, as nft and the old iptables write it.

use serde_json::{Value, json};

/// A family of addresses, with what the tools call it.
pub(super) struct Family {
    pub nft: &'static str,
    pub legacy: &'static str,
    /// The tables of the old iptables that are in use, in this network namespace.
    pub names: &'static str,
    icmp: &'static str,
    /// As nft may list it: by a name of its own, of /etc/protocols, or by number where that has none.
    icmp_names: [&'static str; 2],
    icmp_number: u8,
}

pub(super) const FAMILIES: [Family; 2] = [
    Family {
        nft: "ip",
        legacy: "iptables-legacy",
        names: "/proc/self/net/ip_tables_names",
        icmp: "icmp",
        icmp_names: ["icmp", "icmp"],
        icmp_number: 1,
    },
    Family {
        nft: "ip6",
        legacy: "ip6tables-legacy",
        names: "/proc/self/net/ip6_tables_names",
        icmp: "ipv6-icmp",
        icmp_names: ["ipv6-icmp", "icmpv6"],
        icmp_number: 58,
    },
];

/// What a bridge needs to be accepted.
pub(super) struct Wanted {
    pub hook: Hook,
    way: Way,
    packets: Packets,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Forward,
    Input,
}

#[derive(Clone, Copy)]
enum Way {
    From,
    To,
}

#[derive(Clone, Copy)]
enum Packets {
    All,
    /// Questions for the name server, over this protocol.
    Dns(&'static str),
    Icmp,
}

pub(super) const WANTED: [Wanted; 5] = {
    const fn wanted(hook: Hook, way: Way, packets: Packets) -> Wanted {
        Wanted { hook, way, packets }
    }
    [
        wanted(Hook::Forward, Way::From, Packets::All),
        wanted(Hook::Forward, Way::To, Packets::All),
        wanted(Hook::Input, Way::From, Packets::Dns("udp")),
        wanted(Hook::Input, Way::From, Packets::Dns("tcp")),
        wanted(Hook::Input, Way::From, Packets::Icmp),
    ]
};

impl Wanted {
    /// What it accepts, as nft reads it.
    pub(super) fn nft(&self, family: &Family, bridge: &str) -> String {
        let packets = match self.packets {
            Packets::All => String::new(),
            Packets::Dns(protocol) => format!(" {protocol} dport 53"),
            Packets::Icmp => format!(" meta l4proto {}", family.icmp),
        };
        format!("{} \"{bridge}\"{packets}", self.key())
    }

    /// The whole rule, as the old iptables reads and lists it.
    pub(super) fn legacy(&self, family: &Family, bridge: &str) -> String {
        let way = match self.way {
            Way::From => "-i",
            Way::To => "-o",
        };
        let packets = match self.packets {
            Packets::All => String::new(),
            Packets::Dns(protocol) => format!(" -p {protocol} -m {protocol} --dport 53"),
            Packets::Icmp => format!(" -p {}", family.icmp),
        };
        format!("{way} {bridge}{packets} -j ACCEPT")
    }

    /// Whether a rule that nft lists is this one: these comparisons, perhaps a counter, and `accept`.
    pub(super) fn is(&self, rule: &[Value], family: &Family, bridge: &str) -> bool {
        let compares = |statement: &Value, left: Value, is_right: &dyn Fn(&Value) -> bool| {
            let Some(compared) = statement.get("match") else { return false };
            compared["op"] == "==" && compared["left"] == left && is_right(&compared["right"])
        };
        let is_icmp = |right: &Value| {
            right.as_str().is_some_and(|name| family.icmp_names.contains(&name)) || *right == family.icmp_number
        };
        let is_of_bridge =
            |statement: &Value| compares(statement, json!({"meta": {"key": self.key()}}), &|right| right == bridge);
        let is_of_packets = |statement: &Value| match self.packets {
            Packets::All => true,
            Packets::Dns(protocol) => {
                let left = json!({"payload": {"protocol": protocol, "field": "dport"}});
                compares(statement, left, &|right| *right == 53)
            }
            Packets::Icmp => compares(statement, json!({"meta": {"key": "l4proto"}}), &is_icmp),
        };
        let statements: Vec<&Value> = rule.iter().filter(|statement| statement.get("counter").is_none()).collect();
        match (statements.as_slice(), self.packets) {
            ([of_bridge, verdict], Packets::All) => is_of_bridge(of_bridge) && verdict.get("accept").is_some(),
            ([of_bridge, of_packets, verdict], Packets::Dns(_) | Packets::Icmp) => {
                is_of_bridge(of_bridge) && is_of_packets(of_packets) && verdict.get("accept").is_some()
            }
            _ => false,
        }
    }

    fn key(&self) -> &'static str {
        match self.way {
            Way::From => "iifname",
            Way::To => "oifname",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_known_however_nft_names_its_protocol() {
        let icmp = &WANTED[4];
        let compared =
            |key: &str, right: Value| json!({"match": {"op": "==", "left": {"meta": {"key": key}}, "right": right}});
        let rule = |protocol: Value| {
            vec![compared("iifname", "lab".into()), compared("l4proto", protocol), json!({"accept": null})]
        };
        for protocol in [json!("ipv6-icmp"), json!("icmpv6"), json!(58)] {
            assert!(icmp.is(&rule(protocol.clone()), &FAMILIES[1], "lab"), "{protocol}");
            assert!(!icmp.is(&rule(protocol.clone()), &FAMILIES[0], "lab"), "{protocol}");
            assert!(!icmp.is(&rule(protocol), &FAMILIES[1], "lab2"));
        }
        let mut counted = rule(json!("icmp"));
        counted.insert(2, json!({"counter": {"packets": 5, "bytes": 420}}));
        assert!(icmp.is(&counted, &FAMILIES[0], "lab"));
        // It says more, or ends otherwise.
        counted.insert(1, compared("l4proto", json!("icmp")));
        assert!(!icmp.is(&counted, &FAMILIES[0], "lab"));
        let dropped = [&rule(json!("icmp"))[..2], &[json!({"drop": null})]].concat();
        assert!(!icmp.is(&dropped, &FAMILIES[0], "lab"));
        assert_eq!(icmp.legacy(&FAMILIES[1], "lab"), "-i lab -p ipv6-icmp -j ACCEPT");
    }
}
