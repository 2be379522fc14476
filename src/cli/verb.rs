//! What a verb is: declared once, in [`super::verbs`].

use clap::{ArgMatches, Args, Command};

use super::context::Context;
use crate::error::{Error, Result};

/// What the general help shows below one heading.
pub(super) struct Group {
    pub heading: &'static str,
    pub verbs: &'static [Verb],
}

/// One verb. Its help and arguments are those of its type.
pub(super) struct Verb {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub arguments: fn(Command) -> Command,
    pub run: fn(&ArgMatches, &Context) -> Result<u8>,
}

/// Declares a verb: `verb!("freeze" | "pause" => freeze::Freeze)`.
macro_rules! verb {
    ($name:literal $(| $alias:literal)* => $Verb:ty) => {
        $crate::cli::verb::Verb {
            name: $name,
            aliases: &[$($alias),*],
            arguments: <$Verb as clap::Args>::augment_args,
            run: |matches, context| {
                $crate::cli::verb::arguments::<$Verb>(matches)?.run(context)
            },
        }
    };
}
pub(super) use verb;

/// A verb's arguments, which clap has checked.
pub(super) fn arguments<V: Args>(matches: &ArgMatches) -> Result<V> {
    V::from_arg_matches(matches).map_err(|e| Error::usage(e.to_string().trim_end().to_owned()))
}

impl Verb {
    /// Its part of the tree.
    pub(super) fn command(&self) -> Command {
        (self.arguments)(Command::new(self.name)).visible_aliases(self.aliases.iter().copied())
    }
}
