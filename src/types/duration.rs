//! Durations like `2m30s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// How long to wait: `60s`, `2m30s`, `500ms`; whole seconds need no unit, as for `lxc-stop -t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timeout(Duration);

impl Timeout {
    pub const fn from_secs(seconds: u64) -> Self {
        Timeout(Duration::from_secs(seconds))
    }

    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Timeout {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        if !s.is_empty() && s.bytes().all(|byte| byte.is_ascii_digit()) {
            let seconds: Option<u32> = s.parse().ok();
            return seconds.map(|seconds| Timeout::from_secs(seconds.into())).ok_or_else(|| not_one(s));
        }
        let parsed = s.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
        parsed.map(Timeout).ok_or_else(|| not_one(s))
    }
}

fn not_one(text: &str) -> Error {
    Error::usage(format!("`{text}` is not a duration like `60s` or `2m30s`"))
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_secs(), self.0.subsec_millis()) {
            (s, 0) => write!(f, "{s}s"),
            (0, ms) => write!(f, "{ms}ms"),
            (s, ms) => write!(f, "{s}s{ms}ms"),
        }
    }
}

super::serde_as_text!(Timeout);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_written() {
        for (text, ms) in
            [("0", 0), ("5", 5_000), ("60s", 60_000), ("2m30s", 150_000), ("500ms", 500), ("1h", 3_600_000)]
        {
            let timeout: Timeout = text.parse().unwrap();
            assert_eq!(timeout.get().as_millis(), ms, "{text}");
            assert_eq!(timeout.to_string().parse::<Timeout>().unwrap(), timeout);
        }
    }

    #[test]
    fn what_is_no_duration_or_in_the_past_is_refused() {
        for text in ["", "-5", "-1s", "soon", "5 apples", "99999999999"] {
            assert!(text.parse::<Timeout>().is_err(), "{text}");
        }
    }
}
