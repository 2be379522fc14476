//! What the file system of the containers can do.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::kernel::KernelConfig;
use super::{CheckResult, CheckVerdict};
use crate::error::Result;
use crate::storage;
use crate::store::Layout;
use crate::sys;

/// Less than the root file system of a small guest, its image and what it writes.
const LITTLE: u64 = 1 << 30;

pub(super) fn checks(layout: &Layout, config: &KernelConfig) -> Vec<CheckResult> {
    let dir = existing(layout.containers());
    vec![
        config.module("storage", "OVERLAY_FS", "overlay", CheckVerdict::Lacks, "storage `overlay`"),
        idmap(&dir),
        free(&dir),
    ]
}

/// The directory, or the one that it would be made in: looking must not make it.
fn existing(dir: &Path) -> PathBuf {
    dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn idmap(dir: &Path) -> CheckResult {
    let shown = dir.display();
    if !nix::unistd::geteuid().is_root() {
        return CheckResult::not(CheckVerdict::Unknown, "storage", "idmap", format!("`{shown}`"), "root can try it");
    }
    match maps_ids(dir) {
        Ok(true) => CheckResult::ok("storage", "idmap", format!("the file system of `{shown}` maps ids")),
        Ok(false) => CheckResult::not(
            CheckVerdict::Lacks,
            "storage",
            "idmap",
            format!(
                "the file system of `{shown}` cannot map ids: the owner of every file is changed when a container is created, which is slow"
            ),
            "keep containers on ext4, xfs, btrfs, f2fs or tmpfs: `path` in lxm.toml",
        ),
        Err(e) => CheckResult::not(
            CheckVerdict::Missing,
            "storage",
            "idmap",
            e.to_string(),
            "user namespaces are restricted here: see `userns` above and the log of the kernel",
        ),
    }
}

/// Tries it on a detached mount.
fn maps_ids(dir: &Path) -> Result<bool> {
    storage::maps_ids(dir, sys::userns::for_a_try()?.as_fd())
}

fn free(dir: &Path) -> CheckResult {
    let free = nix::sys::statvfs::statvfs(dir).map(|stat| stat.blocks_available() * stat.fragment_size());
    match free {
        Ok(free) if free >= LITTLE => CheckResult::ok(
            "storage",
            "space",
            format!("{:.1} GiB free for containers in `{}`", free as f64 / f64::from(1 << 30), dir.display()),
        ),
        Ok(free) => CheckResult::not(
            CheckVerdict::Lacks,
            "storage",
            "space",
            format!("{} MiB free for containers in `{}`", free >> 20, dir.display()),
            "`lxm image list` shows what images take; `path` in lxm.toml moves the containers",
        ),
        Err(e) => CheckResult::not(
            CheckVerdict::Unknown,
            "storage",
            "space",
            format!("`{}`: {}", dir.display(), e.desc()),
            "root can look at it",
        ),
    }
}
