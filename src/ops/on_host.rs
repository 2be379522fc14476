//! What this host has, as far as settings refer to it.

use std::path::Path;

/// The highest number of a processor that this host has or can be given.
pub(super) fn processors() -> Option<u32> {
    highest_of_list(std::fs::read_to_string("/sys/devices/system/cpu/possible").ok()?.trim())
}

/// The highest number in a list such as `0-3,8`.
pub(super) fn highest_of_list(list: &str) -> Option<u32> {
    // `0-6:1/2` is every second one.
    let ranges = list.split(',').filter_map(|part| part.split(':').next());
    ranges.flat_map(|range| range.split('-')).filter_map(|number| number.trim().parse().ok()).max()
}

/// Whether the host has a link of this name that is certainly no bridge.
pub(super) fn is_no_bridge(link: &str) -> bool {
    let link = Path::new("/sys/class/net").join(link);
    link.exists() && !link.join("bridge").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_have_a_highest() {
        for (list, highest) in [("0", Some(0)), ("0-3,8", Some(8)), ("9,2", Some(9)), ("", None), ("0-6:1/2", Some(6))]
        {
            assert_eq!(highest_of_list(list), highest, "{list}");
        }
    }
}
