//! firewalld, over D-Bus: a bridge in its zone `trusted` may do what it likes.

use std::time::Duration;

use crate::error::{Context, Result};
use crate::systemd::bus;

const SERVICE: &str = "org.fedoraproject.FirewallD1";
const PATH: &str = "/org/fedoraproject/FirewallD1";
const ZONES: &str = "org.fedoraproject.FirewallD1.zone";
const TRUSTED: &str = "trusted";
/// A start does not hang for it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Puts a bridge into the trusted zone, where firewalld runs.
pub(super) fn trust(bridge: &str) -> Result<()> {
    let done = bus::run_with(SERVICE, TIMEOUT, async |bus| {
        if zone_of(bus, bridge).await? != TRUSTED {
            let body = (TRUSTED, bridge);
            bus.call_method(Some(SERVICE), PATH, Some(ZONES), "changeZoneOfInterface", &body).await?;
        }
        Ok(())
    });
    done.map(drop).context(|| format!("put `{bridge}` into firewalld's trusted zone"))
}

/// Ends what [`trust`] began.
pub(super) fn distrust(bridge: &str) -> Result<()> {
    let done = bus::run_with(SERVICE, TIMEOUT, async |bus| {
        if zone_of(bus, bridge).await? == TRUSTED {
            let body = (TRUSTED, bridge);
            bus.call_method(Some(SERVICE), PATH, Some(ZONES), "removeInterface", &body).await?;
        }
        Ok(())
    });
    done.map(drop).context(|| format!("take `{bridge}` out of firewalld's trusted zone"))
}

/// Whether firewalld runs and does not trust the bridge.
pub(crate) fn stands_in_the_way(bridge: &str) -> bool {
    let asked = bus::run_with(SERVICE, TIMEOUT, async |bus| Ok(zone_of(bus, bridge).await? != TRUSTED));
    asked.ok().flatten().unwrap_or(false)
}

/// The zone of a bridge; empty where it is in none, and the default zone's rules are for it.
async fn zone_of(bus: &zbus::Connection, bridge: &str) -> zbus::Result<String> {
    let asked = bus.call_method(Some(SERVICE), PATH, Some(ZONES), "getZoneOfInterface", &bridge).await?;
    asked.body().deserialize()
}
