use super::{Context, NameAndWords, require_root};
use crate::error::Result;
use crate::ops::copy::{CopyRequest, copy};
use crate::storage::nested;
use crate::types::{ContainerName, SnapshotName};

/// Make a container of another one, with an identity of its own
///
/// The copy has its own machine-id, ssh host keys, host name, MAC and uuid. A running container is
/// frozen for the moment. On overlay and btrfs both share their files until one changes them.
#[derive(Debug, clap::Args)]
#[command(override_usage = "lxm copy [OPTIONS] <NAME> <NEW>")]
pub struct Copy {
    #[command(flatten)]
    names: NameAndWords,

    /// Copy its state of then, rather than of now
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<SnapshotName>,

    /// Where to keep the copy's files: auto, dir, overlay or btrfs [default: as the original's]
    #[arg(long, value_name = "BACKEND")]
    storage: Option<String>,
}

impl Copy {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("copy a container")?;
        let (from, [to]) = self.names.get(["NEW"])?;
        let request = CopyRequest { from, snapshot: self.snapshot, to: to.parse()?, storage: self.storage };
        nested_is_left_out(context, &request.from);
        for setting in copy(&context.layout, &request)? {
            context.say(&format!("left out, because one container alone can have it: {setting}"));
        }
        Ok(0)
    }
}

/// Tells what of a container is not in its copies, snapshots and exports.
pub fn nested_is_left_out(context: &Context, name: &ContainerName) {
    for directory in nested::in_use(&context.layout.container(name)) {
        context.say(&format!("left out: `{directory}`, which a container manager in `{name}` keeps apart"));
    }
}
