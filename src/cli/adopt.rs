use super::{Context, for_each, name, require_root};
use crate::error::{Error, Result};
use crate::ops::adopt::{As, adopt, not_at_home};
use crate::types::ContainerName;

/// Register containers that were copied, moved or restored by hand
///
/// A container that was moved, or restored from a backup, starts without this. One whose directory
/// was renamed by hand gets its new hostname. `lxm start` refuses a copy while the original exists:
/// --new-identity gives the copy its own ids, uuid, machine-id, MAC addresses, ssh host keys and
/// overlay layer, and removes settings that only one container can have, such as static addresses.
#[derive(Debug, clap::Args)]
#[command(override_usage = "lxm adopt [OPTIONS] <NAME>...\n       lxm adopt [OPTIONS] --all")]
#[command(after_help = "\
Examples:
  cp -a /var/lib/lxm/web /var/lib/lxm/web2 && lxm adopt web2 --new-identity
  rsync -aHAX --numeric-ids old:/var/lib/lxm/ /var/lib/lxm/ && lxm adopt --all")]
pub(super) struct Adopt {
    /// Containers
    #[arg(value_name = "NAME", required_unless_present = "all", add = name::completer())]
    names: Vec<ContainerName>,

    /// Adopt all containers that were created in another directory or under another name
    #[arg(long, conflicts_with = "names")]
    all: bool,

    /// Give each a new identity, as `lxm copy` does
    #[arg(long)]
    new_identity: bool,
}

impl Adopt {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("adopt a container")?;
        let layout = &context.layout;
        if !layout.containers().is_dir() {
            return Err(Error::not_found(format!("there is no directory `{}`", layout.containers().display())));
        }
        let names = if self.all { not_at_home(layout)? } else { self.names };
        let who = if self.new_identity { As::Another } else { As::Itself };
        for_each::for_each(context, &names, |name| {
            for setting in adopt(layout, name, who)? {
                context.say(&format!("not taken over, because only the original can have it: {setting}"));
            }
            context.say(&format!("adopted `{name}`"));
            Ok(())
        })
    }
}
