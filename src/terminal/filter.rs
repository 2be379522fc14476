//! A guest's console made fit for the admin's terminal and for the host's journal: hostile input like
//! everything a guest writes. One message or cell is made so by [`super`].
//!
//! Not with the crate `vte`: it hands a colour's parameters out parsed, to be written anew, and begins no
//! sequence at U+009B and its like, which some terminals do: their parameters would be shown as text.

use super::is_control;

/// Passes text, and colours where wanted; drops what moves the cursor, asks the terminal, renames its
/// window or orders the text.
#[derive(Debug)]
pub(crate) struct Filter {
    colours: Colours,
    state: EscapeState,
    /// A control sequence so far.
    sequence: String,
    /// The beginning of a character whose other bytes have not come yet.
    begun: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    Kept,
    Dropped,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum EscapeState {
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
    pub(crate) fn new(colours: Colours) -> Self {
        Filter { colours, state: EscapeState::default(), sequence: String::new(), begun: Vec::new() }
    }

    /// What of `bytes` may be shown, in UTF-8: a terminal of another encoding takes the bytes of a
    /// broken character for controls.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.text(bytes).into_bytes()
    }

    /// The same as text.
    pub(crate) fn text(&mut self, bytes: &[u8]) -> String {
        let all = [std::mem::take(&mut self.begun).as_slice(), bytes].concat();
        let mut out = String::with_capacity(all.len());
        let mut rest = all.as_slice();
        loop {
            let (valid, broken) = match std::str::from_utf8(rest) {
                Ok(text) => (text, None),
                Err(e) => {
                    let (valid, _) = rest.split_at(e.valid_up_to());
                    (std::str::from_utf8(valid).unwrap_or_default(), Some(e.error_len()))
                }
            };
            valid.chars().for_each(|c| self.char(c, &mut out));
            rest = &rest[valid.len()..];
            match broken {
                None => break,
                Some(None) => {
                    self.begun = rest.to_vec();
                    break;
                }
                Some(Some(length)) => {
                    self.char(char::REPLACEMENT_CHARACTER, &mut out);
                    rest = &rest[length..];
                }
            }
        }
        out
    }

    fn char(&mut self, c: char, out: &mut String) {
        self.state = match (self.state, c) {
            (EscapeState::String, '\u{7}' | '\u{9c}') | (EscapeState::StringEscape, '\\' | '\u{9c}') => {
                EscapeState::Text
            }
            (EscapeState::String | EscapeState::StringEscape, '\u{1b}') => EscapeState::StringEscape,
            (EscapeState::String | EscapeState::StringEscape, _) => EscapeState::String,
            (_, '\u{1b}') => EscapeState::Escape,
            // C1 controls are escapes in one character.
            (_, '\u{9b}') | (EscapeState::Escape, '[') => {
                self.sequence.clear();
                EscapeState::Control
            }
            (_, '\u{9d}' | '\u{90}' | '\u{98}' | '\u{9e}' | '\u{9f}') => EscapeState::String,
            (EscapeState::Text, c) => {
                if !is_control(c) || matches!(c, '\n' | '\r' | '\t') {
                    out.push(c);
                }
                EscapeState::Text
            }
            (EscapeState::Escape, ']' | 'P' | 'X' | '^' | '_') => EscapeState::String,
            // Of escapes with one more letter the intermediates come first.
            (EscapeState::Escape, ' '..='/') => EscapeState::Escape,
            (EscapeState::Escape, _) => EscapeState::Text,
            (EscapeState::Control, '@'..='~') => {
                if self.colours == Colours::Kept
                    && c == 'm'
                    && self.sequence.chars().all(|c| c.is_ascii_digit() || matches!(c, ';' | ':'))
                {
                    out.push_str("\x1b[");
                    out.push_str(&self.sequence);
                    out.push('m');
                }
                EscapeState::Text
            }
            (EscapeState::Control, c) => {
                if self.sequence.len() < MOST {
                    self.sequence.push(c);
                }
                EscapeState::Control
            }
        };
    }
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
            ("\u{9b}31mred\u{9b}2J\u{85}", "\x1b[31mred"),
            ("\u{9d}52;c;eA==\u{9c}x", "x"),
            ("a\u{202e}b\u{200f}", "ab"),
        ] {
            assert_eq!(
                String::from_utf8(Filter::new(Colours::Kept).pass(text.as_bytes())).unwrap(),
                wanted,
                "{text:?}"
            );
        }
    }

    #[test]
    fn colours_pass_only_where_they_are_wanted() {
        let text = b"\x1b[1;32mok\x1b[0m \xc2\x9b31mred\n";
        assert_eq!(Filter::new(Colours::Dropped).pass(text), b"ok red\n");
    }

    #[test]
    fn a_sequence_may_come_in_pieces() {
        let mut filter = Filter::new(Colours::Kept);
        let mut out = filter.pass(b"a\x1b");
        out.extend(filter.pass(b"[3"));
        out.extend(filter.pass(b"1mb\x1b]0;x"));
        out.extend(filter.pass(b"yz\x07c"));
        assert_eq!(out, b"a\x1b[31mbc");
    }

    #[test]
    fn a_character_may_come_in_pieces_and_be_broken() {
        let mut filter = Filter::new(Colours::Kept);
        let mut out = filter.pass(b"\xe6\xbc");
        out.extend(filter.pass(b"\xa2\x9b2J\xff"));
        assert_eq!(String::from_utf8(out).unwrap(), "漢\u{fffd}2J\u{fffd}");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_in_whatever_pieces_drives_nothing(
            pieces in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..20), 0..20)
        ) {
            let mut filter = Filter::new(Colours::Kept);
            let out: Vec<u8> = pieces.iter().flat_map(|piece| filter.pass(piece)).collect();
            let text = String::from_utf8(out).unwrap();
            for (at, c) in text.char_indices().filter(|(_, c)| is_control(*c)) {
                let colour = text[at..].strip_prefix("\x1b[").and_then(|rest| rest.split_once('m'));
                let is_colour = colour.is_some_and(|(set, _)| set.bytes().all(|b| b.is_ascii_digit() || b";:".contains(&b)));
                assert!(is_colour || matches!(c, '\n' | '\r' | '\t'), "{c:?} in {text:?}");
            }
        }
    }
}
