use super::{Context, NamesArg, for_each, require_root};
use crate::error::Result;
use crate::ops::kill::kill;
use crate::types::Signal;

/// Send a signal to the init of containers
///
/// Without `-s` it is KILL, which ends the whole container at once and is waited for: the other
/// common default, TERM, means "restart yourself" to systemd. `lxm stop` shuts down in order.
#[derive(Debug, clap::Args)]
pub struct Kill {
    #[command(flatten)]
    names: NamesArg,

    /// By name or number: TERM, SIGHUP, 15, RTMIN+3
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: Signal,
}

impl Kill {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("send a signal to a container")?;
        for_each::for_each(&self.names.names, |name| kill(&context.layout, name, self.signal))
    }
}
