//! MAC addresses, and the IPv6 addresses that are made of them.

use std::fmt;
use std::net::Ipv6Addr;
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

    /// The interface identifier made of it: modified EUI-64 (RFC 4291, appendix A).
    pub fn interface_id(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }

    /// The one that an address has its interface identifier of, where it is made so.
    pub fn of_address(address: Ipv6Addr) -> Option<Self> {
        let [_, _, _, _, _, _, _, _, a, b, c, 0xff, 0xfe, d, e, f] = address.octets() else { return None };
        Some(Mac([a ^ 2, b, c, d, e, f]))
    }

    /// The link-local address that the kernel makes of it.
    pub fn link_local(self) -> Ipv6Addr {
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(&[0xfe, 0x80]);
        octets[8..].copy_from_slice(&self.interface_id());
        octets.into()
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
    fn link_local_addresses_are_the_kernels_and_lead_back() {
        for (mac, address) in
            [("02:fc:00:00:00:01", "fe80::fc:ff:fe00:1"), ("52:54:00:12:34:56", "fe80::5054:ff:fe12:3456")]
        {
            let mac: Mac = mac.parse().unwrap();
            assert_eq!(mac.link_local().to_string(), address);
            assert_eq!(Mac::of_address(mac.link_local()), Some(mac));
        }
        assert_eq!(Mac::of_address("fd00::1".parse().unwrap()), None);
    }

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
