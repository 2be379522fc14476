use super::{Context, for_each, name, require_root};
use crate::error::{Error, Result};
use crate::ops::adopt::{As, adopt, strangers};
use crate::types::ContainerName;

/// Take over container directories that were copied, moved or restored by hand
///
/// A container that was moved, or restored from a backup, starts without this. One that was renamed
/// by hand gets its new hostname by it. A copy of a container that is still there is refused by
/// `start`: --new-identity makes it a container of its own, with its own ids, uuid, machine-id, MAC
/// addresses, ssh host keys and overlay layer; settings that only one can have are left out.
#[derive(Debug, clap::Args)]
#[command(override_usage = "lxm adopt [OPTIONS] <NAME>...\n       lxm adopt [OPTIONS] --all")]
#[command(after_help = "\
Examples:
  cp -a /var/lib/lxm/web /var/lib/lxm/web2 && lxm adopt web2 --new-identity
  rsync -aHAX --numeric-ids old:/var/lib/lxm/ /var/lib/lxm/ && lxm adopt --all")]
pub struct Adopt {
    /// The containers
    #[arg(value_name = "NAME", required_unless_present = "all", add = name::completer())]
    names: Vec<ContainerName>,

    /// All containers of the directory that were made elsewhere or under another name
    #[arg(long, conflicts_with = "names")]
    all: bool,

    /// Make it another container than the one that it was copied from
    #[arg(long)]
    new_identity: bool,
}

impl Adopt {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("adopt a container")?;
        let layout = &context.layout;
        if !layout.containers().is_dir() {
            return Err(Error::not_found(format!("there is no directory `{}`", layout.containers().display())));
        }
        let names = if self.all { strangers(layout)? } else { self.names };
        let who = if self.new_identity { As::Another } else { As::Itself };
        for_each::for_each(&names, |name| {
            for setting in adopt(layout, name, who)? {
                context.say(&format!("left out, because it is the other one's alone: {setting}"));
            }
            context.say(&format!("adopted `{name}`"));
            Ok(())
        })
    }
}
