//! Whether a bridge's server runs, and its status.
//!
//! Directories of a bridge: `run/lxm/.network/BRIDGE/` belongs to root and has the lock and the
//! guests' files; `var/lib/lxm/.network/BRIDGE/` belongs to the server, which has no rights, and has
//! leases and status. Root opens nothing in the latter but what it reads without trust.

use std::path::PathBuf;

use super::status::ServerStatus;
use crate::error::Result;
use crate::store::{FileLock, Layout};
use crate::sys;

/// Held for as long as it runs.
pub(super) fn lock_file(layout: &Layout, bridge: &str) -> PathBuf {
    layout.network_run().join(bridge).join("lock")
}

/// Which process it is.
pub(crate) fn process_file(layout: &Layout, bridge: &str) -> PathBuf {
    layout.network_run().join(bridge).join("server.toml")
}

/// What the server writes goes here.
pub(super) fn state_dir(layout: &Layout, bridge: &str) -> PathBuf {
    layout.network_state().join(bridge)
}

/// Whether the bridge's server runs.
pub fn is_running(layout: &Layout, bridge: &str) -> Result<bool> {
    FileLock::is_held(&lock_file(layout, bridge))
}

/// The status of the bridge's server; `None` while none runs.
pub fn status(layout: &Layout, bridge: &str) -> Result<Option<ServerStatus>> {
    if !is_running(layout, bridge)? {
        return Ok(None);
    }
    match sys::fs::open_dir(state_dir(layout, bridge)) {
        Ok(dir) => ServerStatus::read(&dir),
        Err(_) => Ok(None),
    }
}
