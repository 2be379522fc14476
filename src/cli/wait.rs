use super::{Context, NamesArg, for_each};
use crate::error::Result;
use crate::ops::wait::{Goal, wait};
use crate::types::Timeout;

/// Wait until containers reach a state
///
/// States: running, frozen, starting, stopping, stopped; booted (its init has reported that the system
/// is up), network (it has an address that other hosts can reach) and ssh (its ssh server answers). The
/// exit status is 7 if the timeout expires.
#[derive(Debug, clap::Args)]
pub(super) struct Wait {
    #[command(flatten)]
    names: NamesArg,

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
        let names = self.names.get(context, |_| true)?;
        for_each::for_each(context, &names, |name| wait(&context.layout, name, &goals, limit))
    }
}
