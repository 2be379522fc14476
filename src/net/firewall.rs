//! Firewalls of others, where they would keep guests from the network.
//!
//! An `accept` in a table of ours ends our chain alone: a `drop` in another table still drops. So
//! where iptables' tables (docker's, ufw's) or firewalld rule, the bridge is let through there, at
//! run time only. Tables that an administrator wrote for nft are theirs: `lxm check` tells of them.

use std::process::{Command, Stdio};

use super::settings::NetworkFile;
use super::{bridge, nft, resolved};
use crate::error::{Context, Result};
use crate::store::{FileLock, Layout};

/// What the bridge needs in a chain, as iptables writes it and as nft does.
struct Rule {
    chain: Chain,
    iptables: &'static [&'static str],
    nft: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Chain {
    Forward,
    Input,
}

/// `@` stands for the bridge, `icmp` for the family's own.
const RULES: [Rule; 5] = [
    Rule { chain: Chain::Forward, iptables: &["-i", "@"], nft: "iifname \"@\"" },
    Rule { chain: Chain::Forward, iptables: &["-o", "@"], nft: "oifname \"@\"" },
    Rule {
        chain: Chain::Input,
        iptables: &["-i", "@", "-p", "udp", "--dport", "53"],
        nft: "iifname \"@\" udp dport 53",
    },
    Rule {
        chain: Chain::Input,
        iptables: &["-i", "@", "-p", "tcp", "--dport", "53"],
        nft: "iifname \"@\" tcp dport 53",
    },
    Rule { chain: Chain::Input, iptables: &["-i", "@", "-p", "icmp"], nft: "iifname \"@\" meta l4proto icmp" },
];

const FAMILIES: [Family; 2] = [
    Family { nft: "ip", icmp: "icmp", legacy: "iptables-legacy", names: "/proc/self/net/ip_tables_names" },
    Family { nft: "ip6", icmp: "ipv6-icmp", legacy: "ip6tables-legacy", names: "/proc/self/net/ip6_tables_names" },
];

struct Family {
    nft: &'static str,
    icmp: &'static str,
    legacy: &'static str,
    names: &'static str,
}

/// Lets the bridges through the firewalls that are there. Repeating it changes nothing.
pub fn open(layout: &Layout) -> Result<()> {
    let _lock = FileLock::acquire(&layout.network_run().join("nft.lock"))?;
    let bridges: Vec<String> =
        NetworkFile::load(layout)?.bridge.into_keys().filter(|name| bridge::exists(name)).collect();
    let mut script = String::new();
    for family in &FAMILIES {
        if let Some(table) = nft::list(&["list", "table", family.nft, "filter"])? {
            bridges.iter().for_each(|bridge| script.push_str(&insertions(family, &table, bridge)));
        }
        if has_legacy_filter(family) {
            bridges.iter().for_each(|bridge| open_legacy(family, bridge));
        }
    }
    if !script.is_empty() {
        nft::run(&script).context(|| "let the bridge through iptables' rules")?;
    }
    bridges.iter().try_for_each(|bridge| trust(bridge))
}

/// What is missing for the bridge in an iptables table that nft lists as `table`.
fn insertions(family: &Family, table: &str, bridge: &str) -> String {
    let mut script = String::new();
    for rule in &RULES {
        let Some(chain) = gate(table, rule.chain) else { continue };
        let wanted = rule.nft.replace('@', bridge).replace("icmp", family.icmp);
        let present = body(table, chain).is_some_and(|body| body.lines().any(|line| is_accept(line, &wanted)));
        if !present {
            script.push_str(&format!("insert rule {} filter {chain} {wanted} counter accept\n", family.nft));
        }
    }
    script
}

/// Whether nft lists this rule in `line`: `iifname "lxmbr0" counter packets 0 bytes 0 accept`.
fn is_accept(line: &str, wanted: &str) -> bool {
    line.trim().strip_prefix(wanted).is_some_and(|rest| {
        // Newer ones list the icmp rule by the protocol field alone.
        rest.starts_with(" counter ") && rest.trim_end().ends_with("accept") || rest.trim() == "accept"
    })
}

/// The chain that decides, if it may drop anything. docker leaves one for rules of others, which it
/// does not flush.
fn gate(table: &str, chain: Chain) -> Option<&'static str> {
    let builtin = match chain {
        Chain::Forward if body(table, "DOCKER-USER").is_some() => return Some("DOCKER-USER"),
        Chain::Forward => "FORWARD",
        Chain::Input => "INPUT",
    };
    let body = body(table, builtin)?;
    let rules = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("type "));
    (body.contains("policy drop") || rules.count() > 0).then_some(builtin)
}

/// The text between the braces of a chain.
fn body<'a>(table: &'a str, chain: &str) -> Option<&'a str> {
    let start = format!("\tchain {chain} {{\n");
    let (_, rest) = table.split_once(&start)?;
    rest.split_once("\n\t}").map(|(body, _)| body).or_else(|| rest.strip_prefix("\t}").map(|_| ""))
}

/// Whether the tables of the old iptables are in use; asking it would bring them into use.
fn has_legacy_filter(family: &Family) -> bool {
    std::fs::read_to_string(family.names).is_ok_and(|names| names.lines().any(|name| name == "filter"))
}

fn open_legacy(family: &Family, bridge: &str) {
    for rule in &RULES {
        let words = |verb, chain| legacy_words(family, rule, bridge, verb, chain);
        let docker = rule.chain == Chain::Forward && legacy(family, &["-n".into(), "-L".into(), "DOCKER-USER".into()]);
        let chain = match rule.chain {
            Chain::Forward if docker => "DOCKER-USER",
            Chain::Forward => "FORWARD",
            Chain::Input => "INPUT",
        };
        if !legacy(family, &words("-C", chain)) {
            legacy(family, &words("-I", chain));
        }
    }
}

fn legacy_words(family: &Family, rule: &Rule, bridge: &str, verb: &str, chain: &str) -> Vec<String> {
    let of_rule = rule.iptables.iter().map(|word| match *word {
        "@" => bridge,
        "icmp" => family.icmp,
        word => word,
    });
    [verb, chain].into_iter().chain(of_rule).chain(["-j", "ACCEPT"]).map(str::to_owned).collect()
}

/// Whether it succeeds; a host without the program has nothing that it could change.
fn legacy(family: &Family, words: &[String]) -> bool {
    let mut command = Command::new(family.legacy);
    command.arg("-w").args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

const FIREWALLD: &str = "org.fedoraproject.FirewallD1";
const FIREWALLD_PATH: &str = "/org/fedoraproject/FirewallD1";
const FIREWALLD_ZONE: &str = "org.fedoraproject.FirewallD1.zone";

/// Puts the bridge into firewalld's trusted zone, where that runs.
fn trust(bridge: &str) -> Result<()> {
    let done = resolved::on_bus(async |bus| {
        if resolved::has_owner(bus, FIREWALLD).await? && zone_of(bus, bridge).await? != "trusted" {
            let body = ("trusted", bridge);
            bus.call_method(Some(FIREWALLD), FIREWALLD_PATH, Some(FIREWALLD_ZONE), "changeZoneOfInterface", &body)
                .await?;
        }
        Ok(())
    });
    done.map(drop).context(|| format!("put `{bridge}` into firewalld's trusted zone"))
}

async fn zone_of(bus: &zbus::Connection, bridge: &str) -> zbus::Result<String> {
    let asked =
        bus.call_method(Some(FIREWALLD), FIREWALLD_PATH, Some(FIREWALLD_ZONE), "getZoneOfInterface", &bridge).await?;
    asked.body().deserialize()
}

/// The zone that firewalld has the bridge in; `None` where firewalld does not run.
pub fn firewalld_zone(bridge: &str) -> Option<String> {
    let asked = resolved::on_bus(async |bus| match resolved::has_owner(bus, FIREWALLD).await? {
        true => zone_of(bus, bridge).await.map(Some),
        false => Ok(None),
    });
    asked.ok().flatten().flatten()
}

/// Takes back what [`open`] has done for a bridge.
pub fn close(bridge: &str) -> Result<()> {
    let mut script = String::new();
    for family in &FAMILIES {
        if let Some(table) = nft::list(&["-a", "list", "table", family.nft, "filter"])? {
            script.push_str(&deletions(family, &table, bridge));
        }
        if has_legacy_filter(family) {
            for rule in &RULES {
                for chain in ["DOCKER-USER", "FORWARD", "INPUT"] {
                    legacy(family, &legacy_words(family, rule, bridge, "-D", chain));
                }
            }
        }
    }
    if !script.is_empty() {
        nft::run(&script).context(|| "take the bridge out of iptables' rules")?;
    }
    if firewalld_zone(bridge).is_some_and(|zone| zone == "trusted") {
        let removed = resolved::on_bus(async |bus| {
            let body = ("trusted", bridge);
            bus.call_method(Some(FIREWALLD), FIREWALLD_PATH, Some(FIREWALLD_ZONE), "removeInterface", &body)
                .await
                .map(drop)
        });
        removed.map(drop).context(|| format!("take `{bridge}` out of firewalld's trusted zone"))?;
    }
    Ok(())
}

fn deletions(family: &Family, table: &str, bridge: &str) -> String {
    let mut script = String::new();
    for chain in ["DOCKER-USER", "FORWARD", "INPUT"] {
        // With handles, nft ends the line that begins a chain with one.
        let Some((_, rest)) = table.split_once(&format!("\tchain {chain} {{")) else { continue };
        let body = rest.split_once("\n\t}").map_or(rest, |(body, _)| body);
        for line in body.lines() {
            let Some((rule, handle)) = line.split_once(" # handle ") else { continue };
            if RULES.iter().any(|ours| is_accept(rule, &ours.nft.replace('@', bridge).replace("icmp", family.icmp))) {
                script.push_str(&format!("delete rule {} filter {chain} handle {handle}\n", family.nft));
            }
        }
    }
    script
}

/// Whether iptables' tables hold the bridge up: the chain that does.
pub fn closed_gate(bridge: &str) -> Result<Option<String>> {
    for family in &FAMILIES {
        let Some(table) = nft::list(&["list", "table", family.nft, "filter"])? else { continue };
        if insertions(family, &table, bridge).contains("insert") {
            let chain = gate(&table, Chain::Forward).or(gate(&table, Chain::Input)).unwrap_or("FORWARD");
            return Ok(Some(format!("{} filter {chain}", family.nft)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t\t\
                          counter packets 1 bytes 2 jump DOCKER-USER\n\t}\n\n\tchain DOCKER-USER {\n\t\tcounter packets 0 bytes 0 return\n\t}\n\n\t\
                          chain INPUT {\n\t\ttype filter hook input priority filter; policy accept;\n\t}\n}\n";
    const UFW: &str = "table ip filter {\n\tchain INPUT {\n\t\ttype filter hook input priority filter; policy drop;\n\t\t\
                       jump ufw-before-input\n\t}\n\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
    const IDLE: &str =
        "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy accept;\n\t}\n}\n";

    #[test]
    fn docker_s_own_chain_for_others_is_used_where_it_exists() {
        let script = insertions(&FAMILIES[0], DOCKER, "lxmbr0");
        assert_eq!(
            script,
            "insert rule ip filter DOCKER-USER iifname \"lxmbr0\" counter accept\n\
             insert rule ip filter DOCKER-USER oifname \"lxmbr0\" counter accept\n"
        );
    }

    #[test]
    fn a_firewall_that_drops_lets_routing_and_names_through() {
        let script = insertions(&FAMILIES[0], UFW, "lxmbr0");
        assert_eq!(script.matches("filter FORWARD").count(), 2);
        assert_eq!(script.matches("filter INPUT").count(), 3);
        assert_eq!(insertions(&FAMILIES[0], IDLE, "lxmbr0"), "");
        assert_eq!(insertions(&FAMILIES[0], "", "lxmbr0"), "");
    }

    #[test]
    fn what_is_there_is_not_inserted_again_and_is_found_for_deletion() {
        let rules = "\t\tiifname \"lxmbr0\" counter packets 5 bytes 420 accept\n\t\toifname \"lxmbr0\" counter packets 0 bytes 0 accept\n\t\t\
                     counter packets 0 bytes 0 return\n";
        let table = DOCKER.replace("\t\tcounter packets 0 bytes 0 return\n", rules);
        assert_eq!(insertions(&FAMILIES[0], &table, "lxmbr0"), "");
        assert_ne!(insertions(&FAMILIES[0], &table, "lab"), "");
        let with_handles = table.replace(" accept\n", " accept # handle 7\n").replace("{\n", "{ # handle 1\n");
        let deleted = "delete rule ip filter DOCKER-USER handle 7\n".repeat(2);
        assert_eq!(deletions(&FAMILIES[0], &with_handles, "lxmbr0"), deleted);
    }
}
