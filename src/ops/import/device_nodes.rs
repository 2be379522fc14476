//! Device nodes of this host that other programs bind below a guest's /dev.

use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use crate::types::device::GUEST_DEVICES;

/// Directories of /dev with no devices in them.
const NOT_DEVICES: [&str; 5] = ["/dev/hugepages", "/dev/log", "/dev/mqueue", "/dev/pts", "/dev/shm"];

/// The most devices that are taken of one directory.
const MOST: usize = 64;

pub(super) fn is_place_of_devices(path: &Path) -> bool {
    path.starts_with("/dev") && !NOT_DEVICES.iter().any(|other| path.starts_with(other))
}

/// The devices that a guest needs to be given for `path` below /dev: none where every guest has it. Fails with
/// the reason why it is no device.
pub(super) fn needed(path: &Path) -> Result<Vec<PathBuf>, String> {
    let shown = path.display();
    if path.components().any(|part| part == Component::ParentDir) || path == Path::new("/dev") {
        return Err(format!("`{shown}` is no device"));
    }
    if is_every_guest_s(path) {
        return Ok(Vec::new());
    }
    let mut nodes = Vec::new();
    below(path, 2, &mut nodes);
    if nodes.is_empty() {
        return Err(format!("this host has no device `{shown}`"));
    }
    nodes.retain(|node| !is_every_guest_s(node));
    Ok(nodes)
}

fn is_every_guest_s(path: &Path) -> bool {
    let is_own =
        |name: &Path| name == Path::new("console") || GUEST_DEVICES.iter().any(|device| name == Path::new(device.name));
    path.strip_prefix("/dev").is_ok_and(is_own)
}

/// A device of this host that not every guest has.
#[cfg(test)]
pub(super) fn some_device() -> Option<PathBuf> {
    let mut paths: Vec<_> = Path::new("/dev").read_dir().ok()?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let is_device = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_char_device());
    paths.into_iter().find(|path| is_device(path) && !is_every_guest_s(path))
}

/// The device at `path`, or those in the directory there. Links in one are other names of devices.
fn below(path: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(meta) = path.metadata() else { return };
    let kind = meta.file_type();
    if found.len() < MOST && (kind.is_char_device() || kind.is_block_device()) {
        found.push(path.to_owned());
    }
    if !kind.is_dir() || depth == 0 {
        return;
    }
    let entries = path.read_dir().into_iter().flatten().flatten();
    let entries = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
    let mut names: Vec<_> = entries.map(|entry| entry.path()).collect();
    names.sort();
    names.iter().for_each(|path| below(path, depth - 1, found));
}
