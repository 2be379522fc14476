use super::{Context, NameArg, require_root};
use crate::error::Result;
use crate::ops::freeze::set_frozen;

/// Stop all processes of a container where they are
#[derive(Debug, clap::Args)]
pub struct Freeze {
    #[command(flatten)]
    name: NameArg,
}

/// Have the processes of a frozen container go on
#[derive(Debug, clap::Args)]
pub struct Unfreeze {
    #[command(flatten)]
    name: NameArg,
}

impl Freeze {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("freeze a container")?;
        set_frozen(&context.layout, &self.name.get()?, true)?;
        Ok(0)
    }
}

impl Unfreeze {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("unfreeze a container")?;
        set_frozen(&context.layout, &self.name.get()?, false)?;
        Ok(0)
    }
}
