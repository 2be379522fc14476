//! What gives more than something else, collected.

use std::fmt::Display;

use crate::config::KeyPath;

/// Settings that give more than what they are compared with, with their values.
pub(super) struct Excess(pub(super) Vec<(KeyPath, String)>);

impl Excess {
    pub(super) fn when(&mut self, more: bool, key: &[&str], value: impl Display) {
        if more {
            self.0.push((KeyPath::of(key.iter().copied()), value.to_string()));
        }
    }

    pub(super) fn flag(&mut self, key: &[&str], value: bool, base: bool) {
        self.when(value && !base, key, value);
    }

    /// A limit that is higher, or missing where there is one.
    pub(super) fn limit<T: PartialOrd + Copy + Display>(&mut self, key: &[&str], value: &Option<T>, base: &Option<T>) {
        let more = match (value, base) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(value), Some(base)) => value > base,
        };
        self.when(more, key, value.map_or("unlimited".to_owned(), |value| value.to_string()));
    }

    /// The items of a list that are not in the base's: some of them are named.
    pub(super) fn list(&mut self, key: &[&str], items: impl Iterator<Item = String>) {
        const NAMED: usize = 10;
        let items: Vec<String> = items.collect();
        let more = items.len().saturating_sub(NAMED);
        let named = items.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.when(!items.is_empty(), key, format!("{named}{more}"));
    }
}

/// The items of a list that are not in the base's.
pub(super) fn beyond<'a, T: PartialEq + ToString>(items: &'a [T], base: &'a [T]) -> impl Iterator<Item = String> + 'a {
    items.iter().filter(|item| !base.contains(item)).map(ToString::to_string)
}
