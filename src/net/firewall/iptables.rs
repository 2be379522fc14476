//! iptables' filter tables: docker's, ufw's, an administrator's own.
//!
//! iptables keeps them in one of two ways. What iptables-nft writes is a table of nftables, and is read and
//! changed by nft; the tables of the old iptables are its own, and the kernel does not report when they
//! change.

use std::fs;
use std::process::{Command, Stdio};

use super::wanted::{FAMILIES, Family, Hook, WANTED, Wanted};
use crate::error::Result;
use crate::net::rules::{self, Listing};

/// Where rules of ours can be.
const CHAINS: [&str; 3] = ["DOCKER-USER", "FORWARD", "INPUT"];

impl Family {
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
#[derive(Debug, PartialEq)]
struct Chain<Rule> {
    name: String,
    drops: bool,
    rules: Vec<Rule>,
}

/// Of rules as nft lists them, or of lines of the old iptables.
#[derive(Debug, PartialEq)]
struct FilterTable<Rule>(Vec<Chain<Rule>>);

impl FilterTable<rules::Rule> {
    /// From what nft lists of one table.
    fn of_nft(listing: Listing) -> Self {
        let of_chain = |chain: rules::Chain| {
            let drops = chain.policy.as_deref() == Some("drop");
            Chain { name: chain.name, drops, rules: Vec::new() }
        };
        let mut table = FilterTable(listing.chains.into_iter().map(of_chain).collect());
        for rule in listing.rules {
            if let Some(chain) = table.0.iter_mut().find(|chain| chain.name == rule.chain) {
                chain.rules.push(rule);
            }
        }
        table
    }
}

impl FilterTable<String> {
    /// From what `iptables-legacy -S` says.
    fn of_legacy(text: &str) -> Self {
        let mut table = FilterTable(Vec::new());
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
}

impl<Rule> FilterTable<Rule> {
    fn chain(&self, name: &str) -> Option<&Chain<Rule>> {
        self.0.iter().find(|chain| chain.name == name)
    }

    /// The chain that decides, if it may drop anything. docker leaves one for rules of others, which
    /// it does not flush.
    fn gate(&self, hook: Hook) -> Option<&Chain<Rule>> {
        let builtin = match hook {
            Hook::Forward => self.chain("DOCKER-USER").or_else(|| self.chain("FORWARD")),
            Hook::Input => self.chain("INPUT"),
        }?;
        (builtin.name == "DOCKER-USER" || builtin.drops || !builtin.rules.is_empty()).then_some(builtin)
    }

    /// What a bridge lacks, each with the chain it belongs into. `is` says whether one of the table's rules
    /// is one that is wanted.
    fn lacks(&self, is: impl Fn(&Rule, &Wanted) -> bool) -> Vec<(&str, &'static Wanted)> {
        let lacking = |wanted: &'static Wanted| {
            let gate = self.gate(wanted.hook)?;
            (!gate.rules.iter().any(|rule| is(rule, wanted))).then_some((gate.name.as_str(), wanted))
        };
        WANTED.iter().filter_map(lacking).collect()
    }

    /// The program that has written it, for messages.
    fn owner(&self) -> &'static str {
        let of = |prefix: &str| self.0.iter().any(|chain| chain.name.starts_with(prefix));
        match (of("DOCKER-USER"), of("ufw-"), of("ufw6-")) {
            (true, ..) => "docker",
            (_, true, _) | (.., true) => "ufw",
            _ => "iptables",
        }
    }
}

fn nft_table(family: &Family) -> Result<Option<FilterTable<rules::Rule>>> {
    Ok(rules::list(&["list", "table", family.nft, "filter"])?.map(FilterTable::of_nft))
}

fn legacy_table(family: &Family) -> Option<FilterTable<String>> {
    family.has_legacy().then(|| family.legacy("-S")).flatten().map(|text| FilterTable::of_legacy(&text))
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

fn insertions_into(table: &FilterTable<rules::Rule>, family: &Family, bridge: &str) -> String {
    let lacking = table.lacks(|rule, wanted| wanted.is(&rule.expr, family, bridge)).into_iter();
    let insert = |(chain, wanted): (&str, &Wanted)| {
        format!("insert rule {} filter {chain} {} counter accept\n", family.nft, wanted.nft(family, bridge))
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
            let lacking = table.lacks(|line, wanted| *line == wanted.legacy(family, bridge));
            for (chain, wanted) in lacking {
                family.legacy(&format!("-I {chain} {}", wanted.legacy(family, bridge)));
            }
        }
    }
}

/// What takes a bridge out of the tables that nft knows, as a script for it.
pub(super) fn deletions(bridge: &str) -> Result<String> {
    let mut script = String::new();
    for family in &FAMILIES {
        if let Some(table) = nft_table(family)? {
            script.push_str(&deletions_from(&table, family, bridge));
        }
    }
    Ok(script)
}

fn deletions_from(table: &FilterTable<rules::Rule>, family: &Family, bridge: &str) -> String {
    let mut script = String::new();
    for chain in table.0.iter().filter(|chain| CHAINS.contains(&chain.name.as_str())) {
        for rule in &chain.rules {
            if WANTED.iter().any(|wanted| wanted.is(&rule.expr, family, bridge)) {
                let line = format!("delete rule {} filter {} handle {}\n", family.nft, chain.name, rule.handle);
                script.push_str(&line);
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
                if WANTED.iter().any(|wanted| *line == wanted.legacy(family, bridge)) {
                    family.legacy(&format!("-D {} {line}", chain.name));
                }
            }
        }
    }
}

/// A chain that may drop what a bridge's guests send, and the program that has written it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    pub chain: String,
    pub owner: &'static str,
}

/// The first chain that holds the bridge up, if one does.
pub(crate) fn closed_gate(bridge: &str) -> Result<Option<Gate>> {
    for family in &FAMILIES {
        let of_nft = nft_table(family)?.and_then(|table| {
            let lacking = table.lacks(|rule, wanted| wanted.is(&rule.expr, family, bridge));
            let (chain, _) = lacking.first()?;
            Some(Gate { chain: format!("{} filter {chain}", family.nft), owner: table.owner() })
        });
        let of_legacy = || {
            let table = legacy_table(family)?;
            let lacking = table.lacks(|line, wanted| *line == wanted.legacy(family, bridge));
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
    use serde_json::{Value, json};

    use super::*;

    /// A table as nft lists it: chains with their policies, and rules with the chains they are in.
    fn table(chains: &[(&str, Option<&str>)], rules: &[(&str, Value)]) -> FilterTable<rules::Rule> {
        let chain = |(name, policy): &(&str, Option<&str>)| {
            let hook = policy.map(|_| name.to_lowercase());
            json!({"chain": {"family": "ip", "table": "filter", "name": name, "hook": hook, "policy": policy}})
        };
        let rule = |(at, (chain, expr)): (usize, &(&str, Value))| json!({"rule": {"family": "ip", "table": "filter", "chain": chain, "handle": at + 7, "expr": expr}});
        let all: Vec<Value> = chains.iter().map(chain).chain(rules.iter().enumerate().map(rule)).collect();
        FilterTable::of_nft(Listing::parse(json!({"nftables": all}).to_string().as_bytes()).unwrap())
    }

    fn compared(key: &str, right: &str) -> Value {
        json!({"match": {"op": "==", "left": {"meta": {"key": key}}, "right": right}})
    }

    fn counter() -> Value {
        json!({"counter": {"packets": 1, "bytes": 2}})
    }

    const DOCKER_CHAINS: [(&str, Option<&str>); 3] =
        [("FORWARD", Some("drop")), ("DOCKER-USER", None), ("INPUT", Some("accept"))];

    fn docker() -> FilterTable<rules::Rule> {
        let rules = [
            ("FORWARD", json!([counter(), {"jump": {"target": "DOCKER-USER"}}])),
            ("DOCKER-USER", json!([counter(), {"return": null}])),
        ];
        table(&DOCKER_CHAINS, &rules)
    }

    fn ufw() -> FilterTable<rules::Rule> {
        let chains = [("INPUT", Some("drop")), ("FORWARD", Some("drop")), ("ufw-before-input", None)];
        table(&chains, &[("INPUT", json!([{"jump": {"target": "ufw-before-input"}}]))])
    }

    fn idle() -> FilterTable<rules::Rule> {
        table(&[("FORWARD", Some("accept"))], &[])
    }

    const LEGACY: &str = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-A INPUT -i lxmbr0 -p icmp -j ACCEPT\n\
                          -A INPUT -m conntrack --ctstate INVALID -j DROP\n";

    fn inserted(table: &FilterTable<rules::Rule>) -> String {
        insertions_into(table, &FAMILIES[0], "lxmbr0")
    }

    #[test]
    fn docker_s_own_chain_for_others_is_used_where_it_exists() {
        assert_eq!(
            inserted(&docker()),
            "insert rule ip filter DOCKER-USER iifname \"lxmbr0\" counter accept\n\
             insert rule ip filter DOCKER-USER oifname \"lxmbr0\" counter accept\n"
        );
    }

    #[test]
    fn a_firewall_that_drops_lets_routing_and_names_through() {
        let script = inserted(&ufw());
        assert_eq!(script.matches("filter FORWARD").count(), 2);
        assert_eq!(script.matches("filter INPUT").count(), 3);
        assert_eq!(inserted(&idle()), "");
        assert_eq!(inserted(&table(&[], &[])), "");
    }

    #[test]
    fn rules_are_inserted_once_and_found_for_deletion() {
        let accepted = |key: &str| json!([compared(key, "lxmbr0"), counter(), {"accept": null}]);
        let rules = [
            ("DOCKER-USER", accepted("iifname")),
            ("DOCKER-USER", accepted("oifname")),
            ("other", accepted("iifname")),
        ];
        let chains = [&DOCKER_CHAINS[..], &[("other", None)]].concat();
        let table = table(&chains, &rules);
        assert_eq!(inserted(&table), "");
        assert_ne!(insertions_into(&table, &FAMILIES[0], "lab"), "");
        let deleted = [7, 8].map(|handle| format!("delete rule ip filter DOCKER-USER handle {handle}\n")).concat();
        assert_eq!(deletions_from(&table, &FAMILIES[0], "lxmbr0"), deleted);
    }

    #[test]
    fn tables_of_the_old_iptables_are_read_the_same() {
        let table = FilterTable::of_legacy(LEGACY);
        let family = &FAMILIES[0];
        let lacking = table.lacks(|line, wanted| *line == wanted.legacy(family, "lxmbr0"));
        let lacking: Vec<_> =
            lacking.into_iter().map(|(chain, wanted)| (chain, wanted.legacy(family, "lxmbr0"))).collect();
        let expected = [
            ("FORWARD", "-i lxmbr0 -j ACCEPT"),
            ("FORWARD", "-o lxmbr0 -j ACCEPT"),
            ("INPUT", "-i lxmbr0 -p udp -m udp --dport 53 -j ACCEPT"),
            ("INPUT", "-i lxmbr0 -p tcp -m tcp --dport 53 -j ACCEPT"),
        ];
        assert_eq!(lacking, expected.map(|(chain, rule)| (chain, rule.to_owned())));
    }

    #[test]
    fn the_writer_of_a_table_is_known_by_its_chains() {
        for (table, owner) in [(docker(), "docker"), (ufw(), "ufw"), (idle(), "iptables")] {
            assert_eq!(table.owner(), owner);
        }
    }
}
