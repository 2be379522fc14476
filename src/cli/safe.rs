//! A guest's words made fit for the admin's terminal: hostile input like everything a guest writes.

/// Passes text and colours; drops what moves the cursor, asks the terminal or renames its window.
#[derive(Debug, Default)]
pub struct Filter {
    state: State,
    /// A control sequence so far.
    sequence: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// `ESC [ … final` (ECMA-48)
    Control,
    /// `ESC ] … BEL` or `ESC ] … ESC \`, and the other strings.
    String,
    StringEscape,
}

/// Longer ones than any that sets colours.
const MOST: usize = 64;

impl Filter {
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        bytes.iter().for_each(|byte| self.byte(*byte, &mut out));
        out
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.state = match (self.state, byte) {
            (State::String, 0x07) | (State::StringEscape, b'\\') => State::Text,
            (State::String | State::StringEscape, 0x1b) => State::StringEscape,
            (State::String | State::StringEscape, _) => State::String,
            (_, 0x1b) => State::Escape,
            (State::Text, byte) => {
                if byte >= b' ' && byte != 0x7f || matches!(byte, b'\n' | b'\r' | b'\t') {
                    out.push(byte);
                }
                State::Text
            }
            (State::Escape, b'[') => {
                self.sequence.clear();
                State::Control
            }
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::String,
            // Of escapes with one more letter the intermediates come first.
            (State::Escape, b' '..=b'/') => State::Escape,
            (State::Escape, _) => State::Text,
            (State::Control, b'@'..=b'~') => {
                if byte == b'm' && self.sequence.iter().all(|b| b.is_ascii_digit() || matches!(b, b';' | b':')) {
                    out.extend_from_slice(b"\x1b[");
                    out.append(&mut self.sequence);
                    out.push(b'm');
                }
                State::Text
            }
            (State::Control, byte) => {
                if self.sequence.len() < MOST {
                    self.sequence.push(byte);
                }
                State::Control
            }
        };
    }
}

/// One line of a guest's text, without anything that is not text.
pub fn line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_colours_pass_and_nothing_else() {
        for (text, wanted) in [
            ("plain\r\n\ttext ü", "plain\r\n\ttext ü"),
            ("\x1b[1;32mok\x1b[0m", "\x1b[1;32mok\x1b[0m"),
            ("\x1b[2J\x1b[Hgone", "gone"),
            ("\x1b]0;title\x07x", "x"),
            ("\x1b]0;title\x1b\\x", "x"),
            ("\x1b[6n\x1bP$q\x1b\\y", "y"),
            ("a\x07b\x08\x00c\x7f", "abc"),
            ("\x1b(Bz\x1bcq", "zq"),
            ("\x1b[?25m", ""),
        ] {
            assert_eq!(String::from_utf8(Filter::default().pass(text.as_bytes())).unwrap(), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_sequence_may_come_in_pieces() {
        let mut filter = Filter::default();
        let mut out = filter.pass(b"a\x1b");
        out.extend(filter.pass(b"[3"));
        out.extend(filter.pass(b"1mb\x1b]0;x"));
        out.extend(filter.pass(b"yz\x07c"));
        assert_eq!(out, b"a\x1b[31mbc");
    }
}
