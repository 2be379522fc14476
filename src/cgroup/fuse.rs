//! Processes that not even SIGKILL ends, because they close a file of a FUSE file system whose server, a
//! process of the guest's too, never answers (`FLUSH` in an exiting process is not interruptible).
//!
//! The kernel's way out is to abort the connection, in a file of the `fusectl` file system
//! (Documentation/filesystems/fuse.rst), named by the minor number of what is mounted.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use crate::error::{Context, Result};

/// Aborts the connections of all FUSE file systems that processes in `group` have mounted. Those that
/// this process sees mounted too are the host's, and stay.
pub(super) fn abort(group: &Path) -> Result<()> {
    let hosts = mounted("self");
    let guests: BTreeSet<u32> =
        super::tree::processes(group)?.iter().flat_map(|pid| mounted(&pid.to_string())).collect();
    if guests.is_subset(&hosts) {
        return Ok(());
    }
    // Attached nowhere: it goes with its descriptor.
    let control = crate::sys::mount::new_filesystem("fusectl", &[], MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
    for minor in guests.difference(&hosts) {
        let file =
            rustix::fs::openat(&control, format!("{minor}/abort"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        match file {
            // Its last user has gone meanwhile.
            Err(rustix::io::Errno::NOENT) => {}
            file => drop(rustix::io::write(&file.context(|| "abort a FUSE file system of the guest")?, b"1")),
        }
    }
    Ok(())
}

/// The minor numbers of the FUSE file systems that a process sees.
fn mounted(process: &str) -> BTreeSet<u32> {
    let table = std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    table.lines().filter_map(minor_of_fuse).collect()
}

/// proc_pid_mountinfo(5): `ID PARENT MAJOR:MINOR ROOT TARGET OPTIONS … - TYPE SOURCE …`.
fn minor_of_fuse(line: &str) -> Option<u32> {
    let (left, right) = line.split_once(" - ")?;
    let kind = right.split(' ').next()?;
    let minor = left.split(' ').nth(2)?.strip_prefix("0:")?;
    (kind == "fuse" || kind.starts_with("fuse.")).then(|| minor.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuse_mounts_are_told_by_their_type() {
        assert_eq!(minor_of_fuse("275 75 0:93 / /mnt rw,relatime shared:243 - fuse none rw"), Some(93));
        assert_eq!(minor_of_fuse("275 75 0:94 / /m rw - fuse.sshfs h rw"), Some(94));
        assert_eq!(minor_of_fuse("275 75 0:95 / /sys rw - fusectl h rw"), None);
        assert_eq!(minor_of_fuse("275 75 8:1 / / rw - ext4 /dev/sda rw"), None);
    }
}
