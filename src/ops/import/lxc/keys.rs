//! Keys and values of LXC's configuration.

pub(super) fn value<'a>(keys: &'a [(String, String)], key: &str) -> Option<&'a str> {
    keys.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

pub(super) fn set<T>(field: &mut T, value: Option<T>) -> bool {
    let is_some = value.is_some();
    value.into_iter().for_each(|value| *field = value);
    is_some
}
