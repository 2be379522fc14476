//! Which containers are confined less than new ones.

use super::{CheckResult, CheckVerdict};
use crate::error::Result;
use crate::ops::trust;
use crate::store::Layout;

/// The containers that are named; with many, what is to be seen is that there are many.
const NAMED: usize = 10;

/// Lists them. It is no fault: the admin has chosen it.
pub(super) fn check(layout: &Layout) -> CheckResult {
    let loose = match loose(layout) {
        Ok(loose) => loose,
        Err(e) => {
            let remedy = e.hint_text().unwrap_or("run `lxm check` as root").to_owned();
            return CheckResult::not(CheckVerdict::Unknown, "host", "confinement", e.to_string(), remedy);
        }
    };
    if loose.is_empty() {
        return CheckResult::ok("host", "confinement", "every container is confined as a new one, or more");
    }
    let more = loose.len().saturating_sub(NAMED);
    let named = loose.into_iter().take(NAMED).collect::<Vec<_>>().join("; ");
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    CheckResult::ok("host", "confinement", format!("confined less than a new container: {named}{more}"))
}

fn loose(layout: &Layout) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in layout.names()? {
        // One that cannot be read does not start, and says why then.
        let Ok(config) = layout.config(&name) else { continue };
        let settings = trust::loosened(&config.security);
        if !settings.is_empty() {
            found.push(format!("`{name}`: {}", settings.join(", ")));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loosened_is_named_and_what_is_tightened_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let put = |name: &str, security: &str| {
            let place = layout.container(&name.parse().unwrap());
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join("origin.toml"), "").unwrap();
            std::fs::write(place.join("config.toml"), format!("version = 1\n[security]\n{security}\n")).unwrap();
        };
        put("tight", "syscalls = \"reduced\"\ncapabilities-drop = [\"net_raw\"]");
        assert!(check(&layout).detail.contains("every container"), "{:?}", check(&layout));
        put("loose", "privileged = true\nsyscalls = \"off\"");
        let detail = check(&layout).detail;
        assert!(detail.contains("`loose`: privileged, syscalls (off)") && !detail.contains("tight"), "{detail}");
        (0..20).for_each(|nth| put(&format!("nested{nth}"), "nesting = true"));
        assert!(check(&layout).detail.ends_with("; and 11 more"), "{:?}", check(&layout));
    }
}
