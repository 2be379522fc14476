use std::time::Duration;

use super::start::Reached;
use super::stop::{HowArgs, tell};
use super::{Context, NamesOrAllArg, for_each, require_root};
use crate::container::status::ContainerState;
use crate::error::Result;
use crate::ops::start::wait_for_guest;
use crate::ops::stop::restart;
use crate::store::LastRun;

/// How long a restarted guest may take to get as far as is waited for.
const READY: Duration = Duration::from_secs(60);

/// Reboot containers
#[derive(Debug, clap::Args)]
pub(super) struct Restart {
    #[command(flatten)]
    names: NamesOrAllArg,

    #[command(flatten)]
    how: HowArgs,

    /// Wait until the container has reached this state, for 60s at most
    #[arg(long, value_enum, value_name = "STATE")]
    wait: Option<Reached>,
}

impl Restart {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("restart a container")?;
        let names = self.names.get(context, |state| state != ContainerState::Stopped)?;
        for_each::for_each(context, &names, |name| {
            // Its mistakes are the refusal, and said once.
            context.layout.config(name)?;
            let how = self.how.get(context, name)?;
            restart(&context.layout, name, how, |stop_stage| tell(context, name, stop_stage))?;
            let Some(wait) = self.wait else { return Ok(()) };
            // How the guest that was shut down ended.
            let before = LastRun::read(&context.layout, name);
            wait_for_guest(&context.layout, name, wait.into(), READY, before.as_ref())
        })
    }
}
