use super::{Context, NamesOrAllArg, for_each, require_root};
use crate::container::status::ContainerState;
use crate::error::Result;
use crate::ops::freeze::set_frozen;

/// Freeze all processes of containers
#[derive(Debug, clap::Args)]
pub(super) struct Freeze {
    #[command(flatten)]
    names: NamesOrAllArg,
}

/// Let frozen containers run again
#[derive(Debug, clap::Args)]
pub(super) struct Unfreeze {
    #[command(flatten)]
    names: NamesOrAllArg,
}

impl Freeze {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("freeze a container")?;
        let names = self.names.get(context, |state| state == ContainerState::Running)?;
        for_each::for_each(context, &names, |name| set_frozen(&context.layout, name, true))
    }
}

impl Unfreeze {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("unfreeze a container")?;
        let names = self.names.get(context, |state| state == ContainerState::Frozen)?;
        for_each::for_each(context, &names, |name| set_frozen(&context.layout, name, false))
    }
}
