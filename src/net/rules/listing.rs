//! What nft lists, in the form that is documented for programs (libnftables-json(5)).
//!
//! Not with the types of the crate `nftables`: it knows every statement by name, and refuses all of a listing
//! for one of an administrator's that it does not know; and it brings `schemars` and `strum` with it.

use serde::Deserialize;
use serde_json::Value;

/// What nft lists, of what lxm asks for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Listing {
    pub tables: Vec<Table>,
    pub chains: Vec<Chain>,
    pub rules: Vec<Rule>,
    pub sets: Vec<Set>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Table {
    pub family: String,
    pub name: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Chain {
    pub family: String,
    pub table: String,
    pub name: String,
    /// Of a base chain: where packets come into it, and what becomes of those that no rule decides on.
    pub hook: Option<String>,
    pub policy: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Rule {
    pub family: String,
    pub table: String,
    pub chain: String,
    pub handle: u64,
    pub expr: Vec<Value>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Set {
    #[serde(default)]
    pub name: String,
    /// Absent where it is empty.
    #[serde(default)]
    elem: Vec<Value>,
}

impl Listing {
    pub(crate) fn parse(text: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Whole {
            nftables: Vec<Object>,
        }
        /// One of them, or of another kind.
        #[derive(Deserialize)]
        struct Object {
            table: Option<Table>,
            chain: Option<Chain>,
            rule: Option<Rule>,
            set: Option<Set>,
        }
        let mut listing = Listing::default();
        for Object { table, chain, rule, set } in serde_json::from_slice::<Whole>(text)?.nftables {
            listing.tables.extend(table);
            listing.chains.extend(chain);
            listing.rules.extend(rule);
            listing.sets.extend(set);
        }
        Ok(listing)
    }

    /// The rules of a chain, in their order.
    pub(crate) fn rules_of(&self, chain: &Chain) -> impl Iterator<Item = &Rule> {
        let id = (&chain.family, &chain.table, &chain.name);
        self.rules.iter().filter(move |rule| (&rule.family, &rule.table, &rule.chain) == id)
    }
}

impl Rule {
    /// Whether it names a link, or whatever else, in any place.
    pub(crate) fn names(&self, what: &str) -> bool {
        fn is_in(value: &Value, what: &str) -> bool {
            match value {
                Value::String(text) => text == what,
                Value::Array(values) => values.iter().any(|value| is_in(value, what)),
                Value::Object(fields) => fields.values().any(|value| is_in(value, what)),
                _ => false,
            }
        }
        self.expr.iter().any(|value| is_in(value, what))
    }
}

impl Set {
    /// Its elements that are two numbers.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (u128, u128)> {
        // One with a time, or with anything else beside its value, is an `elem`.
        let value = |element: &Value| element.pointer("/elem/val").unwrap_or(element)["concat"].clone();
        self.elem.iter().filter_map(move |element| match value(element).as_array()?.as_slice() {
            [first, second] => Some((number(first)?, number(second)?)),
            _ => None,
        })
    }
}

/// A number; one of more than 64 bits is hexadecimal text.
fn number(value: &Value) -> Option<u128> {
    match value {
        Value::Number(number) => number.as_u64().map(u128::from),
        Value::String(text) => u128::from_str_radix(text.strip_prefix("0x")?, 16).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_whatever_stands_beside_them() {
        let set = r#"{"nftables": [{"metainfo": {"json_schema_version": 1}}, {"set": {"family": "bridge", "name": "leased",
            "table": "lxm", "type": ["integer", "integer"], "handle": 1, "size": 65535, "flags": ["timeout"], "elem": [
            {"elem": {"val": {"concat": [2199023255559, 174260229]}, "timeout": 3600, "expires": 3599}},
            {"concat": ["0xfd000000000000000000000000000005", 42033134992352]}, 7, {"concat": [1, -2]}, {"concat": [1]}]}}]}"#;
        let listing = Listing::parse(set.as_bytes()).unwrap();
        let pairs: Vec<_> = listing.sets[0].pairs().collect();
        let long = 0xfd00_0000_0000_0000_0000_0000_0000_0005;
        assert_eq!(pairs, [(0x0200_0000_0007, 0x0a63_0005), (long, 0x263a_9a14_7be0)]);
        let empty = br#"{"nftables": [{"set": {"family": "bridge", "name": "leased", "table": "lxm"}}]}"#;
        assert_eq!(Listing::parse(empty).unwrap().sets[0].pairs().count(), 0);
    }

    #[test]
    fn what_is_of_no_use_is_passed_over() {
        let text = br#"{"nftables": [{"flowtable": {"name": "f"}}, {"table": {"family": "inet", "name": "x", "new": 1}},
            {"rule": {"family": "inet", "table": "x", "chain": "c", "handle": 3, "expr": [{"of tomorrow": ["lxmbr0"]}]}}]}"#;
        let listing = Listing::parse(text).unwrap();
        assert_eq!((listing.tables.len(), listing.chains.len()), (1, 0));
        assert!(listing.rules[0].names("lxmbr0") && !listing.rules[0].names("lxmbr"));
        assert!(Listing::parse(b"table inet x {\n}\n").is_err());
    }
}
