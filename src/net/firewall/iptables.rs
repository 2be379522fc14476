//! iptables' filter tables: docker's, ufw's, an administrator's own.
//!
//! iptables keeps them in one of two ways. What iptables-nft writes is a table of nftables, and is
//! read and changed by nft; the tables of the old iptables are its own, and the kernel tells nobody
//! when they change.

use std::fs;
use std::process::{Command, Stdio};

use crate::error::Result;
use crate::net::rules;

/// What a bridge needs of a chain, as each of the two writes it. `@` stands for the bridge, `icmp`
/// for the family's own.
struct Rule {
    hook: Hook,
    legacy: &'static str,
    nft: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hook {
    Forward,
    Input,
}

const RULES: [Rule; 5] = [
    Rule { hook: Hook::Forward, legacy: "-i @", nft: "iifname \"@\"" },
    Rule { hook: Hook::Forward, legacy: "-o @", nft: "oifname \"@\"" },
    Rule { hook: Hook::Input, legacy: "-i @ -p udp -m udp --dport 53", nft: "iifname \"@\" udp dport 53" },
    Rule { hook: Hook::Input, legacy: "-i @ -p tcp -m tcp --dport 53", nft: "iifname \"@\" tcp dport 53" },
    Rule { hook: Hook::Input, legacy: "-i @ -p icmp", nft: "iifname \"@\" meta l4proto icmp" },
];

/// Where rules of ours can be.
const CHAINS: [&str; 3] = ["DOCKER-USER", "FORWARD", "INPUT"];

struct Family {
    nft: &'static str,
    icmp: &'static str,
    legacy: &'static str,
    /// The tables of the old iptables that are in use, in this network namespace.
    names: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family { nft: "ip", icmp: "icmp", legacy: "iptables-legacy", names: "/proc/self/net/ip_tables_names" },
    Family { nft: "ip6", icmp: "ipv6-icmp", legacy: "ip6tables-legacy", names: "/proc/self/net/ip6_tables_names" },
];

impl Family {
    fn words(&self, text: &str, bridge: &str) -> String {
        text.replace("icmp", self.icmp).replace('@', bridge)
    }

    /// Whether the filter table of the old iptables is in use; asking it would bring it into use.
    fn has_legacy(&self) -> bool {
        fs::read_to_string(self.names).is_ok_and(|names| names.lines().any(|name| name == "filter"))
    }

    fn legacy(&self, words: &str) -> Option<String> {
        let mut command = Command::new(self.legacy);
        command.arg("-w").args(words.split(' ')).stdin(Stdio::null()).stderr(Stdio::null());
        // A host without the program has nothing that could have made the table.
        let output = command.output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A chain of a filter table: whether what comes to its end is dropped, and its rules.
#[derive(Debug, Default, PartialEq, Eq)]
struct Chain {
    name: String,
    drops: bool,
    rules: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Table(Vec<Chain>);

impl Table {
    /// From what `nft list table` says.
    fn of_nft(text: &str) -> Self {
        let mut table = Table::default();
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("chain ") {
                // With handles, the line goes on: `chain FORWARD { # handle 2`.
                let name = name.split(" {").next().unwrap_or(name).to_owned();
                table.0.push(Chain { name, ..Chain::default() });
            } else if let Some(chain) = table.0.last_mut() {
                match line {
                    "" | "}" => {}
                    line if line.starts_with("type ") => chain.drops = line.contains("policy drop"),
                    line => chain.rules.push(line.to_owned()),
                }
            }
        }
        table
    }

    /// From what `iptables-legacy -S` says.
    fn of_legacy(text: &str) -> Self {
        let mut table = Table::default();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let (verb, name, rest) = (words.next(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
            match verb {
                Some("-P" | "-N") => {
                    table.0.push(Chain { name: name.to_owned(), drops: rest == "DROP", rules: Vec::new() });
                }
                Some("-A") => {
                    let chain = table.0.iter_mut().find(|chain| chain.name == name);
                    chain.into_iter().for_each(|chain| chain.rules.push(rest.to_owned()));
                }
                _ => {}
            }
        }
        table
    }

    fn chain(&self, name: &str) -> Option<&Chain> {
        self.0.iter().find(|chain| chain.name == name)
    }

    /// The chain that decides, if it may drop anything. docker leaves one for rules of others, which
    /// it does not flush.
    fn gate(&self, hook: Hook) -> Option<&Chain> {
        let builtin = match hook {
            Hook::Forward => self.chain("DOCKER-USER").or_else(|| self.chain("FORWARD")),
            Hook::Input => self.chain("INPUT"),
        }?;
        (builtin.name == "DOCKER-USER" || builtin.drops || !builtin.rules.is_empty()).then_some(builtin)
    }

    /// The rules that a bridge lacks, each with the chain it belongs into. `has` says whether one of
    /// the table's is a given one of ours.
    fn lacks(&self, has: impl Fn(&str, &Rule) -> bool) -> Vec<(&str, &'static Rule)> {
        let lacking = |rule: &'static Rule| {
            let gate = self.gate(rule.hook)?;
            (!gate.rules.iter().any(|line| has(line, rule))).then_some((gate.name.as_str(), rule))
        };
        RULES.iter().filter_map(lacking).collect()
    }

    /// Who has written it, for people.
    fn owner(&self) -> &'static str {
        let of = |prefix: &str| self.0.iter().any(|chain| chain.name.starts_with(prefix));
        match (of("DOCKER-USER"), of("ufw-"), of("ufw6-")) {
            (true, ..) => "docker",
            (_, true, _) | (.., true) => "ufw",
            _ => "iptables",
        }
    }
}

/// Whether nft lists this rule in `line`: `iifname "lxmbr0" counter packets 0 bytes 0 accept`.
fn is_nft(line: &str, family: &Family, rule: &Rule, bridge: &str) -> bool {
    line.strip_prefix(&family.words(rule.nft, bridge)).is_some_and(|rest| {
        // Newer ones list the icmp rule by the protocol field alone.
        rest.starts_with(" counter ") && rest.ends_with("accept") || rest.trim() == "accept"
    })
}

fn legacy_rule(family: &Family, rule: &Rule, bridge: &str) -> String {
    format!("{} -j ACCEPT", family.words(rule.legacy, bridge))
}

fn nft_table(family: &Family) -> Result<Option<Table>> {
    Ok(rules::list(&["list", "table", family.nft, "filter"])?.map(|text| Table::of_nft(&text)))
}

fn legacy_table(family: &Family) -> Option<Table> {
    family.has_legacy().then(|| family.legacy("-S")).flatten().map(|text| Table::of_legacy(&text))
}

/// What lets the bridges through the tables that nft knows, as a script for it.
pub(super) fn insertions(bridges: &[String]) -> Result<String> {
    let mut script = String::new();
    for family in &FAMILIES {
        let Some(table) = nft_table(family)? else { continue };
        for bridge in bridges {
            script.push_str(&insertions_into(&table, family, bridge));
        }
    }
    Ok(script)
}

fn insertions_into(table: &Table, family: &Family, bridge: &str) -> String {
    let lacking = table.lacks(|line, rule| is_nft(line, family, rule, bridge)).into_iter();
    let insert = |(chain, rule): (&str, &Rule)| {
        let rule = family.words(rule.nft, bridge);
        format!("insert rule {} filter {chain} {rule} counter accept\n", family.nft)
    };
    lacking.map(insert).collect()
}

/// Whether the old iptables filters anything in this network namespace.
pub(crate) fn has_legacy() -> bool {
    FAMILIES.iter().any(Family::has_legacy)
}

/// Lets the bridges through the old iptables' tables, where these are in use.
pub(super) fn open_legacy(bridges: &[String]) {
    for family in &FAMILIES {
        let Some(table) = legacy_table(family) else { continue };
        for bridge in bridges {
            let lacking = table.lacks(|line, rule| line == legacy_rule(family, rule, bridge));
            for (chain, rule) in lacking {
                family.legacy(&format!("-I {chain} {}", legacy_rule(family, rule, bridge)));
            }
        }
    }
}

/// What takes a bridge out of the tables that nft knows, as a script for it.
pub(super) fn deletions(bridge: &str) -> Result<String> {
    let mut script = String::new();
    for family in &FAMILIES {
        if let Some(text) = rules::list(&["-a", "list", "table", family.nft, "filter"])? {
            script.push_str(&deletions_from(&Table::of_nft(&text), family, bridge));
        }
    }
    Ok(script)
}

fn deletions_from(table: &Table, family: &Family, bridge: &str) -> String {
    let mut script = String::new();
    for chain in table.0.iter().filter(|chain| CHAINS.contains(&chain.name.as_str())) {
        for line in &chain.rules {
            let Some((line, handle)) = line.split_once(" # handle ") else { continue };
            if RULES.iter().any(|rule| is_nft(line, family, rule, bridge)) {
                script.push_str(&format!("delete rule {} filter {} handle {handle}\n", family.nft, chain.name));
            }
        }
    }
    script
}

/// Takes a bridge out of the old iptables' tables.
pub(super) fn close_legacy(bridge: &str) {
    for family in &FAMILIES {
        let Some(table) = legacy_table(family) else { continue };
        for chain in table.0.iter().filter(|chain| CHAINS.contains(&chain.name.as_str())) {
            for line in &chain.rules {
                if RULES.iter().any(|rule| *line == legacy_rule(family, rule, bridge)) {
                    family.legacy(&format!("-D {} {line}", chain.name));
                }
            }
        }
    }
}

/// A chain that may drop what a bridge's guests send, and who has written it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    pub chain: String,
    pub owner: &'static str,
}

/// The first chain that holds the bridge up, if one does.
pub(crate) fn closed_gate(bridge: &str) -> Result<Option<Gate>> {
    for family in &FAMILIES {
        let of_nft = nft_table(family)?.and_then(|table| {
            let lacking = table.lacks(|line, rule| is_nft(line, family, rule, bridge));
            let (chain, _) = lacking.first()?;
            Some(Gate { chain: format!("{} filter {chain}", family.nft), owner: table.owner() })
        });
        let of_legacy = || {
            let table = legacy_table(family)?;
            let lacking = table.lacks(|line, rule| line == legacy_rule(family, rule, bridge));
            let (chain, _) = lacking.first()?;
            Some(Gate { chain: format!("{} {chain}", family.legacy), owner: table.owner() })
        };
        if let Some(gate) = of_nft.or_else(of_legacy) {
            return Ok(Some(gate));
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
                       jump ufw-before-input\n\t}\n\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n\n\t\
                       chain ufw-before-input {\n\t}\n}\n";
    const IDLE: &str =
        "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy accept;\n\t}\n}\n";
    const LEGACY: &str = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-A INPUT -i lxmbr0 -p icmp -j ACCEPT\n\
                          -A INPUT -m conntrack --ctstate INVALID -j DROP\n";

    fn inserted(text: &str) -> String {
        insertions_into(&Table::of_nft(text), &FAMILIES[0], "lxmbr0")
    }

    #[test]
    fn docker_s_own_chain_for_others_is_used_where_it_exists() {
        assert_eq!(
            inserted(DOCKER),
            "insert rule ip filter DOCKER-USER iifname \"lxmbr0\" counter accept\n\
             insert rule ip filter DOCKER-USER oifname \"lxmbr0\" counter accept\n"
        );
    }

    #[test]
    fn a_firewall_that_drops_lets_routing_and_names_through() {
        let script = inserted(UFW);
        assert_eq!(script.matches("filter FORWARD").count(), 2);
        assert_eq!(script.matches("filter INPUT").count(), 3);
        assert_eq!(inserted(IDLE), "");
        assert_eq!(inserted(""), "");
    }

    #[test]
    fn rules_are_inserted_once_and_found_for_deletion() {
        let rules = "\t\tiifname \"lxmbr0\" counter packets 5 bytes 420 accept\n\t\toifname \"lxmbr0\" counter packets 0 bytes 0 accept\n\t\t\
                     counter packets 0 bytes 0 return\n";
        let table = DOCKER.replace("\t\tcounter packets 0 bytes 0 return\n", rules);
        assert_eq!(inserted(&table), "");
        assert_ne!(insertions_into(&Table::of_nft(&table), &FAMILIES[0], "lab"), "");
        let with_handles = table.replace(" accept\n", " accept # handle 7\n").replace("{\n", "{ # handle 1\n");
        let deleted = "delete rule ip filter DOCKER-USER handle 7\n".repeat(2);
        assert_eq!(deletions_from(&Table::of_nft(&with_handles), &FAMILIES[0], "lxmbr0"), deleted);
    }

    #[test]
    fn tables_of_the_old_iptables_are_read_the_same() {
        let table = Table::of_legacy(LEGACY);
        let family = &FAMILIES[0];
        let lacking = table.lacks(|line, rule| line == legacy_rule(family, rule, "lxmbr0"));
        let lacking: Vec<_> = lacking.into_iter().map(|(chain, rule)| (chain, rule.legacy)).collect();
        let dns = |protocol: &str| RULES.iter().find(|rule| rule.legacy.contains(protocol)).unwrap().legacy;
        assert_eq!(lacking, [("FORWARD", "-i @"), ("FORWARD", "-o @"), ("INPUT", dns("udp")), ("INPUT", dns("tcp"))]);
        assert_eq!(legacy_rule(&FAMILIES[1], &RULES[4], "lab"), "-i lab -p ipv6-icmp -j ACCEPT");
    }

    #[test]
    fn the_writer_of_a_table_is_known_by_its_chains() {
        for (text, owner) in [(DOCKER, "docker"), (UFW, "ufw"), (IDLE, "iptables")] {
            assert_eq!(Table::of_nft(text).owner(), owner);
        }
    }
}
