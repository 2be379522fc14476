//! What of this host stands in the way of the guests' network, for `lxm check`.

use ipnetwork::{Ipv4Network, Ipv6Network};

use super::firewall::Gate;
use super::netlink::{Netlink, link_by_name};
use super::{bridge, firewall, rules};
use crate::config::bridge::{BridgeSettings, NetworkFile};
use crate::error::Result;
use crate::netserver;
use crate::store::Layout;
use crate::types::subnet;

/// Something that is wrong, and the command that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `route`, `server`, `names`, `leases`, `forwarding`, `rules`, `firewall`; scripts may rely on it.
    pub id: &'static str,
    pub what: String,
    pub remedy: String,
}

impl Finding {
    fn new(id: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { id, what: what.into(), remedy: remedy.into() }
    }
}

/// Looks at every bridge of lxm's that is up; none means that there is nothing to find yet.
pub fn check(layout: &Layout) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let netlink = Netlink::new()?;
    let host = netlink.open()?;
    let (routes4, routes6) = netlink.run(bridge::taken(&host, None))?;
    let ruleset = match rules::list(&["-t", "list", "ruleset"]) {
        Ok(ruleset) => ruleset.unwrap_or_default(),
        Err(e) => {
            found.push(Finding::new("rules", e.to_string(), e.hint_text().unwrap_or("install the package nftables")));
            return Ok(found);
        }
    };
    for (name, settings) in NetworkFile::load(layout)?.bridge {
        if settings.ipv4.is_some_and(|own| routes4.iter().any(|other| crosses4(own, *other)))
            || settings.ipv6.is_some_and(|own| routes6.iter().any(|other| crosses6(own, *other)))
        {
            let what = format!("a route of this host overlaps the network of bridge `{name}`");
            found.push(Finding::new("route", what, format!("lxm network set {name} ipv4 auto")));
        }
        if !netlink.run(link_by_name(&host, &name))?.is_some_and(|link| bridge::is_up(&link)) {
            continue;
        }
        check_server(layout, &name, &mut found)?;
        check_kernel(&name, &settings, &mut found);
        check_firewalls(layout, &name, &ruleset, &mut found)?;
    }
    Ok(found)
}

/// Whether a route within or around our network is another's. Our own network and single addresses
/// are in the table too.
fn crosses4(own: Ipv4Network, other: Ipv4Network) -> bool {
    let ours = other.network() == own.network() && other.prefix() == own.prefix();
    !ours && other.prefix() < 32 && subnet::overlap4(own, other)
}

/// The same for IPv6.
fn crosses6(own: Ipv6Network, other: Ipv6Network) -> bool {
    let ours = other.network() == own.network() && other.prefix() == own.prefix();
    !ours && other.prefix() < 128 && subnet::overlap6(own, other)
}

fn check_server(layout: &Layout, name: &str, found: &mut Vec<Finding>) -> Result<()> {
    if !netserver::is_running(layout, name)? {
        found.push(Finding::new(
            "server",
            format!("bridge `{name}` has no lease and name server"),
            format!("lxm network up {name}"),
        ));
        return Ok(());
    }
    let Some(status) = netserver::status(layout, name)? else { return Ok(()) };
    if let Some(fault) = status.names_fault {
        let what = format!("no names are served on `{name}`: {fault}");
        found.push(Finding::new("names", what, "end that program, or keep it off the bridge's address"));
    }
    if let Some(exhausted) = status.exhausted {
        found.push(Finding::new("leases", exhausted, format!("lxm network set {name} range FIRST-LAST")));
    }
    Ok(())
}

fn check_kernel(name: &str, settings: &BridgeSettings, found: &mut Vec<Finding>) {
    let off = |path: &str| std::fs::read_to_string(format!("/proc/sys/{path}")).is_ok_and(|value| value.trim() == "0");
    let wanted =
        [(settings.ipv4.is_some(), "net/ipv4/ip_forward"), (settings.ipv6.is_some(), "net/ipv6/conf/all/forwarding")];
    for (wanted, path) in wanted {
        if wanted && off(path) {
            let key = path.replace('/', ".");
            let what = format!("`{key}` is 0: guests of `{name}` reach this host alone");
            found.push(Finding::new("forwarding", what, format!("sysctl -w {key}=1")));
        }
    }
}

fn check_firewalls(layout: &Layout, name: &str, ruleset: &str, found: &mut Vec<Finding>) -> Result<()> {
    if !rules::is_whole(layout)? {
        found.push(Finding::new(
            "rules",
            "the tables `inet lxm` and `bridge lxm` are missing from the firewall",
            format!("lxm network up {name}"),
        ));
    }
    if let Some(Gate { chain, owner }) = firewall::closed_gate(name)? {
        let what = format!("{owner} drops what guests of `{name}` send, in the chain `{chain}`");
        found.push(Finding::new("firewall", what, format!("lxm network up {name}")));
    }
    if firewall::firewalld_stands_in_the_way(name) {
        let remedy = format!("firewall-cmd --zone=trusted --change-interface={name}");
        found.push(Finding::new("firewall", format!("firewalld does not trust bridge `{name}`"), remedy));
    }
    for chain in dropping_chains(ruleset) {
        if chain.body.contains(&format!("\"{name}\"")) {
            continue;
        }
        let what = format!("the chain `{}` drops what guests of `{name}` {}", chain.path, chain.purpose);
        let commands =
            chain.rules.iter().map(|rule| format!("nft insert rule {} {} accept", chain.path, rule.replace('@', name)));
        found.push(Finding::new("firewall", what, commands.collect::<Vec<_>>().join("; ")));
    }
    Ok(())
}

/// A chain of an administrator's that drops what no rule of it accepts.
struct Dropping<'a> {
    /// `inet filter forward`
    path: String,
    body: &'a str,
    purpose: &'static str,
    rules: &'static [&'static str],
}

fn dropping_chains(ruleset: &str) -> Vec<Dropping<'_>> {
    let mut found = Vec::new();
    for table in ruleset.split("\ntable ").map(|table| table.strip_prefix("table ").unwrap_or(table)) {
        let Some((name, rest)) = table.split_once(" {") else { continue };
        // Ours, and those that are opened by other means.
        let known = ["inet lxm", "bridge lxm", "ip filter", "ip6 filter", "inet firewalld"];
        let of_another_root = name.starts_with("inet lxm-");
        if known.contains(&name)
            || of_another_root
            || !["ip ", "ip6 ", "inet "].iter().any(|family| name.starts_with(family))
        {
            continue;
        }
        for chain in rest.split("\n\tchain ").skip(1) {
            let Some((chain_name, body)) = chain.split_once(" {") else { continue };
            let body = body.split_once("\n\t}").map_or(body, |(body, _)| body);
            let path = format!("{name} {chain_name}");
            if !body.contains("policy drop") {
                continue;
            }
            if body.contains("hook forward") {
                found.push(Dropping {
                    path,
                    body,
                    purpose: "send and receive",
                    rules: &["iifname \"@\"", "oifname \"@\""],
                });
            } else if body.contains("hook input") {
                let rules = &["iifname \"@\" udp dport 53", "iifname \"@\" tcp dport 53"];
                found.push(Dropping { path, body, purpose: "ask the name server", rules });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_drops_is_found_with_the_rule_that_helps() {
        let ruleset = "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t\tiif \"lo\" accept\n\t}\n\n\t\
                       chain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n\n\t\
                       chain output {\n\t\ttype filter hook output priority filter; policy accept;\n\t}\n}\ntable inet lxm {\n}\n";
        let mut found = Vec::new();
        for chain in dropping_chains(ruleset) {
            found.push(chain.path.clone());
        }
        assert_eq!(found, ["inet filter input", "inet filter forward"]);
        assert!(dropping_chains("").is_empty());
    }

    #[test]
    fn our_own_entries_of_the_routing_table_overlap_nothing() {
        let own = "10.9.8.1/24".parse().unwrap();
        for (other, crosses_it) in [
            ("10.9.8.0/24", false),
            ("10.9.8.1/32", false),
            ("10.9.8.255/32", false),
            ("0.0.0.0/0", false),
            ("10.0.0.0/8", true),
            ("10.9.8.128/25", true),
            ("10.9.8.0/25", true),
        ] {
            assert_eq!(crosses4(own, other.parse().unwrap()), crosses_it, "{other}");
        }
    }
}
