//! What two containers both have, and ids that users of the host have too.

use super::{Check, Verdict};
use crate::error::Result;
use crate::identity::{self, Claim};
use crate::store::{Layout, ids};

pub fn checks(layout: &Layout) -> Vec<Check> {
    match findings(layout) {
        Ok(found) if found.is_empty() => {
            vec![Check::ok("host", "identity", "no two containers have ids, addresses, ports or layers in common")]
        }
        Ok(found) => found,
        Err(e) => {
            let remedy = e.hint_text().unwrap_or("run `lxm check` as root").to_owned();
            vec![Check::not(Verdict::Unknown, "host", "identity", e.to_string(), remedy)]
        }
    }
}

fn findings(layout: &Layout) -> Result<Vec<Check>> {
    let mut found = Vec::new();
    for pair in identity::all_clashes(layout)? {
        let name = &pair.second.name;
        let remedy = match pair.claim {
            Claim::Uuid(_) | Claim::Upper(_) => format!("lxm adopt {name} --new-identity"),
            Claim::Ids(_) => format!("lxm config unset {name} security.idmap, or lxm adopt {name} --new-identity"),
            _ => format!("lxm config edit {name}"),
        };
        found.push(Check::not(Verdict::Lacks, "host", "identity", pair.to_string(), remedy));
    }
    for (owner, range) in identity::ids_of_all(layout)? {
        if let Some(other) = ids::of_users().into_iter().find(|other| other.overlaps(&range)) {
            let detail = format!(
                "ids of {range}, which {} has, are those of users of this host too ({other})",
                owner.seen_from(layout)
            );
            let remedy = "another range for the users in /etc/subuid and /etc/subgid, or for the container";
            found.push(Check::not(Verdict::Lacks, "host", "identity", detail, remedy));
        }
    }
    Ok(found)
}
