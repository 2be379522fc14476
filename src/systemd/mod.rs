//! systemd and its daemons as seen over D-Bus and sockets. Knows nothing of a container's life.
//!
//! It may name `store` and what stands below it. Start reading at `bus`.

pub mod bus;
pub mod journal;
pub mod journal_link;
pub mod machined;
pub mod notify;
pub mod properties;
pub mod unit;

use std::path::Path;

/// Whether systemd is PID 1 of this host (sd_booted(3)).
pub fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}
