//! `lxm restart`: the guests boot again, and with them those that require them.

use std::time::Duration;

use super::start::Reached;
use super::stop::{HowArgs, requiring, stop_one, tell};
use super::{Context, NamesOrAllArg, for_each, require_root};
use crate::config::StartOrder;
use crate::container::boot_report::order;
use crate::container::status::ContainerState;
use crate::error::Result;
use crate::ops::dependants::require_running;
use crate::ops::start::{GuestChanges, StartRequest, start_and_wait, wait_for_guest};
use crate::ops::stop::{require_restartable, restart};
use crate::store::{AliveLock, LastRun};
use crate::types::ContainerName;

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
        let order = order(&context.layout)?;
        let dependants = requiring(context, &order, &names)?;
        if dependants.is_empty() {
            return for_each::for_each(context, &names, |name| self.restart(context, name));
        }
        // What is refused is refused before anything is stopped.
        require_restartable(&context.layout, &names)?;
        require_restartable(&context.layout, &dependants)?;
        let stop = |name: &ContainerName| stop_one(context, name, &self.how).map(drop);
        let stopped = for_each::in_order(context, order.stop(dependants.iter().cloned()), stop)?;
        if stopped.status != 0 {
            // The others run on, and so do those again that were stopped for them.
            let down = dependants.iter().filter(|name| !AliveLock::is_held(&context.layout, name).unwrap_or(true));
            let again = |name: &ContainerName| self.start(context, &order, name);
            for_each::in_order(context, order.start_only(down.cloned()), again)?;
            return stopped.finish(context);
        }
        let plan = order.start_only(names.iter().chain(&dependants).cloned());
        let again = |name: &ContainerName| match dependants.contains(name) {
            true => self.start(context, &order, name),
            false => self.restart(context, name),
        };
        for_each::in_order(context, plan, again)?.arranged(&names).finish(context)
    }

    fn restart(&self, context: &Context, name: &ContainerName) -> Result<()> {
        // Its mistakes are the refusal, and said once.
        context.layout.config(name)?;
        let how = self.how.get(context, name)?;
        restart(&context.layout, name, how, |stop_stage| tell(context, name, stop_stage))?;
        let Some(wait) = self.wait else { return Ok(()) };
        // How the guest that was shut down ended.
        let before = LastRun::read(&context.layout, name);
        wait_for_guest(&context.layout, name, wait.into(), READY, before.as_ref())
    }

    /// Starts one that was stopped because it requires another one that is up again.
    fn start(&self, context: &Context, order: &StartOrder, name: &ContainerName) -> Result<()> {
        require_running(&context.layout, order, name)?;
        let request = StartRequest {
            window: (24, 80),
            limit: READY,
            changes: GuestChanges::Stay,
            wait: self.wait.map(Into::into),
        };
        start_and_wait(&context.layout, name, request)
    }
}
