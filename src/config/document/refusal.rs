//! Why a change is not taken.

use crate::config::key_path::KeyPath;
use crate::config::parse::nearest;
use crate::error::Error;

/// Why a change is not taken: the parser's words.
pub(super) struct Refusal(pub(super) String);

impl Refusal {
    pub(super) fn is_unknown_name(&self) -> bool {
        self.0.starts_with("unknown field")
    }

    pub(super) fn explain(&self, key: &KeyPath, value: Option<&str>) -> Error {
        if !self.is_unknown_name() {
            let message = self.0.replace('\n', ", ");
            let error = match value {
                Some(value) => Error::config(format!("`{key}` cannot be `{}`: {message}", value.escape_debug())),
                None => Error::config(format!("`{key}`: {message}")),
            };
            // Taken for an interface of that name.
            return match &key.0[..] {
                [network, setting] if network == "network" => {
                    error.hint(format!("settings of an interface go by its name: `network.eth0.{setting}`"))
                }
                _ => error,
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
