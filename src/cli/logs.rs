use std::io::IsTerminal;

use super::{Context, NameArg, render};
use crate::error::Result;
use crate::ops::logs::{Part, logs, show_journal};
use crate::terminal::{Colours, Filter};

/// Show the console log of a container
///
/// On a terminal escape sequences other than colours are filtered out.
#[derive(Debug, clap::Args)]
pub(super) struct Logs {
    #[command(flatten)]
    name: NameArg,

    /// Keep printing new output until the container stops
    #[arg(short, long)]
    follow: bool,

    /// Print only the last COUNT lines
    #[arg(short, long, visible_alias = "tail", value_name = "COUNT")]
    lines: Option<usize>,

    /// Read the host's journal instead: has times and messages of the supervisor and systemd
    #[arg(short, long)]
    journal: bool,
}

impl Logs {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        if self.journal {
            return show_journal(&context.layout, &self.name.name, self.lines, self.follow);
        }
        let mut filter = std::io::stdout().is_terminal().then(|| Filter::new(Colours::Kept));
        let part = self.lines.map_or(Part::All, Part::LastLines);
        logs(&context.layout, &self.name.name, part, self.follow, &mut |bytes| match &mut filter {
            Some(filter) => render::bytes(&filter.pass(bytes)),
            None => render::bytes(bytes),
        })?;
        Ok(0)
    }
}
