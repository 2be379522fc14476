use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::Context;
use crate::error::{Error, Result};
use crate::types::ContainerName;

/// A container's name, given as `NAME` or as LXC users do with `-n NAME`.
#[derive(Debug, Clone, clap::Args)]
pub struct NameArg {
    /// The container
    #[arg(value_name = "NAME", required_unless_present = "name_option", add = ArgValueCompleter::new(complete))]
    name: Option<ContainerName>,

    /// The container, as an option
    #[arg(short = 'n', long = "name", value_name = "NAME", conflicts_with = "name", id = "name_option")]
    #[arg(add = ArgValueCompleter::new(complete))]
    name_option: Option<ContainerName>,
}

impl NameArg {
    pub fn get(self) -> Result<ContainerName> {
        self.name.or(self.name_option).ok_or_else(|| Error::usage("a container's name is missing"))
    }
}

/// Completes the names of containers.
pub fn completer() -> ArgValueCompleter {
    ArgValueCompleter::new(complete)
}

/// One container or several, for verbs that do the same to each.
#[derive(Debug, Clone, clap::Args)]
pub struct NamesArg {
    /// The containers
    #[arg(value_name = "NAME", required_unless_present = "name_option", add = ArgValueCompleter::new(complete))]
    names: Vec<ContainerName>,

    /// The container, as an option
    #[arg(short = 'n', long = "name", value_name = "NAME", conflicts_with = "names", id = "name_option")]
    #[arg(add = ArgValueCompleter::new(complete))]
    name_option: Option<ContainerName>,
}

impl NamesArg {
    /// At least one.
    pub fn get(self) -> Result<Vec<ContainerName>> {
        let names: Vec<_> = self.name_option.into_iter().chain(self.names).collect();
        if names.is_empty() { Err(Error::usage("a container's name is missing")) } else { Ok(names) }
    }
}

/// A container's name and further words behind it: `NAME WORD…` or `-n NAME WORD…`.
///
/// The verb says how many there must be. Options may come between and after them; a word that
/// begins with `-` comes after `--`.
#[derive(Debug, clap::Args)]
pub struct NameAndWords {
    /// The container, then what the usage line says
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(complete))]
    args: Vec<String>,

    /// The container, as an option
    #[arg(short = 'n', long = "name", value_name = "NAME", id = "name_option")]
    #[arg(add = ArgValueCompleter::new(complete))]
    name_option: Option<ContainerName>,
}

impl NameAndWords {
    /// The name, and all the words.
    pub fn get_all(self) -> Result<(ContainerName, Vec<String>)> {
        let mut args = self.args.into_iter();
        let name = match self.name_option {
            Some(name) => name,
            None => args.next().ok_or_else(|| Error::usage("a container's name is missing"))?.parse()?,
        };
        Ok((name, args.collect()))
    }

    /// The name, and exactly the words that `names` asks for.
    pub fn get<const N: usize>(self, names: [&str; N]) -> Result<(ContainerName, [String; N])> {
        let (name, words) = self.get_all()?;
        let wanted = names.map(|name| format!("<{name}>")).join(" ");
        words.try_into().map(|words| (name, words)).map_err(|words: Vec<String>| match words.get(N) {
            Some(extra) => Error::usage(format!("`{extra}` is one argument too many"))
                .hint(format!("wanted is the container's name, then {wanted}")),
            None => Error::usage(format!("{} is missing", names[words.len()]))
                .hint(format!("wanted is the container's name, then {wanted}")),
        })
    }

    /// The name, and at least one word `what`.
    pub fn get_some(self, what: &str) -> Result<(ContainerName, Vec<String>)> {
        let (name, words) = self.get_all()?;
        if words.is_empty() {
            return Err(Error::usage(format!("{what} is missing"))
                .hint(format!("wanted is the container's name, then <{what}>...")));
        }
        Ok((name, words))
    }

    /// The name, and the word `what` if it is there.
    pub fn get_optional(self, what: &str) -> Result<(ContainerName, Option<String>)> {
        let named = usize::from(self.name_option.is_none());
        if self.args.len() <= named {
            return self.get([]).map(|(name, [])| (name, None));
        }
        self.get([what]).map(|(name, [word])| (name, Some(word)))
    }
}

/// The names of the containers that exist, for a shell.
fn complete(current: &std::ffi::OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let context = Context::new(None, super::Format::Text, true);
    let names = context.and_then(|context| context.layout.names()).unwrap_or_default();
    let matching = names.iter().filter(|name| name.as_str().starts_with(current));
    matching.map(|name| CompletionCandidate::new(name.as_str())).collect()
}
