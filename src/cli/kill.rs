use super::{Context, NamesOrAllArg, for_each, require_root};
use crate::container::status::ContainerState;
use crate::error::Result;
use crate::ops::kill::kill;
use crate::types::Signal;

/// Send a signal to the init of containers
///
/// The default, KILL, ends the whole container at once, and the command waits for its end. (TERM, the
/// default of kill(1), makes systemd re-execute itself.) `lxm stop` shuts a container down cleanly.
#[derive(Debug, clap::Args)]
pub(super) struct Kill {
    #[command(flatten)]
    names: NamesOrAllArg,

    /// Signal, by name or number: TERM, SIGHUP, 15, RTMIN+3
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: Signal,
}

impl Kill {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("send a signal to a container")?;
        let names = self.names.get(context, |state| state != ContainerState::Stopped)?;
        for_each::for_each(context, &names, |name| {
            kill(&context.layout, name, self.signal)?;
            Ok(serde_json::json!({ "signal": self.signal.to_string() }))
        })
    }
}
