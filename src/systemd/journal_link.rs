//! The guest's own journal in sight of the host's `journalctl --merge`: a link beside the host's
//! own journal, as `systemd-nspawn --link-journal=try-guest` makes it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::error::{Context, Result};
use crate::sys;

/// The host's journals by machine-id, and the guest's, below its root.
const JOURNALS: &str = "/var/log/journal";

/// A link that was made.
#[derive(Debug)]
pub(crate) struct JournalLink {
    path: PathBuf,
    /// It leads into a process's view, and to nothing when that has ended.
    passing: bool,
}

impl JournalLink {
    /// Links the journal of the guest whose root the host sees at `root`, where it keeps one and
    /// the host does. `tree` is its root file system, where that can be seen without it running.
    pub(crate) fn make(root: &Path, tree: Option<&Path>) -> Result<Option<Self>> {
        let guest = sys::fs::open_dir(root)?;
        let id = sys::fs::read_in_root(&guest, "etc/machine-id", 64)?;
        let id = String::from_utf8_lossy(&id).trim().to_owned();
        // It becomes a path of the host's: nothing but an id will do.
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let below = Path::new(JOURNALS.trim_start_matches('/')).join(&id);
        let kept = sys::fs::open_in_root(&guest, &below, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        if kept.is_err() || !Path::new(JOURNALS).is_dir() {
            return Ok(None);
        }
        sweep();
        let path = Path::new(JOURNALS).join(&id);
        match path.symlink_metadata() {
            // The host's own, or what a guest's journal was copied into.
            Ok(meta) if !meta.is_symlink() => return Ok(None),
            Ok(_) => fs::remove_file(&path).context(|| format!("remove `{}`", path.display()))?,
            Err(_) => {}
        }
        symlink(tree.unwrap_or(root).join(&below), &path).context(|| format!("link `{}`", path.display()))?;
        Ok(Some(JournalLink { path, passing: tree.is_none() }))
    }

    /// The guest has ended: a link that now leads nowhere goes, one to its files stays.
    pub(crate) fn leave(self) {
        if self.passing {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the links that lead nowhere: a killed supervisor, or a host without power, has left them.
fn sweep() {
    for entry in fs::read_dir(JOURNALS).into_iter().flatten().flatten() {
        let is_of_process = fs::read_link(entry.path()).is_ok_and(|target| target.starts_with("/proc"));
        if is_of_process && !entry.path().exists() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes the links into the directory of a container that is gone.
pub(crate) fn forget(container: &Path) {
    for entry in fs::read_dir(JOURNALS).into_iter().flatten().flatten() {
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(container)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
