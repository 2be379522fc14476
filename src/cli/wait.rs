use super::{Context, NameArg};
use crate::error::Result;
use crate::ops::wait::{Goal, wait};
use crate::types::Timeout;

/// Wait until a container reaches a state
///
/// States: running, frozen, starting, stopping, stopped, and booted (its init has reported that the
/// system is up). The exit status is 7 if the timeout expires.
#[derive(Debug, clap::Args)]
pub(super) struct Wait {
    #[command(flatten)]
    name: NameArg,

    /// State, or several as in lxc-wait: 'RUNNING|STOPPED'
    #[arg(short = 's', long = "for", visible_alias = "state", value_name = "STATE")]
    goal: String,

    /// How long to wait, such as 30s [default: forever]
    #[arg(short, long, value_name = "DURATION")]
    timeout: Option<Timeout>,
}

impl Wait {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let goals: Vec<Goal> = self.goal.split(['|', ',']).map(|goal| goal.trim().parse()).collect::<Result<_>>()?;
        let limit = self.timeout.map(Timeout::get);
        wait(&context.layout, &self.name.name, &goals, limit).map(|()| 0)
    }
}
