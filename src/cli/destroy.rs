use super::{Context, NameArg, require_root};
use crate::error::Result;
use crate::ops::destroy::{InUse, destroy};

/// Remove a container for good, with its snapshots and logs
#[derive(Debug, clap::Args)]
pub struct Destroy {
    #[command(flatten)]
    name: NameArg,

    /// Kill it first if it runs
    #[arg(short, long)]
    force: bool,
}

impl Destroy {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("destroy a container")?;
        let name = self.name.get()?;
        destroy(&context.layout, &name, if self.force { InUse::Force } else { InUse::Refuse })?;
        context.say(&format!("destroyed `{name}`"));
        Ok(0)
    }
}
