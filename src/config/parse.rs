//! TOML to types, with the file, line, key and nearest valid key in errors.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::types::closest;

/// Parses a TOML file's text, refusing what its type does not know.
///
/// `file` only names the file in errors, which say line, key and the nearest valid key.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, file: &Path) -> Result<T> {
    toml::from_str(text).map_err(|e| explain(&e, text, file))
}

fn explain(e: &toml::de::Error, text: &str, file: &Path) -> Error {
    let place = match e.span() {
        Some(span) => format!("{}:{}", file.display(), line_of(text, span.start)),
        None => file.display().to_string(),
    };
    // The parser's message is one line of what, then what was expected; both matter to the admin.
    let message = super::words::plain(&e.message().replace('\n', ", "));
    let error = Error::config(format!("{place}: {message}"));
    match nearest(e.message()) {
        Some(key) => error.hint(format!("did you mean `{key}`?")),
        None => error,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&b| b == b'\n').count() + 1
}

/// Picks the closest of the names in serde's ``unknown field `a`, expected one of `b`, `c` ``.
pub(super) fn nearest(message: &str) -> Option<String> {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (typed, valid) = names.split_first().filter(|_| message.starts_with("unknown "))?;
    closest(typed, valid.iter().copied()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_misspelt_key_is_refused_with_line_and_nearest_key() {
        let e = parse::<Config>("version = 1\n[limits]\nmemroy = \"1GiB\"\n", Path::new("config.toml")).unwrap_err();
        assert!(e.to_string().starts_with("config.toml:3: unknown field `memroy`"), "{e}");
        assert_eq!(e.hint_text(), Some("did you mean `memory`?"));
        assert_eq!(e.kind().exit_status(), 6);
    }

    #[test]
    fn a_wrong_value_names_its_line() {
        for (text, line) in
            [("[limits]\nmemory = \"5\"", 2), ("version = 1\nversion = 1", 2), ("[boot]\n\nready = \"soon\"", 3)]
        {
            let e = parse::<Config>(text, Path::new("f")).unwrap_err();
            assert!(e.to_string().starts_with(&format!("f:{line}: ")), "{e}");
        }
    }
}
