//! What of this host stands in the way of the guests' network, for `lxm check`.

use ipnetwork::{Ipv4Network, Ipv6Network};

use super::firewall::Gate;
use super::netlink::{Netlink, link_by_name};
use super::record::GuestRecord;
use super::rules::{Chain, Listing};
use super::{bridge, firewall, foreign, owner, publish, repair, rules};
use crate::config::bridge::{BridgeSettings, NetworkFile};
use crate::error::Result;
use crate::netserver;
use crate::store::Layout;
use crate::types::subnet;

/// Something that is wrong, and the command that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `route`, `links`, `server`, `names`, `leases`, `forwarding`, `rules`, `firewall`, `blocked`, `published`; scripts may rely on it.
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
        check_links(layout, &name, &settings, &mut found)?;
        if !netlink.run(link_by_name(&host, &name))?.is_some_and(|link| bridge::is_up(&link)) {
            continue;
        }
        check_server(layout, &name, &mut found)?;
        check_kernel(&name, &settings, &mut found);
        check_firewalls(layout, &name, &ruleset, &mut found)?;
    }
    check_guests(layout, &mut found)?;
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

/// Guests with addresses that are not theirs.
fn check_guests(layout: &Layout, found: &mut Vec<Finding>) -> Result<()> {
    let drops = rules::drops(layout)?;
    for (name, record) in GuestRecord::all(layout) {
        let publishes = record.links.iter().any(|link| !link.publish.is_empty());
        if publishes && !publish::is_carried(&layout.run_dir(&name))? {
            let what = format!("no process carries the published ports of container `{name}`");
            found.push(Finding::new("published", what, layout.command(format_args!("restart {name}"))));
        }
        let dropped = foreign::dropped_of(&drops, &record.links);
        if dropped.addresses.is_empty() {
            continue;
        }
        let addresses: Vec<String> = dropped.addresses.iter().map(ToString::to_string).collect();
        let what = format!(
            "container `{name}` uses {}, which is not its own: {} packets were dropped",
            addresses.join(", "),
            dropped.packets
        );
        let allow = foreign::allowing(&record.links, &dropped.addresses);
        found.push(Finding::new("blocked", what, layout.command(format_args!("config set {name} {allow}"))));
    }
    Ok(())
}

fn check_links(layout: &Layout, name: &str, settings: &BridgeSettings, found: &mut Vec<Finding>) -> Result<()> {
    if owner::other_owner(layout, name).is_some() {
        return Ok(());
    }
    for fault in repair::look(layout, name, settings)? {
        found.push(Finding::new("links", format!("bridge `{name}`: {fault}"), fault.remedy(name)));
    }
    if repair::given_up(layout, name)? {
        let what = format!("bridge `{name}` was repaired again and again, and is not any more");
        found.push(Finding::new("links", what, format!("find what changes it, then `lxm network up {name}`")));
    }
    Ok(())
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

fn check_firewalls(layout: &Layout, name: &str, ruleset: &Listing, found: &mut Vec<Finding>) -> Result<()> {
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
        if ruleset.rules_of(chain.chain).any(|rule| rule.names(name)) {
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
    chain: &'a Chain,
    /// `inet filter forward`
    path: String,
    purpose: &'static str,
    rules: &'static [&'static str],
}

fn dropping_chains(ruleset: &Listing) -> impl Iterator<Item = Dropping<'_>> {
    ruleset.chains.iter().filter_map(dropping)
}

fn dropping(chain: &Chain) -> Option<Dropping<'_>> {
    let Chain { family, table, name, hook, policy } = chain;
    // Ours, and those that are opened by other means.
    let is_known = match (family.as_str(), table.as_str()) {
        ("inet", table) => matches!(table, "lxm" | "firewalld") || table.starts_with("lxm-"),
        ("ip" | "ip6", table) => table == "filter",
        _ => true,
    };
    let (purpose, rules): (_, &[&str]) = match hook.as_deref()? {
        "forward" => ("send and receive", &["iifname \"@\"", "oifname \"@\""]),
        "input" => ("ask the name server", &["iifname \"@\" udp dport 53", "iifname \"@\" tcp dport 53"]),
        _ => return None,
    };
    let drops = policy.as_deref() == Some("drop") && !is_known;
    drops.then(|| Dropping { chain, path: format!("{family} {table} {name}"), purpose, rules })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_drops_is_found_with_the_rule_that_helps() {
        let chain = |family: &str, table: &str, name: &str, policy: &str| Chain {
            family: family.to_owned(),
            table: table.to_owned(),
            name: name.to_owned(),
            hook: (name != "mine").then(|| name.to_owned()),
            policy: Some(policy.to_owned()),
        };
        let chains = vec![
            chain("inet", "filter", "input", "drop"),
            chain("inet", "filter", "forward", "drop"),
            chain("inet", "filter", "output", "drop"),
            chain("inet", "filter", "mine", "drop"),
            chain("ip", "mangle", "forward", "accept"),
            chain("ip6", "mine", "forward", "drop"),
            chain("ip", "filter", "forward", "drop"),
            chain("inet", "lxm", "forward", "drop"),
            chain("inet", "lxm-1234", "forward", "drop"),
            chain("bridge", "filter", "forward", "drop"),
        ];
        let ruleset = Listing { chains, ..Listing::default() };
        let found: Vec<_> = dropping_chains(&ruleset).map(|chain| chain.path).collect();
        assert_eq!(found, ["inet filter input", "inet filter forward", "ip6 mine forward"]);
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
