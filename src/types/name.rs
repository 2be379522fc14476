//! Names of containers: DNS labels.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A container's name: lower-case letters, digits and `-`, 1 to 63, neither first nor last `-`.
///
/// That makes it a path component, a unit instance, a machined name and a DNS label without any
/// escaping.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerName(String);

impl ContainerName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let fault = if s.is_empty() {
            "it is empty"
        } else if s.len() > 63 {
            "it is longer than 63 characters"
        } else if !s.bytes().all(allowed) {
            "only lower-case letters, digits and `-` are allowed"
        } else if s.starts_with('-') || s.ends_with('-') {
            "it must neither start nor end with `-`"
        } else {
            return Ok(ContainerName(s.to_owned()));
        };
        Err(Error::usage(format!("`{}` is not a container name: {fault}", s.escape_default())))
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for ContainerName {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

super::serde_as_text!(ContainerName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_need_no_escaping_anywhere_are_taken() {
        for name in ["a", "web", "web-1", "0", &"x".repeat(63)] {
            assert_eq!(name.parse::<ContainerName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn all_others_are_refused_as_usage_errors() {
        for name in ["", "-a", "a-", "Web", "a.b", "a_b", "a/b", "..", "ä", "a b", &"x".repeat(64)] {
            let e = name.parse::<ContainerName>().unwrap_err();
            assert_eq!(e.kind().exit_status(), 2, "{name}");
        }
    }
}
