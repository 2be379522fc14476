//! What is to be said of a tree that was carried elsewhere: what was left out or changed, by kind.

use std::collections::BTreeMap;

use super::shown;
use crate::error::{Error, Result};

/// How many of one kind are named; the rest is counted.
const NAMED: usize = 20;

/// How many kinds are told apart: a guest chooses the names of its extended attributes.
const KINDS: usize = 32;

/// What was left out or changed, each thing under the kind that says what became of it and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks(BTreeMap<String, Things>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Things {
    count: u64,
    /// Of the first ones.
    paths: Vec<Vec<u8>>,
}

impl Remarks {
    pub(crate) fn add(&mut self, kind: &str, path: &[u8]) {
        self.add_things(kind, 1, vec![path.to_vec()]);
    }

    pub(crate) fn append(&mut self, other: Self) {
        for (kind, things) in other.0 {
            self.add_things(&kind, things.count, things.paths);
        }
    }

    fn add_things(&mut self, kind: &str, count: u64, paths: Vec<Vec<u8>>) {
        let kind = if self.0.len() < KINDS || self.0.contains_key(kind) {
            kind
        } else {
            "left out, or changed, in other ways"
        };
        let things = self.0.entry(kind.to_owned()).or_default();
        things.count += count;
        let room = NAMED.saturating_sub(things.paths.len());
        things.paths.extend(paths.into_iter().take(room));
    }

    /// A line for each kind: what became of them, and which.
    pub(crate) fn notes(&self) -> Vec<String> {
        let note = |(kind, things): (&String, &Things)| {
            let named: Vec<_> = things.paths.iter().map(|path| format!("`{}`", shown(path))).collect();
            let more = match things.count - named.len() as u64 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{kind}: {}{more}", named.join(", "))
        };
        self.0.iter().map(note).collect()
    }

    /// Fails where there are any: for copies within one file system, which lose nothing.
    pub(crate) fn require_none(&self) -> Result<()> {
        match self.notes().into_iter().next() {
            None => Ok(()),
            Some(note) => Err(Error::failed(note)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_a_line_that_names_some_and_counts_all() {
        let mut remarks = Remarks::default();
        remarks.require_none().unwrap();
        remarks.add("devices", b"dev/null");
        (0..25).for_each(|n| remarks.add("sockets", format!("s{n}\n").as_bytes()));
        let mut whole = Remarks::default();
        whole.append(remarks);
        let notes = whole.notes();
        assert_eq!(notes.len(), 2);
        assert_eq!(notes[0], "devices: `dev/null`");
        assert!(notes[1].starts_with("sockets: `s0\\n`, `s1\\n`"), "{}", notes[1]);
        assert!(notes[1].ends_with("`s19\\n` and 5 more"), "{}", notes[1]);
        assert!(whole.require_none().is_err());
    }

    #[test]
    fn the_kinds_that_a_guest_invents_do_not_fill_the_memory() {
        let mut remarks = Remarks::default();
        (0..1000).for_each(|n| remarks.add(&format!("attribute {n}"), b"f"));
        assert_eq!(remarks.notes().len(), KINDS + 1);
    }
}
