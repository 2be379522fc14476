//! The container that a verb is for: `NAME`, or `-n NAME` as LXC has it, before or after the rest.
//!
//! A verb declares the position alone. clap cannot say "the first word, unless `-n` is there", so
//! there are two forms of each command line: in [`also_by_option`] the name is a position and `-n`
//! is what help and completions show beside it, in [`by_option`] the name is the option itself. Each
//! has clap's own usage lines and errors.

use std::collections::BTreeSet;

use clap::{Arg, ArgMatches, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::context::{self, Context};
use crate::container::status::{ContainerState, Observer};
use crate::error::{Error, Result};
use crate::types::{ContainerName, NamePattern};

/// The position of the container's name.
const POSITION: &str = "container";
/// The option, where the name is a position.
const OPTION: &str = "container_option";

/// One container.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NameArg {
    /// Container
    #[arg(id = POSITION, value_name = "NAME", add = completer())]
    pub name: ContainerName,
}

/// One container, for verbs that do something else without one.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct MaybeNameArg {
    /// Container
    #[arg(id = POSITION, value_name = "NAME", add = completer())]
    pub name: Option<ContainerName>,
}

/// One container or more, for verbs that do the same to each.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NamesArg {
    /// Containers; `*` and `?` stand for any text and any character of a name
    #[arg(id = POSITION, value_name = "NAME", required = true, add = completer())]
    names: Vec<NamePattern>,
}

/// The same for verbs that are often for all.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct NamesOrAllArg {
    /// Containers; `*` and `?` stand for any text and any character of a name
    #[arg(id = POSITION, value_name = "NAME", add = completer())]
    names: Vec<NamePattern>,

    /// All containers that are in a state for it
    #[arg(long)]
    all: bool,
}

impl NamesArg {
    /// The containers that are meant, each once. Those of a pattern are left out where their state is
    /// not for the verb; one that is named is not, and fails as it does alone.
    pub(super) fn get(&self, context: &Context, fits: impl Fn(ContainerState) -> bool) -> Result<Vec<ContainerName>> {
        let mut found = Vec::new();
        for pattern in &self.names {
            match pattern {
                NamePattern::Name(name) => found.push(name.clone()),
                NamePattern::Pattern(text) => {
                    let mut names = context.layout.names()?;
                    names.retain(|name| pattern.matches(name));
                    if names.is_empty() {
                        return Err(Error::not_found(format!("no container's name matches `{text}`")));
                    }
                    found.extend(in_state(context, names, &fits)?);
                }
            }
        }
        let mut seen = BTreeSet::new();
        found.retain(|name| seen.insert(name.clone()));
        Ok(found)
    }
}

impl NamesOrAllArg {
    /// As [`NamesArg::get`]; with `--all` those of all whose state is for the verb.
    pub(super) fn get(&self, context: &Context, fits: impl Fn(ContainerState) -> bool) -> Result<Vec<ContainerName>> {
        match self.all {
            true => in_state(context, context.layout.names()?, &fits),
            false => NamesArg { names: self.names.clone() }.get(context, fits),
        }
    }
}

fn in_state(
    context: &Context,
    mut names: Vec<ContainerName>,
    fits: &dyn Fn(ContainerState) -> bool,
) -> Result<Vec<ContainerName>> {
    let observer = Observer::new(&context.layout)?;
    // One whose state cannot be read is not skipped in silence: the verb says what is wrong.
    names.retain(|name| observer.state(name).map_or(true, |(state, _)| fits(state)));
    Ok(names)
}

/// `command` and those below it, with `-n` beside the position of the container's name.
pub(super) fn also_by_option(command: Command) -> Command {
    let command = command.mut_subcommands(also_by_option);
    if !command.get_arguments().any(|arg| arg.get_id() == POSITION) {
        return command;
    }
    command.arg(
        named(Arg::new(OPTION))
            .value_name("NAME")
            .help("Container, as an option (as in LXC)")
            .conflicts_with(POSITION)
            .add(completer()),
    )
}

/// The same command line where the name is given as option, and the positions are the rest.
pub(super) fn by_option(command: Command) -> Command {
    command.mut_subcommands(by_option).mut_args(|arg| match arg.get_id().as_str() {
        POSITION => named(arg).num_args(1),
        _ => arg,
    })
}

fn named(arg: Arg) -> Arg {
    arg.short('n').long("name")
}

/// Whether the name is given as option where it should be a position.
pub(super) fn is_by_option(matches: &ArgMatches) -> bool {
    matches.try_contains_id(OPTION).unwrap_or_default()
        || matches.subcommand().is_some_and(|(_, below)| is_by_option(below))
}

/// Completes the names of containers.
pub(super) fn completer() -> ArgValueCompleter {
    ArgValueCompleter::new(complete)
}

/// The names of the containers that exist, for a shell.
fn complete(current: &std::ffi::OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let names = context::layout(None).and_then(|layout| layout.names()).unwrap_or_default();
    let matching = names.iter().filter(|name| name.as_str().starts_with(current));
    matching.map(|name| CompletionCandidate::new(name.as_str())).collect()
}
