//! The ids of a guest's mounts: the guest's own, and a place for the host's root.

use std::fs::File;

use crate::error::{Context, Result};
use crate::sys::userns;
use crate::types::IdRange;

/// The stored uid and gid of what the host's root makes in a guest's tree, as systemd-nspawn has
/// it: the last id that is none of a guest's.
///
/// `machinectl copy-to` makes each file as the host's root and gives it away then; where that id
/// is not mapped the file system refuses it (EOVERFLOW). In the guest it is nobody's: the guest's
/// own user namespace does not have it, so no setuid file of it works there.
const HOST_ROOT: u32 = i32::MAX as u32 - 1;

/// Makes a user namespace that maps ids as the guest's mounts shall have them.
pub(super) fn namespace(ids: IdRange) -> Result<File> {
    let map = format!("0 {} {}\n{HOST_ROOT} 0 1\n", ids.base, ids.len);
    userns::make(ids.base, &map).context(|| "map the ids of the guest's mounts")
}

/// Makes one that maps one stored id, a user's and a group's alike, to the id `seen` of the host.
pub(super) fn pair(stored: u32, seen: u32) -> Result<File> {
    userns::make(0, &format!("{stored} {seen} 1\n")).context(|| "map the ids of the guest's mounts")
}
