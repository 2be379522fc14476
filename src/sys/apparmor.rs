//! What of AppArmor this host has.

use std::fs;

const FILES: &str = "/sys/kernel/security/apparmor";

/// lxm's own profiles (packaging/apparmor.d), one for each kind of guest.
pub(crate) const PROFILES: [&str; 3] = ["lxm-container", "lxm-container-nesting", "lxm-container-privileged"];

/// Whether the kernel has it, and an admin has not turned it off.
pub(crate) fn is_enabled() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// Whether a profile of this name is loaded, and is more than a wish (`complain` lets everything pass, and
/// an admin who set it knows).
pub(crate) fn is_loaded(name: &str) -> bool {
    is_enabled() && fs::read_to_string(format!("{FILES}/profiles")).is_ok_and(|list| lists(&list, name))
}

/// Lines are `NAME (MODE)`.
fn lists(list: &str, name: &str) -> bool {
    list.lines().any(|line| line.rsplit_once(" (").is_some_and(|(loaded, _)| loaded == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_by_its_whole_name() {
        let list = "lxm-container (enforce)\n/usr/bin/a b (complain)\nman_filter//x (enforce)\n";
        for (name, wanted) in [("lxm-container", true), ("/usr/bin/a b", true), ("lxm", false), ("x", false)] {
            assert_eq!(lists(list, name), wanted, "{name}");
        }
    }
}
