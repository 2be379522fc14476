use super::{Context, NameArg};
use crate::error::Result;
use crate::ops::wait::{Goal, wait};
use crate::types::Timeout;

/// Wait until a container is in a state
///
/// States are running, frozen, starting, stopping, stopped, and booted: its init has said that the
/// system is up.
#[derive(Debug, clap::Args)]
pub struct Wait {
    #[command(flatten)]
    name: NameArg,

    /// The state, or several as `lxc-wait` takes them: 'RUNNING|STOPPED'
    #[arg(short = 's', long = "for", visible_alias = "state", value_name = "STATE")]
    goal: String,

    /// How long to wait, by default for ever; then the exit status is 7
    #[arg(short, long, value_name = "DURATION")]
    timeout: Option<Timeout>,
}

impl Wait {
    pub fn run(self, context: &Context) -> Result<u8> {
        let goals: Vec<Goal> = self.goal.split(['|', ',']).map(|goal| goal.trim().parse()).collect::<Result<_>>()?;
        let limit = self.timeout.map(Timeout::get);
        wait(&context.layout, &self.name.name, &goals, limit).map(|()| 0)
    }
}
