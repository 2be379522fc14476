//! Where this host has its control groups: v1, v2 or both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

/// The mounted cgroup hierarchies of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Mount point of the v2 tree.
    pub unified: Option<PathBuf>,
    /// Mount points of the v1 hierarchies by controller; those that are of no use to us are not among them.
    pub v1: BTreeMap<String, PathBuf>,
    /// The rest: `freezer`, `devices`, `name=systemd` and the like.
    pub(super) other_v1: Vec<PathBuf>,
}

/// How the host lays its cgroups out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupLayout {
    /// Version 2 alone.
    Unified,
    /// A v2 tree beside v1 hierarchies that hold the controllers.
    Hybrid,
    /// No v2 tree: lxm cannot run here.
    Legacy,
}

/// The v1 controllers that a container is placed in: those that account or limit.
///
/// Not `freezer` and `devices`: version 2 does both in the unified tree, without controllers.
const USED_V1: [&str; 6] = ["cpu", "cpuacct", "cpuset", "memory", "blkio", "pids"];

impl Hierarchies {
    /// Reads them from this process's mount table.
    pub fn detect() -> Result<Self> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").context(|| "read the mount table")?;
        Ok(Self::parse(&table))
    }

    /// As [`Self::detect`], from the text of proc_pid_mountinfo(5).
    fn parse(table: &str) -> Self {
        let mut found = Hierarchies::default();
        for line in table.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
            let (root, target) = (left.next().unwrap_or(""), left.next().unwrap_or(""));
            let (kind, options) = (right.next().unwrap_or(""), right.nth(1).unwrap_or(""));
            // Only a whole hierarchy as this cgroup namespace sees it; a bind of a part is not one.
            if root != "/" {
                continue;
            }
            match kind {
                "cgroup2" if found.unified.is_none() => found.unified = Some(target.into()),
                "cgroup" => {
                    let used = |option: &&str| USED_V1.contains(option);
                    for controller in options.split(',').filter(used) {
                        found.v1.entry(controller.to_owned()).or_insert_with(|| target.into());
                    }
                    if !options.split(',').any(|option| used(&option)) {
                        found.other_v1.push(target.into());
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// The v2 tree alone.
    pub(super) fn without_v1(self) -> Self {
        Hierarchies { unified: self.unified, ..Self::default() }
    }

    pub fn layout(&self) -> CgroupLayout {
        match (&self.unified, self.v1.is_empty()) {
            (Some(_), true) => CgroupLayout::Unified,
            (Some(_), false) => CgroupLayout::Hybrid,
            (None, _) => CgroupLayout::Legacy,
        }
    }

    /// The v2 tree's mount point; fails with `Kind::HostLacks` without one.
    pub fn require_unified(&self) -> Result<&Path> {
        self.unified.as_deref().ok_or_else(|| {
            Error::host_lacks("no cgroup2 file system is mounted")
                .hint("mount one: `mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified`")
        })
    }

    /// The directory of `group` in the v1 hierarchy of `controller`.
    pub fn v1_dir(&self, controller: &str, group: &str) -> Option<PathBuf> {
        self.v1.get(controller).map(|mount| mount.join(group))
    }

    /// The distinct v1 mount points, those of no use to us too.
    pub fn all_v1_mounts(&self) -> Vec<&Path> {
        self.v1_mounts().into_iter().chain(self.other_v1.iter().map(PathBuf::as_path)).collect()
    }

    /// The distinct v1 mount points in use (`cpu` and `cpuacct` are often one).
    pub fn v1_mounts(&self) -> Vec<&Path> {
        let mut mounts: Vec<&Path> = self.v1.values().map(PathBuf::as_path).collect();
        mounts.sort();
        mounts.dedup();
        mounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
        20 1 0:5 / / rw - ext4 /dev/vda rw\n\
        30 20 0:20 / /sys/fs/cgroup rw shared:1 - tmpfs tmpfs rw\n\
        31 30 0:21 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        32 30 0:22 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
        33 30 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
        34 30 0:24 /x /mnt/part rw - cgroup2 cgroup2 rw\n\
        35 30 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_layout_is_read_from_the_mount_table() {
        let hybrid = Hierarchies::parse(HYBRID);
        assert_eq!(hybrid.layout(), CgroupLayout::Hybrid);
        assert_eq!(hybrid.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(hybrid.v1.keys().collect::<Vec<_>>(), ["cpu", "cpuacct"]);
        assert_eq!(hybrid.v1_mounts(), [Path::new("/sys/fs/cgroup/cpu,cpuacct")]);
        assert_eq!(hybrid.all_v1_mounts().len(), 3);

        let unified = Hierarchies::parse("30 20 0:20 / /sys/fs/cgroup rw shared:1 - cgroup2 cgroup2 rw\n");
        assert_eq!(unified.layout(), CgroupLayout::Unified);
        assert_eq!(Hierarchies::parse("").layout(), CgroupLayout::Legacy);
    }
}
