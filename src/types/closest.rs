//! The name that was most likely meant by one that is mistyped.

/// The one of `names` that is closest to `typed`, where one is close: a letter wrong, missing, too much or swapped
/// with its neighbour, and one more for each three letters.
pub(crate) fn closest<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let distance = |name: &str| strsim::damerau_levenshtein(typed, name);
    let near = names.into_iter().map(|name| (distance(name), name));
    // Of names of one letter each is as near as any other.
    near.filter(|(far, name)| *far <= 1 + name.len() / 3 && *far < typed.len().min(name.len()))
        .min_by_key(|(far, _)| *far)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_seen_through() {
        let names = ["web", "database", "lxmbr0", "a"];
        for (typed, meant) in [("wbe", "web"), ("databsae", "database"), ("datbas", "database"), ("lxcbr0", "lxmbr0")] {
            assert_eq!(closest(typed, names), Some(meant), "{typed}");
        }
        for typed in ["mail", "b", "", "x"] {
            assert_eq!(closest(typed, names), None, "{typed}");
        }
    }
}
