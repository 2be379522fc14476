//! Answers queries to the console's terminal while no client is connected.
//!
//! systemd from 258 on asks the console for its size before it does anything else, twice, and
//! waits a third of a second each time. A terminal emulator would answer at once; while there is
//! none, we do.

/// The terminal's size in characters (xterm's window operation 18).
const ASKS_SIZE: &[u8] = b"\x1b[18t";
/// The cursor's position (ECMA-48 DSR): asked after moving it as far as it goes.
const ASKS_POSITION: &[u8] = b"\x1b[6n";

/// What a terminal of this size sends back for what it was sent.
pub(crate) fn answers(sent: &[u8], (rows, cols): (u16, u16)) -> Vec<u8> {
    let mut answers = Vec::new();
    for (at, byte) in sent.iter().enumerate() {
        if *byte != 0x1b {
            continue;
        }
        if sent[at..].starts_with(ASKS_SIZE) {
            answers.extend(format!("\x1b[8;{rows};{cols}t").bytes());
        } else if sent[at..].starts_with(ASKS_POSITION) {
            answers.extend(format!("\x1b[{rows};{cols}R").bytes());
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_asks_at_boot_is_answered_and_nothing_else() {
        let boot = b"\x1b[18t\x1b7\x1b[32766;32766H\x1b[6n\x1b8\x1b[!p\x1b]104\x1b\\\x1b[0m";
        assert_eq!(answers(boot, (24, 80)), b"\x1b[8;24;80t\x1b[24;80R");
        assert_eq!(answers(b"login: \x1b[1mroot\x1b[0m \x1b[6", (24, 80)), b"");
    }
}
