use super::stop::{HowArgs, tell};
use super::{Context, NamesArg, for_each, require_root};
use crate::error::Result;
use crate::ops::stop::restart;

/// Reboot containers
#[derive(Debug, clap::Args)]
pub(super) struct Restart {
    #[command(flatten)]
    names: NamesArg,

    #[command(flatten)]
    how: HowArgs,
}

impl Restart {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("restart a container")?;
        for_each::for_each(&self.names.names, |name| {
            let how = self.how.get(context, name)?;
            restart(&context.layout, name, how, |stop_stage| tell(context, name, stop_stage)).map(drop)
        })
    }
}
