//! What a verb has done, and why it failed, in the machine's form: docs/JSON.md describes it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, Kind, Result};
use crate::terminal;
use crate::types::ContainerName;

/// What came of a verb for one object: a container, a bridge, an image.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done {
    name: String,
    facts: Value,
    pub error: Option<Error>,
    notes: Vec<String>,
}

impl Done {
    pub(super) fn is_of(&self, name: &ContainerName) -> bool {
        self.name == name.to_string()
    }

    /// With what was said meanwhile. Fails only where `facts` cannot be written as JSON.
    pub(super) fn of(name: impl std::fmt::Display, outcome: Result<impl Serialize>) -> Result<Self> {
        let (facts, error) = match outcome {
            Ok(facts) => (serde_json::to_value(facts).map_err(|e| Error::failed(e.to_string()))?, None),
            Err(e) => (Value::Null, Some(e)),
        };
        Ok(Done { name: name.to_string(), facts, error, notes: terminal::take_notes() })
    }

    /// The object of one entry: what was done first, then to what, then what is known of it.
    pub(super) fn entry(self, verb: &str) -> Value {
        let mut entry = Map::new();
        entry.insert("verb".into(), verb.into());
        entry.insert("name".into(), self.name.into());
        if let Value::Object(facts) = self.facts {
            entry.extend(facts);
        }
        let error = self.error.map(|e| facts_of(&e, e.kind().exit_status()));
        entry.insert("error".into(), error.unwrap_or_default());
        entry.insert("notes".into(), self.notes.into());
        Value::Object(entry)
    }
}

/// One error for all that failed of `of`, whose entries have their own.
pub(super) fn summary(mut failed: Vec<Error>, of: usize) -> Option<Error> {
    let first = failed.first()?;
    Some(match failed.len() {
        1 => failed.remove(0),
        n => Error::new(first.kind(), format!("{n} of {of} failed")).hint("the entries say which, and why"),
    })
}

/// Writes to standard error why the verb failed, and the notes that are in no result.
pub(super) fn report(e: &Error, status: u8) {
    to_stderr(&json!({ "error": facts_of(e, status), "notes": terminal::take_notes() }));
}

/// Writes to standard error the notes that are in no result, if there are any.
pub(super) fn report_notes() {
    let notes = terminal::take_notes();
    if !notes.is_empty() {
        to_stderr(&json!({ "notes": notes }));
    }
}

/// What clap says of a command line that it does not understand, as an error of ours.
pub(super) fn of_clap(e: &clap::Error) -> Error {
    let text = e.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let is_hint = |line: &str| ["hint:", "tip:", "Usage:"].iter().any(|word| line.starts_with(word));
    let (hints, more): (Vec<_>, Vec<_>) =
        lines.filter(|line| !line.starts_with("For more information")).partition(|line| is_hint(line));
    let mut message = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    more.iter().for_each(|line| message += &format!(" {line}"));
    let hints: Vec<_> =
        hints.iter().map(|hint| hint.trim_start_matches("hint:").trim_start_matches("tip:").trim()).collect();
    let error = Error::new(Kind::Usage, message);
    if hints.is_empty() { error } else { error.hint(hints.join("; ")) }
}

fn facts_of(e: &Error, status: u8) -> Value {
    json!({
        "message": e.to_string(),
        "steps": e.steps(),
        "kind": e.kind(),
        "status": status,
        "errno": e.errno(),
        "hint": e.hint_text(),
    })
}

fn to_stderr(document: &Value) {
    terminal::say_json(&format!("{document:#}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_at_the_keyboard_is_an_error_with_its_hint() {
        for (line, message, hint) in [
            (
                "lxm start",
                "the following required arguments were not provided: <NAME|--all>",
                "Usage: lxm start <NAME|--all>",
            ),
            (
                "lxm list --all",
                "`list` has no option `--all`",
                "all containers are listed; `lxm list -f` prints a table",
            ),
        ] {
            let words: Vec<_> = line.split(' ').map(Into::into).collect();
            let Err(e) = crate::cli::tree::parse(&words) else { panic!("`{line}` is parsed") };
            let e = of_clap(&e);
            assert_eq!((e.to_string().as_str(), e.hint_text(), e.kind()), (message, Some(hint), Kind::Usage));
        }
    }
}
