use std::os::fd::AsFd;

use super::{Context, NamesArg, for_each, require_root};
use crate::error::{Error, Result};
use crate::ops::start::{Changes, StartRequest, WaitFor, start_and_wait};
use crate::types::Timeout;
use crate::{attach, sys};

/// Start containers
#[derive(Debug, clap::Args)]
pub struct Start {
    #[command(flatten)]
    names: NamesArg,

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
        let names = self.names.names;
        let request = StartRequest {
            window: sys::tty::window_size(std::io::stdin().as_fd()),
            limit: self.timeout.get(),
            changes: if self.ephemeral { Changes::Vanish } else { Changes::Stay },
            wait: self.wait,
        };
        if !self.foreground {
            return for_each::for_each(&names, |name| start_and_wait(&context.layout, name, request));
        }
        let [name] = &names[..] else {
            return Err(Error::usage("`--foreground` shows one container's console: name one"));
        };
        start_and_wait(&context.layout, name, StartRequest { wait: None, ..request })?;
        attach::console(&context.layout, name, attach::Until::Stopped, || ()).map(|()| 0)
    }
}
