//! Processes that not even SIGKILL ends, because they close a file of a FUSE file system whose server, a
//! process of the guest's too, never answers (`FLUSH` in an exiting process is not interruptible).
//!
//! The kernel's way out is to abort the connection, in a file of the `fusectl` file system
//! (Documentation/filesystems/fuse.rst), named by the minor number of what is mounted.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::error::{Context, Result};

/// Aborts the connections of the FUSE file systems of a guest, whose processes are in `group`: those that
/// its users have mounted, which its own ids tell wherever it has hidden them, and, for a privileged one, that
/// its processes see. Those that this process sees mounted too are the host's, and stay.
pub(super) fn abort(group: &Path) -> Result<()> {
    let processes = super::tree::processes(group)?;
    let ranges: Vec<Range<u64>> = processes.iter().filter_map(|pid| ids(*pid)).collect();
    let hosts = mounted("self");
    let seen: BTreeSet<u32> = processes.iter().flat_map(|pid| tasks(*pid)).flat_map(|task| mounted(&task)).collect();
    // Attached nowhere: it goes with its descriptor.
    let control = crate::sys::mount::new_filesystem("fusectl", &[], MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
    let list = openat(&control, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let list = list.and_then(Dir::read_from).context(|| "list the FUSE file systems")?;
    for entry in list.flatten() {
        let Some(minor) = entry.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // The directory is the mounter's.
        let owner = statat(&control, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW).map(|stat| u64::from(stat.st_uid));
        let is_guests = owner.is_ok_and(|owner| ranges.iter().any(|range| range.contains(&owner)));
        if hosts.contains(&minor) || !is_guests && !seen.contains(&minor) {
            continue;
        }
        match openat(&control, format!("{minor}/abort"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            // Its last user has gone meanwhile.
            Err(Errno::NOENT) => {}
            file => drop(rustix::io::write(&file.context(|| "abort a FUSE file system of the guest")?, b"1")),
        }
    }
    Ok(())
}

/// The ids that a process has on this host; `None` where they are the host's own.
fn ids(process: i32) -> Option<Range<u64>> {
    parse_ids(&std::fs::read_to_string(format!("/proc/{process}/uid_map")).ok()?)
}

/// user_namespaces(7): lines of `INSIDE OUTSIDE COUNT`, of which a guest of lxm's has one.
fn parse_ids(map: &str) -> Option<Range<u64>> {
    let mut fields = map.split_whitespace().skip(1).map(|field| field.parse::<u64>().ok());
    let (first, count) = (fields.next()??, fields.next()??);
    (first > 0).then(|| first..first + count)
}

/// A process's threads: of one whose first thread has ended the others still see mounts.
fn tasks(process: i32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    tasks.map(|task| format!("{process}/task/{}", task.file_name().to_string_lossy())).collect()
}

/// The minor numbers of the FUSE file systems that a process or a thread sees.
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
    fn guest_ids_are_distinguished_from_the_hosts() {
        assert_eq!(parse_ids("         0     524288      65536\n"), Some(524_288..589_824));
        assert_eq!(parse_ids("         0          0 4294967295\n"), None);
        assert_eq!(parse_ids(""), None);
        assert_eq!(ids(std::process::id() as i32), None);
    }

    #[test]
    fn fuse_mounts_are_recognised_by_their_type() {
        assert_eq!(minor_of_fuse("275 75 0:93 / /mnt rw,relatime shared:243 - fuse none rw"), Some(93));
        assert_eq!(minor_of_fuse("275 75 0:94 / /m rw - fuse.sshfs h rw"), Some(94));
        assert_eq!(minor_of_fuse("275 75 0:95 / /sys rw - fusectl h rw"), None);
        assert_eq!(minor_of_fuse("275 75 8:1 / / rw - ext4 /dev/sda rw"), None);
    }
}
