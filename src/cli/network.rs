use clap::Subcommand;

use super::{Context, require_root};
use crate::error::Result;
use crate::net::serve::{self, Readiness};

/// Bridges, leases and names
#[derive(Debug, clap::Args)]
pub struct Network {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(Serve),
}

impl Network {
    pub fn run(self, context: &Context) -> Result<u8> {
        match self.verb {
            Verb::Serve(verb) => verb.run(context),
        }
    }
}

/// Gives leases and answers for names on a bridge, until told to stop
///
/// One process a bridge, in the foreground: for the unit lxm-net@.service. Where no service
/// manager runs, the first container with a network starts it.
#[derive(Debug, clap::Args)]
struct Serve {
    bridge: String,

    /// Say on standard output when names and leases are served, then leave the session
    #[arg(long, hide = true)]
    spawned: bool,
}

impl Serve {
    fn run(self, context: &Context) -> Result<u8> {
        require_root("serve leases")?;
        let readiness = if self.spawned { Readiness::Stdout } else { Readiness::Notify };
        serve::run(&context.layout, &self.bridge, readiness).map(|()| 0)
    }
}
