//! Who runs a bridge's lease and name server: systemd where the package is installed, else we.

use std::path::Path;
use std::process::Command;

use super::serve;
use crate::error::{Context, Error, Result};
use crate::store::Layout;

/// Makes sure that the bridge's server serves; returns when it does.
pub fn ensure(layout: &Layout, bridge: &str) -> Result<()> {
    if serve::is_running(layout, bridge)? {
        return Ok(());
    }
    if has_unit(layout) { systemctl("start", bridge) } else { serve::spawn(layout, bridge) }
}

/// Ends the bridge's server.
pub fn stop(layout: &Layout, bridge: &str) -> Result<()> {
    if has_unit(layout) {
        systemctl("stop", bridge)?;
    }
    serve::stop(layout, bridge)
}

/// Whether systemd runs this host and knows the unit. It is for the host's own state alone.
fn has_unit(layout: &Layout) -> bool {
    let dirs = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    layout.root() == Path::new("/")
        && Path::new("/run/systemd/system").is_dir()
        && dirs.iter().any(|dir| Path::new(dir).join("lxm-net@.service").is_file())
}

fn systemctl(verb: &str, bridge: &str) -> Result<()> {
    let unit = format!("lxm-net@{bridge}.service");
    let output = Command::new("systemctl").args(["--quiet", verb, &unit]).output().context(|| "run `systemctl`")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::failed(format!("{verb} `{unit}`: {}", said.lines().next().unwrap_or("it failed").trim()))
        .hint(format!("`journalctl -u {unit}` says more")))
}
