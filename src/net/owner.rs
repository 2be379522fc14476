//! Which state directory (`LXM_ROOT`) a bridge belongs to, where several share a host.
//!
//! The first that has a bridge on a host has the plain names: `lxmbr0`, the tables `lxm`, the domain
//! `lxm`. Another one has names with a key of its own, and so another bridge, network and tables; which
//! it is `network.toml` says from its first bridge on. A bridge bears its owner's mark where everybody
//! sees it: its alias (`ip link` shows it).

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::bridge;
use crate::config::bridge::NetworkFile;
use crate::error::{Error, Result};
use crate::store::Layout;

/// The bridge that lxm makes by default.
pub(crate) const DEFAULT_BRIDGE: &str = "lxmbr0";

/// The names of the first owner.
const PLAIN: &str = "lxm";

/// The links of the network namespace that sysfs was mounted in, which is the host's.
const LINKS: &str = "/sys/class/net";

/// The kernel takes less than that of an alias (IFALIASZ).
const ALIAS_MAX: usize = 255;

/// What the host-wide things of this state directory are called: `lxm`, or `lxm-KEY`.
pub(crate) fn tag(layout: &Layout) -> Result<String> {
    match NetworkFile::load(layout)? {
        NetworkFile { owner: Some(owner), .. } => Ok(owner),
        file if !file.bridge.is_empty() => Ok(PLAIN.to_owned()),
        _ if others_are_plain(layout) => Ok(keyed(layout)),
        _ => Ok(PLAIN.to_owned()),
    }
}

/// The bridge that `lxmbr0` means here.
pub(crate) fn default_bridge(layout: &Layout) -> Result<String> {
    tag(layout).map(|tag| default_bridge_of(&tag))
}

/// The same for an owner of these names.
pub(super) fn default_bridge_of(tag: &str) -> String {
    match tag.strip_prefix("lxm-") {
        Some(key) => format!("lxmbr-{key}"),
        None => DEFAULT_BRIDGE.to_owned(),
    }
}

/// The name of a bridge on this host that a configuration or a command calls `name`.
pub(crate) fn bridge_name(layout: &Layout, name: &str) -> Result<String> {
    if name == DEFAULT_BRIDGE { default_bridge(layout) } else { Ok(name.to_owned()) }
}

/// Notes in `file`, which is about to have its first bridge, whose names it goes by.
pub(crate) fn note(layout: &Layout, file: &mut NetworkFile) -> Result<()> {
    if file.bridge.is_empty() {
        let tag = tag(layout)?;
        file.owner = (tag != PLAIN).then_some(tag);
    }
    Ok(())
}

fn keyed(layout: &Layout) -> String {
    let digest = Sha256::digest(layout.root().as_os_str().as_encoded_bytes());
    format!("{PLAIN}-{}", hex::encode(&digest[..4]))
}

/// The mark of this state directory.
pub(crate) fn mark(layout: &Layout) -> Result<String> {
    let mut mark = format!("{}:{}", tag(layout)?, layout.root().display());
    while mark.len() > ALIAS_MAX {
        mark.pop();
    }
    Ok(mark)
}

/// The mark on a link: names and state directory of its owner.
fn mark_of(link: &str) -> Option<(String, String)> {
    // Read as a file and not by netlink: some callers have an event loop of their own, in which a second one
    // cannot run.
    parse(&fs::read_to_string(Path::new(LINKS).join(link).join("ifalias")).ok()?)
}

fn parse(alias: &str) -> Option<(String, String)> {
    let (tag, root) = alias.trim_end_matches('\n').split_once(':')?;
    (tag == PLAIN || tag.starts_with("lxm-")).then(|| (tag.to_owned(), root.to_owned()))
}

/// The state directory that a bridge belongs to, where that is another one. A bridge without a mark is
/// an older version's, or the admin's.
pub(crate) fn other_owner(layout: &Layout, link: &str) -> Option<String> {
    mark_of(link).map(|(_, root)| root).filter(|root| !is_own(layout, root))
}

fn is_own(layout: &Layout, root: &str) -> bool {
    let own = layout.root().display().to_string();
    // A long one was cut.
    own == root || root.len() > 200 && own.starts_with(root)
}

/// Fails with `Kind::Conflict` where the bridge is another state directory's.
pub(crate) fn require_own(layout: &Layout, name: &str) -> Result<()> {
    match other_owner(layout, name) {
        None => Ok(()),
        Some(root) => Err(Error::conflict(format!("bridge `{name}` belongs to the containers of LXM_ROOT={root}"))
            .hint(format!(
                "`lxm network delete {name}` forgets the settings of that name here, and leaves the bridge alone"
            ))),
    }
}

/// Whether this host has a link of this name that belongs to no other owner.
pub(crate) fn has(layout: &Layout, name: &str) -> bool {
    bridge::exists(name) && other_owner(layout, name).is_none()
}

/// Whether another state directory goes by the plain names: one of its bridges is there, or will be
/// when the host's own containers (`/etc/lxm/network.toml`) are started.
fn others_are_plain(layout: &Layout) -> bool {
    let of_host = Layout::new("/");
    if layout.root() != of_host.root()
        && NetworkFile::load(&of_host).is_ok_and(|file| !file.bridge.is_empty() && file.owner.is_none())
    {
        return true;
    }
    let links = fs::read_dir(LINKS).into_iter().flatten().flatten();
    let mut marks = links.filter_map(|link| mark_of(link.file_name().to_str()?));
    marks.any(|(tag, root)| tag == PLAIN && !is_own(layout, &root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_an_owner_from_others_and_from_an_admin_s_alias() {
        let layout = Layout::new("/srv/demo");
        for (alias, owner) in [
            ("lxm:/", Some("/")),
            ("lxm:/srv/demo", None),
            ("lxm-01234567:/srv/demo", None),
            ("lxm-01234567:/srv/other", Some("/srv/other")),
            ("uplink: to the rack", None),
            ("", None),
        ] {
            let other = parse(alias).map(|(_, root)| root).filter(|root| !is_own(&layout, root));
            assert_eq!(other.as_deref(), owner, "{alias}");
        }
    }

    #[test]
    fn groups_of_owners_differ_beyond_the_bits_of_a_port() {
        let groups =
            ["lxm", "lxm-00000000", "lxm-ffffffff", "lxm-0000001b", "lxm-0f1e1b40"].map(crate::net::groups::of_owner);
        for (nth, group) in groups.iter().enumerate() {
            assert_eq!(group & 3, 0);
            assert!(!groups[..nth].contains(group), "{groups:x?}");
        }
    }

    #[test]
    fn names_are_as_network_toml_says() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let key = keyed(&layout);
        let mut file = NetworkFile { owner: Some(key.clone()), ..NetworkFile::default() };
        file.save(&layout).unwrap();
        assert_eq!(tag(&layout).unwrap(), key);
        assert_eq!(bridge_name(&layout, "lxmbr0").unwrap(), key.replace("lxm-", "lxmbr-"));
        assert!(crate::config::is_link_name(&default_bridge(&layout).unwrap()));
        assert_eq!(bridge_name(&layout, "br0").unwrap(), "br0");
        file.owner = None;
        file.bridge.insert("lab".into(), Default::default());
        file.save(&layout).unwrap();
        assert_eq!(default_bridge(&layout).unwrap(), "lxmbr0");
        let deep = Layout::new(format!("/nonexistent{}", "/x".repeat(200)));
        assert!(mark(&deep).unwrap().len() <= ALIAS_MAX);
        assert!(parse(&mark(&deep).unwrap()).is_some_and(|(_, root)| is_own(&deep, &root)));
    }
}
