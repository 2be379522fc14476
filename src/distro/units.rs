//! systemd units of a guest, enabled and masked by links as `systemctl --root` does it, without
//! running anything of the guest.

use super::{Edit, View};
use crate::error::Result;

const ADMIN: &str = "etc/systemd/system";
const UNIT_DIRS: [&str; 3] = [ADMIN, "usr/lib/systemd/system", "lib/systemd/system"];

/// The links that enabling `unit` makes; none where the guest has no such unit.
pub(super) fn enable(view: &View, unit: &str) -> Result<Vec<Edit>> {
    let mut edits = Vec::new();
    let mut units = vec![unit.to_owned()];
    // `Also=` names more; the list grows while it is walked, each unit once.
    let mut next = 0;
    while let Some(unit) = units.get(next).cloned() {
        next += 1;
        let Some((dir, text)) = find(view, &unit)? else { continue };
        let target = format!("/{dir}/{unit}");
        for (key, value) in install_section(&text) {
            for word in value.split_whitespace() {
                match key {
                    "WantedBy" => edits.push(Edit::link(format!("{ADMIN}/{word}.wants/{unit}"), &target)),
                    "RequiredBy" => edits.push(Edit::link(format!("{ADMIN}/{word}.requires/{unit}"), &target)),
                    "Alias" => edits.push(Edit::link(format!("{ADMIN}/{word}"), &target)),
                    "Also" if !units.iter().any(|known| known == word) => units.push(word.to_owned()),
                    _ => {}
                }
            }
        }
    }
    Ok(edits)
}

/// Makes a unit impossible to start; nothing where the guest has no such unit.
pub(super) fn mask(view: &View, unit: &str) -> Option<Edit> {
    let known = UNIT_DIRS.iter().any(|dir| view.is_taken(&format!("{dir}/{unit}")));
    known.then(|| Edit::link(format!("{ADMIN}/{unit}"), "/dev/null"))
}

/// Keeps a generator from being run (systemd.generator(7)); nothing where the guest has no such one.
pub(super) fn mask_generator(view: &View, generator: &str) -> Option<Edit> {
    let known =
        ["usr/lib", "lib"].iter().any(|lib| view.is_taken(&format!("{lib}/systemd/system-generators/{generator}")));
    known.then(|| Edit::link(format!("etc/systemd/system-generators/{generator}"), "/dev/null"))
}

/// The unit's directory and text.
fn find(view: &View, unit: &str) -> Result<Option<(&'static str, String)>> {
    for dir in UNIT_DIRS {
        if let Some(text) = view.text(&format!("{dir}/{unit}"))? {
            return Ok(Some((dir, text)));
        }
    }
    Ok(None)
}

fn install_section(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let section = text.lines().map(str::trim).skip_while(|line| *line != "[Install]").skip(1);
    section
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .map(|(k, v)| (k.trim(), v))
}
