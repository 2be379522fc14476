//! Where in a configuration's text a setting is, or would be.

use toml_edit::{Array, ArrayOfTables, Item, Table, TableLike, Value};

use crate::config::key_path::ARRAYS;

/// Where a setting is, or would be.
pub(super) enum Slot<'a> {
    Key(&'a mut dyn TableLike, String),
    Element(Elements<'a>, usize),
}

pub(super) enum Elements<'a> {
    Values(&'a mut Array),
    Tables(&'a mut ArrayOfTables),
}

impl Elements<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Elements::Values(array) => array.len(),
            Elements::Tables(array) => array.len(),
        }
    }

    pub(super) fn remove(self, at: usize) -> bool {
        let there = at < self.len();
        if there {
            match self {
                Elements::Values(array) => drop(array.remove(at)),
                Elements::Tables(array) => drop(array.remove(at)),
            }
        }
        there
    }

    /// Puts a value there, or at the end; returns whether that can be.
    pub(super) fn put(self, at: usize, value: Value) -> bool {
        match self {
            Elements::Values(array) if at < array.len() => drop(array.replace(at, value)),
            Elements::Values(array) if at == array.len() => array.push(value),
            _ => return false,
        }
        true
    }
}

/// Follows `path`; with `make`, tables on the way are made. `None` where it leads through a value.
pub(super) fn find<'a>(table: &'a mut dyn TableLike, path: &[String], make: bool) -> Option<Slot<'a>> {
    let (first, rest) = path.split_first()?;
    if rest.is_empty() {
        return Some(Slot::Key(table, first.clone()));
    }
    if !table.contains_key(first) {
        if !make {
            return None;
        }
        let new = if ARRAYS.contains(&first.as_str()) {
            Item::ArrayOfTables(ArrayOfTables::new())
        } else {
            let mut new = Table::new();
            // Without lines of its own it needs no header: `[network.eth0]` alone will do.
            new.set_implicit(true);
            Item::Table(new)
        };
        table.insert(first, new);
    }
    match table.get_mut(first)? {
        Item::Table(inner) => find(inner, rest, make),
        Item::Value(Value::InlineTable(inner)) => find(inner, rest, make),
        Item::ArrayOfTables(array) => {
            let (at, rest) = (rest[0].parse::<usize>().ok()?, &rest[1..]);
            if rest.is_empty() {
                return Some(Slot::Element(Elements::Tables(array), at));
            }
            if make && at == array.len() {
                array.push(Table::new());
            }
            find(array.get_mut(at)?, rest, make)
        }
        Item::Value(Value::Array(array)) => {
            let (at, rest) = (rest[0].parse::<usize>().ok()?, &rest[1..]);
            if rest.is_empty() {
                return Some(Slot::Element(Elements::Values(array), at));
            }
            find(array.get_mut(at)?.as_inline_table_mut()?, rest, make)
        }
        _ => None,
    }
}

/// Puts a value in a table; the comments around the one that was there stay. Says that it is there.
pub(super) fn put(table: &mut dyn TableLike, key: &str, mut value: Value) -> bool {
    if let Some(old) = table.get(key).and_then(Item::as_value) {
        *value.decor_mut() = old.decor().clone();
    }
    match table.get_mut(key) {
        Some(item) if !item.is_none() => *item = Item::Value(value),
        _ => drop(table.insert(key, Item::Value(value))),
    }
    true
}
