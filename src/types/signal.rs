//! Signals by name or number.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A signal number, written `TERM`, `SIGTERM`, `15` or `RTMIN+3`.
///
/// Real-time signals are counted from glibc's `SIGRTMIN` (34), because that is what a guest's
/// glibc-built systemd expects whatever libc this program was built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

impl Signal {
    pub(crate) const KILL: Signal = Signal(libc::SIGKILL);

    /// A signal by number; `None` outside 1 to 64.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        (1..=RTMAX).contains(&number).then_some(Signal(number))
    }

    pub(crate) const fn realtime(offset: i32) -> Self {
        Signal(RTMIN + offset)
    }

    pub(crate) const fn plain(signal: nix::sys::signal::Signal) -> Self {
        Signal(signal as i32)
    }

    pub(crate) const fn number(self) -> i32 {
        self.0
    }
}

impl FromStr for Signal {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let upper = s.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = if let Ok(number) = name.parse() {
            Some(number)
        } else if let Some(offset) = name.strip_prefix("RTMIN") {
            offset
                .strip_prefix('+')
                .map_or(Some(0).filter(|_| offset.is_empty()), |o| o.parse().ok())
                .map(|o: i32| RTMIN + o)
        } else {
            nix::sys::signal::Signal::from_str(&format!("SIG{name}")).ok().map(|signal| signal as i32)
        };
        number.and_then(Signal::from_number).ok_or_else(|| {
            Error::usage(format!("`{s}` is not a signal")).hint("write for example `TERM`, `15` or `RTMIN+3`")
        })
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nix::sys::signal::Signal::try_from(self.0) {
            Ok(signal) => f.write_str(signal.as_str()),
            Err(_) => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
        }
    }
}

super::serde_as_text!(Signal);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (text, number) in [("TERM", 15), ("sigterm", 15), ("9", 9), ("SIGRTMIN+3", 37), ("RTMIN", 34)] {
            assert_eq!(text.parse::<Signal>().unwrap().number(), number, "{text}");
        }
        for text in ["", "0", "65", "NOPE", "RTMIN+99", "RTMINX"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }
}
