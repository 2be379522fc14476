//! `lxm start`.

use std::os::fd::AsFd;

use clap::ValueEnum;

use super::{Context, NamesOrAllArg, for_each, require_root};
use crate::container::boot_report::order_of;
use crate::container::status::ContainerState;
use crate::error::{Error, Result};
use crate::ops::start::{GuestChanges, StartRequest, WaitFor, note, start_and_wait};
use crate::store::AliveLock;
use crate::types::{ContainerName, Timeout};
use crate::{attach, sys};

/// Start containers
#[derive(Debug, clap::Args)]
pub(super) struct Start {
    #[command(flatten)]
    names: NamesOrAllArg,

    /// As in LXC: what lxm does anyway
    #[arg(short = 'd', long = "daemon", hide = true, conflicts_with = "foreground")]
    daemon: bool,

    /// Stay connected to the console until the container stops
    #[arg(short = 'F', long)]
    foreground: bool,

    /// Discard all changes to its files when it stops
    #[arg(long)]
    ephemeral: bool,

    /// Wait until the container has reached this state
    #[arg(long, value_enum, value_name = "STATE")]
    wait: Option<Reached>,

    /// How long to wait for the start, and then for the state of --wait
    #[arg(short, long, default_value = "60s", value_name = "DURATION")]
    timeout: Timeout,
}

/// What `--wait` may be.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Reached {
    /// Its init reports that the system is up
    Booted,
    /// It has an address that other hosts can reach
    Network,
    /// Its ssh server answers
    Ssh,
}

impl From<Reached> for WaitFor {
    fn from(reached: Reached) -> Self {
        match reached {
            Reached::Booted => WaitFor::Booted,
            Reached::Network => WaitFor::Network,
            Reached::Ssh => WaitFor::Ssh,
        }
    }
}

impl Start {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("start a container")?;
        let names = self.names.get(context, |state| {
            // One that runs is waited for as well.
            state == ContainerState::Stopped || self.wait.is_some() && state == ContainerState::Running
        })?;
        let request = StartRequest {
            window: sys::tty::window_size(std::io::stdin().as_fd()),
            limit: self.timeout.get(),
            changes: if self.ephemeral { GuestChanges::Vanish } else { GuestChanges::Stay },
            wait: self.wait.map(WaitFor::from),
        };
        if !self.foreground {
            let order = order_of(&context.layout, &names);
            let plan = order.start(names.iter().cloned());
            if plan.waiting().all(|name| names.contains(name)) && names.len() == 1 {
                return for_each::for_each(context, &names, |name| begin(context, name, request));
            }
            let others: Vec<_> = plan.waiting().cloned().collect();
            let is_required = |name: &ContainerName| others.iter().any(|other| order.of(other).1.contains(name));
            let start = |name: &ContainerName| {
                // What others require is to be up, not just to run.
                let wait = request.wait.or_else(|| is_required(name).then_some(WaitFor::Booted));
                if !names.contains(name) {
                    return start_required(context, name, StartRequest { wait, ..request });
                }
                begin(context, name, StartRequest { wait, ..request })
            };
            return for_each::in_order(context, plan, start)?.arranged(&names).finish(context);
        }
        let [name] = &names[..] else {
            return Err(Error::usage("`--foreground` takes one container only"));
        };
        start_and_wait(&context.layout, name, StartRequest { wait: None, ..request })?;
        attach::console(&context.layout, name, attach::Until::Stopped, || ()).map(|()| 0)
    }
}

/// Starts one that a named one requires, unless it runs.
fn start_required(context: &Context, name: &ContainerName, request: StartRequest) -> Result<()> {
    context.layout.require(name)?;
    if AliveLock::is_held(&context.layout, name)? {
        return Ok(());
    }
    context.say(&format!("`{name}` is required and is started first"));
    begin(context, name, StartRequest { changes: GuestChanges::Stay, ..request })
}

/// Starts one, and says what an admin should know of it.
fn begin(context: &Context, name: &ContainerName, request: StartRequest) -> Result<()> {
    start_and_wait(&context.layout, name, request)?;
    note(&context.layout, name).iter().for_each(|note| context.say(&format!("warning: {note}")));
    Ok(())
}
