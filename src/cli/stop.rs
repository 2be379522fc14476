//! `lxm stop`: in order, or at once.

use std::time::Duration;

use serde_json::json;

use super::{Context, NamesOrAllArg, for_each, require_root};
use crate::config::{Boot, StartOrder};
use crate::container::boot_report::order;
use crate::container::status::ContainerState;
use crate::error::{Kind, Result};
use crate::ops::dependants;
use crate::ops::stop::{self, stop};
use crate::proto::control::StopStage;
use crate::types::{ContainerName, Timeout};

/// Shut containers down; kill those that exceed the timeout
#[derive(Debug, clap::Args)]
pub(super) struct Stop {
    #[command(flatten)]
    names: NamesOrAllArg,

    #[command(flatten)]
    how: HowArgs,
}

#[derive(Debug, Default, clap::Args)]
pub(super) struct HowArgs {
    /// Kill at once, without a shutdown
    #[arg(short, long)]
    kill: bool,

    /// How long the shutdown may take before the container is killed [default: `boot.stop-timeout`, 60s]
    #[arg(short, long, value_name = "DURATION", conflicts_with = "kill")]
    timeout: Option<Timeout>,
}

impl HowArgs {
    pub(super) fn get(&self, context: &Context, name: &ContainerName) -> Result<stop::StopMode> {
        match (self.kill, self.timeout) {
            (true, _) => Ok(stop::StopMode::Kill),
            (false, Some(timeout)) => Ok(stop::StopMode::Graceful { limit: timeout.get() }),
            (false, None) => Ok(stop::StopMode::Graceful { limit: stop_timeout(context, name)? }),
        }
    }
}

/// The container's `boot.stop-timeout`. A configuration that cannot be read is reported, and must not keep
/// the guest running.
fn stop_timeout(context: &Context, name: &ContainerName) -> Result<Duration> {
    let boot = match context.layout.config(name) {
        Err(e) if e.kind() != Kind::NotFound => {
            context.say(&format!("warning: {e}"));
            Boot::default()
        }
        config => config?.boot,
    };
    Ok(boot.stop_timeout.get())
}

/// Tells the user who waits what is being done to the guest.
pub(super) fn tell(context: &Context, name: &ContainerName, stop_stage: StopStage) {
    match stop_stage {
        StopStage::Signalled(signal) => {
            context.say(&format!("sent {signal} to the init of `{name}`, waiting for it to shut down"))
        }
        StopStage::Commanded => context.say(&format!("asked the init of `{name}` to shut down, waiting for it")),
        StopStage::Killed => context.say(&format!("killed `{name}`")),
        StopStage::Exited => {}
    }
}

impl Stop {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("stop a container")?;
        let names = self.names.get(context, |state| state != ContainerState::Stopped)?;
        let order = order(&context.layout)?;
        let mut all = requiring(context, &order, &names)?;
        all.retain(|name| !names.contains(name));
        if let ([name], []) = (&names[..], &all[..]) {
            return for_each::for_each(context, &names, |_| stop_one(context, name, &self.how));
        }
        let plan = order.stop(names.iter().chain(&all).cloned());
        let stop = |name: &ContainerName| match stop_one(context, name, &self.how) {
            // One that nobody has named may have stopped by itself.
            Err(e) if e.kind() == Kind::Conflict && !names.contains(name) => Ok(json!({ "killed": false })),
            stopped => stopped,
        };
        for_each::in_order(context, plan, stop)?.arranged(&names).finish(context)
    }
}

/// The running containers that require one of `names`: they are stopped first, which is said of those that
/// nobody has named.
pub(super) fn requiring(context: &Context, order: &StartOrder, names: &[ContainerName]) -> Result<Vec<ContainerName>> {
    let running = dependants::running(&context.layout, order, names)?;
    for name in running.iter().filter(|name| !names.contains(name)) {
        let required = order.of(name).1.into_iter().find(|other| names.contains(other) || running.contains(other));
        if let Some(required) = required {
            context.say(&format!("`{name}` requires `{required}` and is stopped first"));
        }
    }
    Ok(running)
}

/// Stops one container, and says how.
pub(super) fn stop_one(context: &Context, name: &ContainerName, how: &HowArgs) -> Result<serde_json::Value> {
    let how = how.get(context, name)?;
    let reached = stop(&context.layout, name, how, |stop_stage| tell(context, name, stop_stage))?;
    if let (StopStage::Killed, stop::StopMode::Graceful { limit }) = (reached, how) {
        // It has stopped, which is what was asked for; how may matter to its data.
        context.say(&format!("`{name}` did not shut down within {}s and was killed", limit.as_secs_f32()));
    }
    Ok(json!({ "killed": reached == StopStage::Killed }))
}
