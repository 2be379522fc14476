//! What two containers both have, and ids that users of the host have too.

use super::{CheckResult, CheckVerdict};
use crate::config::IdMap;
use crate::error::{Context, Result};
use crate::identity::{self, Claim, ClaimOwner};
use crate::store::{Layout, ids};

pub(super) fn checks(layout: &Layout) -> Vec<CheckResult> {
    match findings(layout) {
        Ok(found) if found.is_empty() => {
            vec![CheckResult::ok(
                "host",
                "identity",
                "no two containers have ids, addresses, ports or layers in common",
            )]
        }
        Ok(found) => found,
        Err(e) => {
            let remedy = e.hint_text().unwrap_or("run `lxm check` as root").to_owned();
            vec![CheckResult::not(CheckVerdict::Unknown, "host", "identity", e.to_string(), remedy)]
        }
    }
}

fn findings(layout: &Layout) -> Result<Vec<CheckResult>> {
    // What cannot be read claims nothing that anybody could see.
    for known in layout.known() {
        for file in known.names()?.iter().map(|name| known.origin_file(name)) {
            if let Err(e) = std::fs::File::open(&file)
                && e.kind() == std::io::ErrorKind::PermissionDenied
            {
                return Err(e).context(|| format!("read `{}`", file.display()));
            }
        }
    }
    let mut found = Vec::new();
    for pair in identity::all_clashes(layout)? {
        let ClaimOwner { layout, name } = &pair.second;
        let remedy = match pair.claim {
            Claim::Ids(_) if has_fixed_ids(&pair.second) => layout.unset_command(name, "security.idmap"),
            Claim::Uuid(_) | Claim::Upper(_) | Claim::Ids(_) => layout.adopt_command(name),
            _ => layout.command(format_args!("config edit {name}")),
        };
        found.push(CheckResult::not(CheckVerdict::Lacks, "host", "identity", pair.to_string(), remedy));
    }
    for (owner, range) in identity::ids_of_all(layout)? {
        if let Some(other) = ids::of_users().into_iter().find(|other| other.overlaps(&range)) {
            let detail = format!(
                "ids of {range}, which {} has, are those of users of this host too ({other})",
                owner.seen_from(layout)
            );
            let remedy = "another range for the users in /etc/subuid and /etc/subgid, or for the container";
            found.push(CheckResult::not(CheckVerdict::Lacks, "host", "identity", detail, remedy));
        }
    }
    Ok(found)
}

fn has_fixed_ids(owner: &ClaimOwner) -> bool {
    owner.layout.config(&owner.name).is_ok_and(|config| matches!(config.security.idmap, IdMap::Fixed(_)))
}
