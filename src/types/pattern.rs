//! Names of containers as people ask for them.

use std::str::FromStr;

use wildmatch::WildMatch;

use super::ContainerName;
use crate::error::{Error, Result};

/// The name of one container, or a pattern that stands for several: `web-*`, `db?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamePattern {
    Name(ContainerName),
    Pattern(String),
}

impl FromStr for NamePattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if !text.contains(['*', '?']) {
            return text.parse().map(NamePattern::Name);
        }
        let is_of_names = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '*' | '?');
        if !text.chars().all(is_of_names) {
            let text = text.escape_default();
            return Err(Error::usage(format!("`{text}` is not a pattern for container names"))
                .hint("lower-case letters, digits and `-`, with `*` for any text and `?` for one character"));
        }
        Ok(NamePattern::Pattern(text.to_owned()))
    }
}

impl NamePattern {
    pub(crate) fn matches(&self, name: &ContainerName) -> bool {
        match self {
            NamePattern::Name(own) => own == name,
            NamePattern::Pattern(pattern) => WildMatch::new(pattern).matches(name.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_whole_names() {
        for (pattern, name, wanted) in [
            ("web", "web", true),
            ("web", "web-1", false),
            ("web*", "web-1", true),
            ("*-1", "web-1", true),
            ("w?b", "web", true),
            ("w?b", "wb", false),
            ("*", "", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("", "a", false),
            ("a**", "a", true),
            (&"*a".repeat(30), &"a".repeat(29), false),
        ] {
            assert_eq!(WildMatch::new(pattern).matches(name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_have_letters_of_names_alone() {
        assert_eq!("web".parse(), Ok(NamePattern::Name("web".parse().unwrap())));
        assert_eq!("w*".parse(), Ok(NamePattern::Pattern("w*".into())));
        for text in ["", "Web*", "we b*", "../*", "*/x", "Web"] {
            assert!(text.parse::<NamePattern>().is_err(), "{text}");
        }
    }
}
