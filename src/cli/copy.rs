//! `lxm copy`.

use super::{Context, NameArg, for_each, require_root};
use crate::error::Result;
use crate::ops::copy::{CopyRequest, copy, not_copied};
use crate::types::{ContainerName, SnapshotName};

/// Copy a container to one or more new ones
///
/// Each copy gets its own hostname, ids, uuid, machine-id, MAC addresses and ssh host keys. A running
/// container is frozen while its files are copied. With overlay and btrfs the copies share their
/// files with the original until one changes them.
#[derive(Debug, clap::Args)]
pub(super) struct Copy {
    #[command(flatten)]
    name: NameArg,

    /// Names of the copies
    #[arg(value_name = "NEW", required_unless_present = "as_in_lxc")]
    to: Vec<ContainerName>,

    /// The name as lxc-copy has it
    #[arg(short = 'N', long = "newname", hide = true)]
    as_in_lxc: Vec<ContainerName>,

    /// Copy this snapshot instead of the current state
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<SnapshotName>,

    /// Restore also settings of the snapshot that grant more rights than the container has now
    #[arg(long, requires = "snapshot")]
    trust: bool,

    /// Storage backend of the copies: auto, dir, overlay or btrfs [default: the original's]
    #[arg(long, value_name = "BACKEND")]
    storage: Option<String>,
}

impl Copy {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("copy a container")?;
        let from = self.name.name;
        nested_is_left_out(context, &from);
        let to = [&self.to[..], &self.as_in_lxc].concat();
        for_each::for_each(context, &to, |to| {
            let (snapshot, storage) = (self.snapshot.clone(), self.storage.clone());
            let request = CopyRequest { from: from.clone(), snapshot, to: to.clone(), trust: self.trust, storage };
            let not_copied = copy(&context.layout, &request)?;
            not_copied.remarks.iter().for_each(|remark| context.say(remark));
            for setting in not_copied.settings {
                context.say(&format!(
                    "not copied, because only the original can have it, or it grants more rights: {setting}"
                ));
            }
            Ok(serde_json::json!({ "from": from }))
        })
    }
}

/// Tells what of a container is not in its copies, snapshots and exports.
pub(super) fn nested_is_left_out(context: &Context, name: &ContainerName) {
    for directory in not_copied(&context.layout, name) {
        context.say(&format!("not included: `{directory}`, the storage of a container manager in `{name}`"));
    }
}
