use std::os::fd::AsFd;

use super::{Context, NameArg, require_root};
use crate::error::Result;
use crate::net::reach;
use crate::ops::ssh;
use crate::ops::start::{Changes, WaitFor, start, wait_booted};
use crate::types::Timeout;
use crate::{attach, host, sys};

/// Start a container
#[derive(Debug, clap::Args)]
pub struct Start {
    #[command(flatten)]
    name: NameArg,

    /// Stay on the console until the container stops
    #[arg(short = 'F', long)]
    foreground: bool,

    /// Undo when it stops all that it changes from now on
    #[arg(long)]
    ephemeral: bool,

    /// Return only when the container has come this far
    #[arg(long, value_enum, value_name = "STATE")]
    wait: Option<WaitFor>,

    /// How long to wait
    #[arg(short, long, default_value = "60s", value_name = "DURATION")]
    timeout: Timeout,
}

impl Start {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("start a container")?;
        let name = self.name.get()?;
        let window = sys::tty::window_size(std::io::stdin().as_fd());
        let changes = if self.ephemeral { Changes::Vanish } else { Changes::Stay };
        start(&context.layout, &name, host::Start { window, limit: self.timeout.get() }, changes)?;
        if self.foreground {
            return attach::console(&context.layout, &name, attach::Until::Stopped, || ()).map(|()| 0);
        }
        // For those who may not look into the guest; whoever needs them and lacks them is told.
        let _ = ssh::note_host_keys(&context.layout, &name);
        match self.wait {
            Some(WaitFor::Booted) => wait_booted(&context.layout, &name, self.timeout.get())?,
            Some(WaitFor::Network) => drop(reach::wait_address(&context.layout, &name, self.timeout.get())?),
            Some(WaitFor::Ssh) => reach::wait_ssh(&context.layout, &name, self.timeout.get())?,
            None => {}
        }
        Ok(0)
    }
}
