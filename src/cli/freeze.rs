use super::{Context, NamesArg, for_each, require_root};
use crate::error::Result;
use crate::ops::freeze::set_frozen;

/// Freeze all processes of containers
#[derive(Debug, clap::Args)]
pub(super) struct Freeze {
    #[command(flatten)]
    names: NamesArg,
}

/// Let frozen containers run again
#[derive(Debug, clap::Args)]
pub(super) struct Unfreeze {
    #[command(flatten)]
    names: NamesArg,
}

impl Freeze {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("freeze a container")?;
        for_each::for_each(&self.names.names, |name| set_frozen(&context.layout, name, true))
    }
}

impl Unfreeze {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("unfreeze a container")?;
        for_each::for_each(&self.names.names, |name| set_frozen(&context.layout, name, false))
    }
}
