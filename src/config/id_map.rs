//! How the ids of an unprivileged guest are mapped: `security.idmap`.

use crate::types::IdRange;

/// Which host ids an unprivileged container's ids are mapped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMap {
    /// The range that was set aside for it at create.
    Auto,
    Fixed(IdRange),
}

impl std::str::FromStr for IdMap {
    type Err = crate::error::Error;

    fn from_str(s: &str) -> crate::error::Result<Self> {
        if s == "auto" { Ok(IdMap::Auto) } else { s.parse().map(IdMap::Fixed) }
    }
}

impl std::fmt::Display for IdMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IdMap::Auto => f.write_str("auto"),
            IdMap::Fixed(range) => range.fmt(f),
        }
    }
}

crate::types::serde_as_text!(IdMap);
