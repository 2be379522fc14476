//! `lxm start`.

use std::os::fd::AsFd;

use clap::ValueEnum;

use super::{Context, NamesOrAllArg, for_each, require_root};
use crate::container::status::ContainerState;
use crate::error::{Error, Result};
use crate::ops::start::{GuestChanges, StartRequest, WaitFor, start_and_wait};
use crate::types::Timeout;
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
            return for_each::for_each(context, &names, |name| start_and_wait(&context.layout, name, request));
        }
        let [name] = &names[..] else {
            return Err(Error::usage("`--foreground` takes one container only"));
        };
        start_and_wait(&context.layout, name, StartRequest { wait: None, ..request })?;
        attach::console(&context.layout, name, attach::Until::Stopped, || ()).map(|()| 0)
    }
}
