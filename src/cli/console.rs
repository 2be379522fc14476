use super::{Context, NameArg, require_root};
use crate::attach;
use crate::error::Result;

/// Connect to the console of a container
///
/// To leave press ^] (Ctrl and ]) three times within a second, or ^a and then q.
#[derive(Debug, clap::Args)]
pub(super) struct Console {
    #[command(flatten)]
    name: NameArg,
}

impl Console {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("connect to a console")?;
        let name = self.name.name;
        let joined = || {
            context.say(&format!("Connected to `{name}`. Press ^] three times within a second, or ^a q, to leave."));
        };
        attach::console(&context.layout, &name, attach::Until::Left, joined).map(|()| 0)
    }
}
