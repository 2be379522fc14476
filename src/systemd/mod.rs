//! systemd and its daemons over D-Bus and sockets. It knows units, and no supervisor.
//!
//! It may name `store` and what stands below it. Start reading at `bus`.

pub(crate) mod bus;
pub(crate) mod dropin;
pub(crate) mod journal;
pub(crate) mod journal_link;
pub(crate) mod machined;
pub(crate) mod notify;
pub(crate) mod properties;
pub(crate) mod unit;

use std::path::Path;

/// Whether systemd is PID 1 of this host (sd_booted(3)).
pub(crate) fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}
