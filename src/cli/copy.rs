use super::{Context, NameArg, for_each, require_root};
use crate::error::Result;
use crate::ops::copy::{CopyRequest, copy};
use crate::storage::nested;
use crate::types::{ContainerName, SnapshotName};

/// Make containers of another one, with identities of their own
///
/// Each copy has its own machine-id, ssh host keys, host name, MAC and uuid. A running container is
/// frozen for the moment. On overlay and btrfs they share their files until one changes them.
#[derive(Debug, clap::Args)]
pub struct Copy {
    #[command(flatten)]
    name: NameArg,

    /// Names of the copies
    #[arg(value_name = "NEW", required = true)]
    to: Vec<ContainerName>,

    /// Copy its state of then, rather than of now
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<SnapshotName>,

    /// Take over also settings of the snapshot that give more than the container has now
    #[arg(long, requires = "snapshot")]
    trust: bool,

    /// Where to keep the copies' files: auto, dir, overlay or btrfs [default: as the original's]
    #[arg(long, value_name = "BACKEND")]
    storage: Option<String>,
}

impl Copy {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("copy a container")?;
        let from = self.name.name;
        nested_is_left_out(context, &from);
        for_each::for_each(&self.to, |to| {
            let (snapshot, storage) = (self.snapshot.clone(), self.storage.clone());
            let request = CopyRequest { from: from.clone(), snapshot, to: to.clone(), trust: self.trust, storage };
            for setting in copy(&context.layout, &request)? {
                context.say(&format!("left out, because it is the other one's alone or more than that has: {setting}"));
            }
            Ok(())
        })
    }
}

/// Tells what of a container is not in its copies, snapshots and exports.
pub fn nested_is_left_out(context: &Context, name: &ContainerName) {
    for directory in nested::in_use(&context.layout.container(name)) {
        context.say(&format!("left out: `{directory}`, which a container manager in `{name}` keeps apart"));
    }
}
