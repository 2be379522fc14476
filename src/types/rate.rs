//! Rates of traffic like `100Mbit`.

use std::str::FromStr;

use crate::error::{Error, Result};

/// Traffic in bits a second, written with its unit: `100Mbit`, `1.5Gbit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rate(u64);

impl Rate {
    pub(crate) fn bytes_per_second(self) -> u64 {
        self.0 / 8
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad =
            || Error::config(format!("`{s}` is not a rate")).hint("write for example `500kbit`, `100Mbit` or `1Gbit`");
        let digits = s.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, unit) = s.split_at(digits);
        let unit = match unit.to_ascii_lowercase().as_str() {
            "kbit" => 1e3,
            "mbit" => 1e6,
            "gbit" => 1e9,
            _ => return Err(bad()),
        };
        let bits = number.parse::<f64>().map_err(|_| bad())? * unit;
        // Below 8 kbit/s not one full packet a second passes; the kernel's shaper takes 64 bits above.
        if !(8e3..=1e13).contains(&bits) {
            return Err(bad().hint("from `8kbit` to `10000Gbit`"));
        }
        Ok(Rate(bits as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_need_their_unit() {
        for (text, bytes) in [("8kbit", 1_000), ("100Mbit", 12_500_000), ("1.5gbit", 187_500_000)] {
            assert_eq!(text.parse::<Rate>().unwrap().bytes_per_second(), bytes, "{text}");
        }
        for text in ["", "5", "1kbit", "-1Mbit", "Mbit", "1MB", "1e99Gbit", "1.2.3Mbit", "99999999Gbit", "NaNMbit"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
