//! Why a change is not taken.

use crate::config::key_path::KeyPath;
use crate::config::parse::nearest;
use crate::config::words;
use crate::error::Error;

/// Why a change is not taken: the parser's words.
pub(super) struct Refusal(pub(super) String);

impl Refusal {
    fn of_value(&self, key: &KeyPath, value: Option<&str>) -> Error {
        // `network.publish` is taken for an interface of that name.
        let takes = words::takes(key).filter(|_| setting_without_interface(key).is_none());
        let message = words::plain(&self.0.replace('\n', ", "));
        if let Some(missing) = self.0.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            let element = key.element();
            return Error::config(format!("`{element}` also needs `{element}.{missing}`"))
                .hint(format!("set both in one command: `{key} VALUE {element}.{missing} VALUE`"));
        }
        let Some(value) = value else { return Error::config(format!("`{key}`: {message}")) };
        let cannot = format!("`{key}` cannot be `{}`", value.escape_debug());
        match takes {
            Some(takes) if words::is_of_serde(&self.0) => Error::config(format!("{cannot}: it takes {takes}")),
            Some(takes) => Error::config(format!("{cannot}: {message}")).hint(format!("`{key}` takes {takes}")),
            None => Error::config(format!("{cannot}: {message}")),
        }
    }

    pub(super) fn is_unknown_name(&self) -> bool {
        self.0.starts_with("unknown field") && !words::is_of_a_date(&self.0)
    }

    pub(super) fn explain(&self, key: &KeyPath, value: Option<&str>) -> Error {
        if !self.is_unknown_name() {
            let error = self.of_value(key, value);
            // Taken for an interface of that name.
            return match setting_without_interface(key) {
                Some(setting) => {
                    error.hint(format!("settings of an interface go by its name: `network.eth0.{setting}`"))
                }
                None => error,
            };
        }
        let error = Error::config(format!("there is no setting `{key}`"));
        let names: Vec<&str> = self.0.split('`').skip(1).step_by(2).collect();
        match (nearest(&self.0), names.split_first()) {
            (Some(near), Some((typed, _))) => {
                let meant = key.0.iter().map(|part| if part == typed { near.as_str() } else { part.as_str() });
                error.hint(format!("did you mean `{}`?", meant.collect::<Vec<_>>().join(".")))
            }
            (None, Some((_, known @ [_, ..]))) => error.hint(format!("valid settings: {}", known.join(", "))),
            _ => error,
        }
    }
}

/// The setting of an interface that was written without one: `network.publish`.
fn setting_without_interface(key: &KeyPath) -> Option<&str> {
    match key.parts()[..] {
        ["network", setting] => words::takes(&KeyPath::of(["network", "eth0", setting])).map(|_| key.0[1].as_str()),
        _ => None,
    }
}
