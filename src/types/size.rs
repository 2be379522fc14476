//! Sizes like `512MiB`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A quantity of bytes, always written with its unit; `0` needs none.
///
/// `512MiB` and `512M` are powers of two, as the letters alone are for LXC, systemd and docker; `512MB` is
/// a power of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// The kernel counts files and limits in 63 bits.
    pub const MOST: u64 = i64::MAX as u64;

    pub const fn from_bytes(bytes: u64) -> Self {
        Size(bytes)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let has_unit = s.ends_with(|c: char| c.is_ascii_alphabetic());
        if s != "0" && !has_unit {
            return Err(Error::usage(format!("`{s}` is not a size: it has no unit"))
                .hint("write for example `512MiB` or `2GiB`"));
        }
        // Whole numbers as they are: the library reads them as floating point.
        if let Some(bytes) = s.strip_suffix('B').and_then(|number| number.parse::<u64>().ok())
            && bytes <= Self::MOST
        {
            return Ok(Size(bytes));
        }
        let is_letter = |c: char| "kKmMgGtTpPeE".contains(c);
        let whole = match s.strip_suffix(is_letter) {
            Some(number) if !number.ends_with(|c: char| c.is_ascii_alphabetic()) => format!("{s}iB"),
            _ => s.to_owned(),
        };
        match whole.parse::<bytesize::ByteSize>().map(|size| size.as_u64()) {
            Ok(bytes) if bytes > Self::MOST => Err(Error::usage(format!("`{s}` is more than a size can be"))),
            Ok(bytes) => Ok(Size(bytes)),
            Err(_) => {
                Err(Error::usage(format!("`{s}` is not a size")).hint("write for example `512MiB`, `512M` or `2GB`"))
            }
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The largest unit that loses nothing, so that a value read back is the value written.
        let units = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.iter().find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None if self.0 == 0 => f.write_str("0"),
            None => write!(f, "{}B", self.0),
        }
    }
}

super::serde_as_text!(Size);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_as_written() {
        for (text, bytes) in [
            ("0", 0),
            ("1B", 1),
            ("512MiB", 512 << 20),
            ("2GiB", 2 << 30),
            ("2GB", 2_000_000_000),
            ("5G", 5 << 30),
            ("512M", 512 << 20),
            ("1.5k", 1536),
            ("2 T", 2 << 40),
            ("7kB", 7000),
            ("9007199254740993B", 9_007_199_254_740_993),
            ("9223372036854775807B", Size::MOST),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.bytes(), bytes);
            assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
        }
    }

    #[test]
    fn what_is_no_size_or_too_large_is_refused() {
        for text in
            ["", "5", "-1MiB", "2 parsecs", "MiB", "M", "99999999999G", "9223372036854775808B", "1e30GB", "nanG", "5X"]
        {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
