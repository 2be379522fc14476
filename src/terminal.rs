//! Text on its way to a person: made harmless here, where it leaves the program, and nowhere else.
//!
//! Names, messages and settings come from guests, archives, servers and files. On a terminal their
//! control characters would move the cursor, answer for the admin, write to the clipboard (OSC 52),
//! or order the text so that it reads as another one (CVE-2021-42574).

mod filter;

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write;
use std::sync::Mutex;

pub(crate) use filter::{Colours, Filter};

/// How a line of a program's output is quoted in a message: the only line that may follow another.
pub(crate) const QUOTED_LINE: &str = "\n  | ";

/// Whether a terminal may do something with it other than show it.
pub fn is_control(c: char) -> bool {
    // C0, DEL and C1; then what orders text (Unicode's Bidi_Control) and what ends a line elsewhere.
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}')
}

/// The text as one line that can be shown: what is [`is_control`] is written as an escape.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// As [`line()`], of a text of several lines: line feeds and tabs stay.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// As [`line()`], of a message that may quote a program's last lines, each behind [`QUOTED_LINE`].
pub(crate) fn message(text: &str) -> String {
    text.split(QUOTED_LINE).map(line).collect::<Vec<_>>().join(QUOTED_LINE)
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_harmful = |c: char| is_control(c) && !stays(c);
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// A JSON text of the same meaning, without control characters; serde_json escapes C0 alone.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    // Outside of its strings there is none but the line feeds of its layout.
    let is_harmful = |c: char| is_control(c) && c != '\n';
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) { shown += &format!("\\u{:04x}", u32::from(c)) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// A word as a shell reads it back, for commands that a message proposes.
pub(crate) fn quoted(word: &str) -> Cow<'_, str> {
    shell_words::quote(word)
}

/// What is said while a verb answers in the machine's form, where it becomes part of the answer.
static NOTES: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// From now on keeps for [`take_notes`] what is said.
pub(crate) fn keep_notes() {
    *NOTES.lock().unwrap_or_else(|e| e.into_inner()) = Some(Vec::new());
}

/// What has been said and is kept; none where it was written at once.
pub(crate) fn take_notes() -> Vec<String> {
    NOTES.lock().unwrap_or_else(|e| e.into_inner()).as_mut().map(std::mem::take).unwrap_or_default()
}

/// Writes a message to standard error, in one piece: several of us may write at a time.
///
/// On a systemd host the supervisor's and the servers' go to the journal from there.
pub(crate) fn say(text: impl Display) {
    match &mut *NOTES.lock().unwrap_or_else(|e| e.into_inner()) {
        Some(notes) => notes.push(text.to_string()),
        None => to_stderr(&message(&text.to_string())),
    }
}

/// Writes a document of [`json()`] to standard error.
pub(crate) fn say_json(text: &str) {
    to_stderr(&json(text));
}

fn to_stderr(text: &str) {
    // That standard error is closed cannot be reported.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Writes a question to standard error; the answer is typed behind it.
pub(crate) fn ask(question: &str) -> std::io::Result<()> {
    let mut stderr = std::io::stderr();
    stderr.write_all(line(question).as_bytes())?;
    stderr.flush()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_drives_a_terminal_is_shown_and_not_obeyed() {
        for (text, shown) in [
            ("plain ü 漢", "plain ü 漢"),
            ("\x1b]52;c;eA==\x07", "\\u{1b}]52;c;eA==\\u{7}"),
            ("a\nerror: b", "a\\nerror: b"),
            ("a\rb\tc", "a\\rb\\tc"),
            ("\u{9b}31m \u{85}", "\\u{9b}31m \\u{85}"),
            ("a\u{202e}b\u{2066}c\u{200f}\u{61c}", "a\\u{202e}b\\u{2066}c\\u{200f}\\u{61c}"),
        ] {
            assert_eq!(line(text), shown);
        }
        assert_eq!(lines("a\n\tb\x1b"), "a\n\tb\\u{1b}");
    }

    #[test]
    fn a_message_has_further_lines_only_where_it_quotes() {
        assert_eq!(message("it said:\n  | a\x1b[2J\n  | b\nhint: c"), "it said:\n  | a\\u{1b}[2J\n  | b\\nhint: c");
    }

    #[test]
    fn what_is_proposed_to_be_typed_is_one_word() {
        for (word, shown) in [("nginx", "nginx"), (";touch x;", "';touch x;'"), ("it's", r"'it'\''s'"), ("", "''")] {
            assert_eq!(quoted(word), shown);
        }
    }

    proptest! {
        #[test]
        fn no_text_has_a_control_character_left(text in any::<String>()) {
            prop_assert!(!line(&text).contains(is_control));
            prop_assert!(!lines(&text).contains(|c| is_control(c) && !matches!(c, '\n' | '\t')));
        }

        #[test]
        fn json_keeps_its_meaning_without_them(text in any::<String>(), code in 0x80u32..0x2100) {
            let value = format!("{text}{}", char::from_u32(code).unwrap_or(' '));
            let plain = serde_json::to_string(&value).unwrap();
            let harmless = json(&plain);
            prop_assert!(!harmless.contains(is_control));
            prop_assert_eq!(serde_json::from_str::<String>(&harmless).unwrap(), value);
        }

        #[test]
        fn a_shell_reads_back_what_was_quoted(word in any::<String>()) {
            let parsed = shell_words::split(&quoted(&word)).unwrap();
            prop_assert_eq!(parsed, [word]);
        }
    }
}
