//! Names of settings.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Settings that are lists of tables: `[[mount]]`.
pub(super) const ARRAYS: [&str; 2] = ["device", "mount"];

/// A setting's name as it is written on the command line: `limits.memory`, `mount.0.source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPath(pub(super) Vec<String>);

impl FromStr for KeyPath {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        // Names of credentials have dots of their own: `credential.ssh.authorized_keys.root`.
        if let Some(name) = s.strip_prefix("credential.").filter(|name| !name.starts_with(['"', '\''])) {
            return Ok(KeyPath(vec!["credential".to_owned(), name.to_owned()]));
        }
        if let Some(path) = by_path(s) {
            return Ok(path);
        }
        let s = if s == "security.seccomp" { "security.syscalls" } else { s };
        let keys = toml_edit::Key::parse(s).map_err(|_| {
            Error::usage(format!("`{}` is not the name of a setting", s.escape_default()))
                .hint("names are written with dots: `limits.memory`")
        })?;
        Ok(KeyPath(keys.iter().map(|key| key.get().to_owned()).collect()))
    }
}

/// The settings of elements of lists.
const OF_ELEMENTS: [&str; 11] =
    ["dev", "idmap", "mode", "name", "optional", "path", "read-only", "recursive", "source", "suid", "target"];

/// Where an element of a list goes by its path: `mount./srv/www.source`, whose dots are the path's own but
/// for the one before a setting.
fn by_path(s: &str) -> Option<KeyPath> {
    let (list, path) = s.split_once('.').filter(|(list, path)| ARRAYS.contains(list) && path.starts_with('/'))?;
    Some(match path.rsplit_once('.').filter(|(_, name)| OF_ELEMENTS.contains(name)) {
        Some((path, name)) => KeyPath::of([list, path, name]),
        None => KeyPath::of([list, path]),
    })
}

/// What an element of a list is called in the names of settings, beside its place.
pub(super) const NAMES: [&str; 3] = ["name", "target", "path"];

/// Whether an element can be called so: a number is a place.
pub(super) fn is_element_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

impl KeyPath {
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    /// Whether it is the setting `first` or within it.
    pub fn is_below(&self, first: &str) -> bool {
        self.0.first().is_some_and(|key| key == first)
    }

    /// The element of a list that it is within, `mount.0` of `mount.0.target`; else the name itself.
    pub fn element(&self) -> KeyPath {
        let in_list = self.0.first().is_some_and(|first| ARRAYS.contains(&first.as_str()));
        KeyPath(self.0.iter().take(if in_list { 2 } else { self.0.len() }).cloned().collect())
    }

    /// The interface whose link it names: `network.eth0` of `network.eth0.bridge`.
    pub fn interface_of_link(&self) -> Option<KeyPath> {
        match self.0.as_slice() {
            [first, name, link] if first == "network" && (link == "bridge" || link == "parent") => {
                Some(KeyPath(vec![first.clone(), name.clone()]))
            }
            _ => None,
        }
    }

    /// A name by its parts, which may have dots of their own.
    pub fn of<Part: Into<String>>(parts: impl IntoIterator<Item = Part>) -> Self {
        KeyPath(parts.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.0.join(".");
        if plain.parse::<KeyPath>().is_ok_and(|read| read == *self) {
            return f.write_str(&plain);
        }
        // What has dots or spaces of its own is quoted, so that it reads back.
        let parts = self.0.iter().map(|part| toml_edit::Key::new(part.as_str()).display_repr().into_owned());
        f.write_str(&parts.collect::<Vec<_>>().join("."))
    }
}
