//! Where in a configuration's text a setting is, or would be.

use toml_edit::{Array, ArrayOfTables, Item, Table, TableLike, Value};

use crate::config::key_path::{ARRAYS, NAMES, is_element_name};

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
            let called = array.iter().position(|table| is_called(table, &rest[0]));
            let at = match rest[0].parse::<usize>().ok().or(called) {
                Some(at) => at,
                None if make && is_element_name(&rest[0]) => {
                    let mut new = Table::new();
                    new.insert("name", toml_edit::value(&rest[0]));
                    array.push(new);
                    array.len() - 1
                }
                None => return None,
            };
            let rest = &rest[1..];
            if rest.is_empty() {
                return Some(Slot::Element(Elements::Tables(array), at));
            }
            if make && at == array.len() {
                array.push(Table::new());
            }
            find(array.get_mut(at)?, rest, make)
        }
        Item::Value(Value::Array(array)) => {
            let element = |value: &Value| value.as_inline_table().is_some_and(|table| is_called(table, &rest[0]));
            let at = rest[0].parse::<usize>().ok().or_else(|| array.iter().position(element))?;
            let rest = &rest[1..];
            if rest.is_empty() {
                return Some(Slot::Element(Elements::Values(array), at));
            }
            find(array.get_mut(at)?.as_inline_table_mut()?, rest, make)
        }
        _ => None,
    }
}

/// Whether an element of a list goes by this name.
fn is_called(element: &dyn TableLike, name: &str) -> bool {
    NAMES.iter().any(|key| element.get(key).and_then(Item::as_str) == Some(name))
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Document, KeyPath};

    #[test]
    fn elements_of_lists_go_by_place_name_and_path() {
        let key = |text: &str| text.parse::<KeyPath>().unwrap();
        let get = |document: &Document, text: &str| document.get(&key(text)).unwrap().map(|value| value.to_string());
        let mut document = Document::parse("version = 1\n", Path::new("f")).unwrap();
        document.set([(&key("mount.srv.source"), "/srv/w.d"), (&key("mount.srv.target"), "/var/w.d")]).unwrap();
        document.set([(&key("mount.1.source"), "/opt"), (&key("mount.1.target"), "/mnt")]).unwrap();
        for name in ["mount.srv.source", "mount.0.source", "mount./var/w.d.source"] {
            assert_eq!(get(&document, name).as_deref(), Some("\"/srv/w.d\""), "{name}");
            assert_eq!(key(name).to_string(), name);
        }
        document.set([(&key("mount./mnt.read-only"), "true")]).unwrap();
        assert_eq!(get(&document, "mount.1.read-only").as_deref(), Some("true"));
        assert!(
            document.set([(&key("mount.1.name"), "srv")]).unwrap_err().to_string().contains("another is called `srv`")
        );
        for bad in ["5", "a b", "", "-x"] {
            assert!(document.set([(&key("mount.1.name"), bad)]).is_err(), "{bad}");
        }
        assert!(document.set([(&key("mount.tmp.source"), "/tmp")]).unwrap_err().to_string().contains("also needs"));
        assert!(document.get(&key("mount.nobody.source")).unwrap().is_none());
        assert!(document.unset(&key("mount.srv")).unwrap() && document.unset(&key("mount./mnt")).unwrap());
        assert!(document.config().mount.is_empty());
        document.set([(&key("device.serial.path"), "/dev/ttyS0")]).unwrap();
        assert_eq!(document.config().device[0].name.as_deref(), Some("serial"));
        let inline = "mount = [{name = 'a', source = '/a', target = '/x'}]\n";
        let document = Document::parse(inline, Path::new("f")).unwrap();
        assert_eq!(get(&document, "mount.a.target").as_deref(), Some("\"/x\""));
    }
}
