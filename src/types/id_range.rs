//! Ranges of host ids.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A contiguous range of host ids that a container's ids `0..len` are mapped to.
///
/// Written `BASE:LEN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdRange {
    pub base: u32,
    pub len: u32,
}

impl IdRange {
    /// Ids a container gets: a full 16-bit space, as nspawn and LXC give.
    pub const LEN: u32 = 65_536;
    /// First and last base of the range that systemd's docs/UIDS-GIDS.md sets aside for containers.
    pub const FIRST_BASE: u32 = 524_288;
    pub const LAST_BASE: u32 = 1_879_048_191 - (Self::LEN - 1);
    /// All that containers of a host may be given.
    pub const ALL: IdRange = IdRange { base: Self::FIRST_BASE, len: Self::LAST_BASE + Self::LEN - Self::FIRST_BASE };

    pub fn new(base: u32) -> Self {
        IdRange { base, len: Self::LEN }
    }

    /// The first id behind it.
    pub fn end(&self) -> u64 {
        u64::from(self.base) + u64::from(self.len)
    }

    pub fn overlaps(&self, other: &IdRange) -> bool {
        u64::from(self.base) < other.end() && u64::from(other.base) < self.end()
    }

    /// The host's id of the container's id `inner`, if it is mapped.
    pub fn to_host(&self, inner: u32) -> Option<u32> {
        (inner < self.len).then(|| self.base + inner)
    }

    /// Fails where the container's id `inner`, that of `whose`, is not mapped.
    pub fn require(&self, inner: u32, whose: impl FnOnce() -> String) -> Result<()> {
        if inner < self.len {
            return Ok(());
        }
        let most = self.len.saturating_sub(1);
        Err(Error::not_found(format!("{} is not an id of the guest, which has 0 to {most}", whose())))
    }
}

impl FromStr for IdRange {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad =
            || Error::config(format!("`{s}` is not an id range")).hint("write BASE:LENGTH, for example `524288:65536`");
        let (base, len) = s.split_once(':').ok_or_else(bad)?;
        let (base, len): (u32, u32) = (base.parse().map_err(|_| bad())?, len.parse().map_err(|_| bad())?);
        // 2^31 and above break tools that keep ids in signed integers (docs/UIDS-GIDS.md).
        if len == 0 || base == 0 || u64::from(base) + u64::from(len) > 1 << 31 {
            return Err(bad());
        }
        Ok(IdRange { base, len })
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.base, self.len)
    }
}

super::serde_as_text!(IdRange);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_do_not_overlap_and_shifted_ranges_do() {
        let range = IdRange::new(524_288);
        assert!(!range.overlaps(&IdRange::new(524_288 + 65_536)));
        assert!(range.overlaps(&IdRange::new(524_288 + 65_535)));
        assert!(range.overlaps(&range));
    }

    #[test]
    fn ranges_that_would_map_the_host_root_or_wrap_are_refused() {
        for text in ["0:65536", "1000", "524288:0", "4294967295:2", "a:b", "2147483648:1"] {
            assert!(text.parse::<IdRange>().is_err(), "{text}");
        }
        assert_eq!("524288:65536".parse::<IdRange>().unwrap(), IdRange::new(524_288));
    }
}
