use super::{Context, NamesArg, require_root, several};
use crate::error::Result;
use crate::ops::freeze::set_frozen;

/// Stop all processes of containers where they are
#[derive(Debug, clap::Args)]
pub struct Freeze {
    #[command(flatten)]
    names: NamesArg,
}

/// Have the processes of frozen containers go on
#[derive(Debug, clap::Args)]
pub struct Unfreeze {
    #[command(flatten)]
    names: NamesArg,
}

impl Freeze {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("freeze a container")?;
        several::each(&self.names.get()?, |name| set_frozen(&context.layout, name, true))
    }
}

impl Unfreeze {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("unfreeze a container")?;
        several::each(&self.names.get()?, |name| set_frozen(&context.layout, name, false))
    }
}
