//! Links that others have changed are put right again: a bridge of lxm's, its addresses, and the guests' ports
//! on it.
//!
//! Network managers of the host take links that they do not know (`Name=*` of systemd.network(5)), and so do
//! people who clean up. The kernel reports each change to the watchdog of the bridge's server; nothing is
//! polled.
//!
//! | file | idea |
//! |---|---|
//! | `compare` | what differs from settings and records |
//! | `mend` | it is put right |
//! | `events` | what the kernel reports |
//! | `tally` | who fights with somebody gives up |

mod compare;
mod events;
mod mend;
mod tally;

pub(crate) use compare::{has_guests, has_ipv6, look};
pub(super) use events::{LinkEvents, messages};
pub(crate) use mend::{may_make_again, mend, mend_ports};
pub(crate) use tally::{forget, given_up};

use crate::config::bridge::BridgeSettings;
use crate::error::Result;
use crate::net::owner;
use crate::store::Layout;

/// Whether a bridge that is gone will be made again by its next server.
pub(crate) fn is_made_again(layout: &Layout, bridge: &str) -> bool {
    has_guests(layout, bridge) && !given_up(layout, bridge).unwrap_or(true)
}

/// What of a bridge's link and ports is not as it should be, in words.
pub(crate) fn link_faults(layout: &Layout, bridge: &str, settings: &BridgeSettings) -> Result<Vec<String>> {
    if owner::other_owner(layout, bridge).is_some() {
        return Ok(Vec::new());
    }
    let mut faults: Vec<String> = look(layout, bridge, settings)?.iter().map(ToString::to_string).collect();
    if given_up(layout, bridge)? {
        faults.push("it was repaired again and again, and is not any more".to_owned());
    }
    Ok(faults)
}
