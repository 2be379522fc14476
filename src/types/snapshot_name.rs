//! Names of snapshots.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A snapshot's name: letters, digits, `-`, `_` and `.`, 1 to 63, the first a letter or digit.
///
/// That makes it a path component that no listing hides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotName(String);

impl SnapshotName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SnapshotName {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        let fault = if s.is_empty() {
            "it is empty"
        } else if s.len() > 63 {
            "it is longer than 63 characters"
        } else if !s.bytes().all(allowed) {
            "only letters, digits, `-`, `_` and `.` are allowed"
        } else if !s.as_bytes()[0].is_ascii_alphanumeric() {
            "it must start with a letter or digit"
        } else {
            return Ok(SnapshotName(s.to_owned()));
        };
        Err(Error::usage(format!("`{}` is not a snapshot name: {fault}", s.escape_default())))
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for SnapshotName {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

super::serde_as_text!(SnapshotName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_path_components_that_no_listing_hides() {
        for name in ["a", "before-upgrade_2", "2026.11", &"x".repeat(63)] {
            assert_eq!(name.parse::<SnapshotName>().unwrap().as_str(), name);
        }
        for name in ["", ".", "..", ".new", "-a", "a/b", "a b", "ä", &"x".repeat(64)] {
            assert_eq!(name.parse::<SnapshotName>().unwrap_err().kind().exit_status(), 2, "{name}");
        }
    }
}
