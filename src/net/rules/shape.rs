//! What a table has, without what is in it: enough to see that somebody took something away.

use std::collections::{BTreeMap, BTreeSet};

use super::listing::Listing;

/// The chains of a table with the numbers of their rules, and its sets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    chains: BTreeMap<String, usize>,
    sets: BTreeSet<String>,
}

impl Shape {
    /// Of the text of a table, which has a rule a line.
    pub(super) fn of_text(text: &str) -> Self {
        let mut shape = Shape::default();
        let mut chain = None;
        for line in text.lines().map(str::trim) {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("chain"), Some(name)) => {
                    shape.chains.insert(name.to_owned(), 0);
                    chain = Some(name.to_owned());
                }
                (Some("set"), Some(name)) => _ = shape.sets.insert(name.to_owned()),
                (Some("}"), _) => chain = None,
                (Some("type"), _) | (None, _) => {}
                _ => chain.iter().for_each(|chain| *shape.chains.entry(chain.clone()).or_default() += 1),
            }
        }
        shape
    }
}

impl Listing {
    /// Of a listing of one table.
    pub(super) fn shape(&self) -> Shape {
        let chains = self.chains.iter().map(|chain| (chain.name.clone(), self.rules_of(chain).count()));
        Shape { chains: chains.collect(), sets: self.sets.iter().map(|set| set.name.clone()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_was_written_has_its_shape() {
        let text = "table inet lxm\ndelete table inet lxm\ntable inet lxm {\n  set own4 { type ipv4_addr; }\n  chain input {\n    \
                    type filter hook input priority filter; policy accept;\n    iifname @bridges accept\n    drop\n  }\n  chain x {\n  }\n}\n";
        let listed = |rules: &str| {
            let text = format!(
                r#"{{"nftables": [{{"table": {{"family": "inet", "name": "lxm"}}}},
                {{"chain": {{"family": "inet", "table": "lxm", "name": "input", "hook": "input", "policy": "accept"}}}},
                {{"chain": {{"family": "inet", "table": "lxm", "name": "x"}}}}, {{"set": {{"name": "own4"}}}} {rules}]}}"#
            );
            Listing::parse(text.as_bytes()).unwrap().shape()
        };
        let rule = r#", {"rule": {"family": "inet", "table": "lxm", "chain": "input", "handle": 1, "expr": []}}"#;
        assert_eq!(Shape::of_text(text), listed(&rule.repeat(2)));
        assert_ne!(Shape::of_text(text), listed(rule));
    }
}
