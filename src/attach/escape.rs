//! The keys that leave a console: ^] three times within a second, or ^a q.

use std::time::{Duration, Instant};

const BRACKET: u8 = 0x1d;
const PREFIX: u8 = 0x01;
const WITHIN: Duration = Duration::from_secs(1);

/// Watches what is typed.
#[derive(Debug, Default)]
pub(super) struct EscapeKeys {
    brackets: Vec<Instant>,
    after_prefix: bool,
}

/// What to do with the keys typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// They are for the guest.
    Pass(Vec<u8>),
    Leave,
}

impl EscapeKeys {
    /// Looks at `typed`. ^a is held back until the next key tells what it was; ^a ^a is one ^a.
    pub(super) fn filter(&mut self, typed: &[u8], now: Instant) -> Keys {
        let mut pass = Vec::with_capacity(typed.len());
        for &key in typed {
            if std::mem::take(&mut self.after_prefix) {
                match key {
                    b'q' => return Keys::Leave,
                    PREFIX => pass.push(PREFIX),
                    other => pass.extend([PREFIX, other]),
                }
                continue;
            }
            if key == BRACKET {
                self.brackets.retain(|at| now.duration_since(*at) < WITHIN);
                self.brackets.push(now);
                if self.brackets.len() == 3 {
                    return Keys::Leave;
                }
            } else {
                self.brackets.clear();
            }
            if key == PREFIX { self.after_prefix = true } else { pass.push(key) }
        }
        Keys::Pass(pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_brackets_in_a_second_leave_and_slower_ones_do_not() {
        let start = Instant::now();
        let mut escape = EscapeKeys::default();
        assert_eq!(escape.filter(b"\x1d\x1d", start), Keys::Pass(b"\x1d\x1d".to_vec()));
        assert_eq!(escape.filter(b"\x1d", start + Duration::from_secs(2)), Keys::Pass(b"\x1d".to_vec()));
        assert_eq!(escape.filter(b"\x1d\x1d", start + Duration::from_secs(2)), Keys::Leave);
        assert_eq!(EscapeKeys::default().filter(b"\x1d\x1dx\x1d", start), Keys::Pass(b"\x1d\x1dx\x1d".to_vec()));
    }

    #[test]
    fn prefix_and_q_leave_and_everything_else_reaches_the_guest() {
        let now = Instant::now();
        let mut escape = EscapeKeys::default();
        assert_eq!(escape.filter(b"ls\x01", now), Keys::Pass(b"ls".to_vec()));
        assert_eq!(escape.filter(b"q", now), Keys::Leave);
        assert_eq!(EscapeKeys::default().filter(b"\x01\x01\x01b", now), Keys::Pass(b"\x01\x01b".to_vec()));
    }
}
