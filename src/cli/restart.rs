use super::stop::{HowArgs, tell};
use super::{Context, NameArg, require_root};
use crate::error::Result;
use crate::ops::stop::restart;

/// Reboot a container
#[derive(Debug, clap::Args)]
pub struct Restart {
    #[command(flatten)]
    name: NameArg,

    #[command(flatten)]
    how: HowArgs,
}

impl Restart {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("restart a container")?;
        let name = self.name.get()?;
        let how = self.how.get(context, &name)?;
        restart(&context.layout, &name, how, |rung| tell(context, &name, rung))?;
        Ok(0)
    }
}
