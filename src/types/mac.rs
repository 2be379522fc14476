use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// An Ethernet address, written `10:66:6a:01:02:03`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Whether it names one interface: neither a group nor all zero.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad = || Error::config(format!("`{s}` is not a MAC address")).hint("write for example `10:66:6a:01:02:03`");
        let mut bytes = [0; 6];
        let mut parts = s.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() || s.contains('+') { Err(bad()) } else { Ok(Mac(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

super::serde_as_text!(Mac);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_written_and_all_else_is_refused() {
        let mac: Mac = "10:66:6A:01:02:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "10:66:6a:01:02:ff");
        assert!(mac.is_unicast());
        assert!(!Mac::BROADCAST.is_unicast());
        for text in ["", "10:66:6a:01:02", "10:66:6a:01:02:03:04", "+0:66:6a:01:02:03", "1:66:6a:01:02:03", "x"] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
