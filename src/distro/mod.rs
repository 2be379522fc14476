//! What is known of distributions: what a root file system holds, and the edits that make it a guest.
//!
//! All edits are computed by pure functions of a read-only [`View`] and applied by [`edit::apply`],
//! so they can be looked at, tested as values, and applied twice with the result of once.

mod accounts;
mod alpine;
pub mod compat;
pub mod edit;
mod identity;
mod inspect;
pub(crate) mod packages;
mod systemd;
mod sysv;
mod units;
mod view;

use std::path::Path;

pub use accounts::Login;
pub use edit::Edit;
pub use identity::{HostKeys, Identity};
pub use inspect::{Guest, inspect};
pub use packages::{Packages, packages};
pub use view::View;

use crate::config::Init;
use crate::error::{Context, Result};

/// Version of the edits that go into images. Raised with every change of what `tests/golden` shows
/// (`tests/golden.rs` sees to that): images made with older edits are then made anew.
pub const REVISION: u32 = 3;

/// What a template adds to the fix-ups of its family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    pub enable: Vec<String>,
    pub mask: Vec<String>,
    pub edits: Vec<Edit>,
}

/// Makes a root file system fit to be a guest, once, when its image is made.
pub fn prepare(rootfs: &Path, extras: &Extras) -> Result<()> {
    let view = View::open(rootfs)?;
    // The files of a template may bring the init itself, so they come first.
    edit::apply(&view, &extras.edits)?;
    let guest = inspect(view.fd(), None)?;
    edit::apply(&view, &family_edits(&view, guest.init)?)?;
    for unit in &extras.enable {
        edit::apply(&view, &units::enable(&view, unit)?)?;
    }
    let masked: Vec<Edit> = extras.mask.iter().filter_map(|unit| units::mask(&view, unit)).collect();
    edit::apply(&view, &masked)
}

/// The fix-ups that a guest needs by its init.
pub fn family_edits(view: &View, init: Init) -> Result<Vec<Edit>> {
    let mut edits = match init {
        Init::Systemd => systemd::edits(view)?,
        Init::Sysvinit | Init::Openrc | Init::Runit => sysv::edits(view, init)?,
        Init::Busybox if alpine::is_alpine(view) => alpine::edits(view)?,
        // Busybox systems are as many as there are makers of them: the template's own files say all.
        Init::Busybox | Init::Auto | Init::Other => Vec::new(),
    };
    edits.extend(identity::no_machine_id(view));
    edits.extend(identity::no_secrets(view));
    Ok(edits)
}

/// Gives a container's root file system its identity; also that of a clone, which must share none.
///
/// `rootfs` is the tree with its ids beginning at 0, as `storage::Tree` opens it; `place` is the
/// container's directory, for what is needed meanwhile.
pub fn customize(rootfs: &Path, place: &Path, identity: &Identity) -> Result<()> {
    let step = || format!("give `{}` its identity", identity.hostname);
    let view = View::open(rootfs).context(step)?;
    let has_sshd = view.exists("usr/sbin/sshd");
    let host_keys = match identity.keys {
        HostKeys::Fresh if has_sshd => identity::make_host_keys(&identity.hostname, place).context(step)?,
        HostKeys::Fresh | HostKeys::Keep => Vec::new(),
    };
    let edits = identity::edits(&view, identity, &host_keys).context(step)?;
    edit::apply(&view, &edits).context(step)
}

/// Whether the guest says already how eth0 is to be configured: that is its maker's decision.
fn has_network_configuration(view: &View) -> bool {
    let networkd = view.names("etc/systemd/network");
    let netplan = view.names("etc/netplan");
    let interfaces = view.text("etc/network/interfaces").ok().flatten().unwrap_or_default();
    networkd.iter().any(|name| name.ends_with(".network") && !name.contains("lxm"))
        || netplan.iter().any(|name| name.ends_with(".yaml"))
        || interfaces.lines().any(|line| line.trim_start().starts_with("iface eth0"))
        || !view.names("etc/NetworkManager/system-connections").is_empty()
        || view.exists("etc/sysconfig/network-scripts/ifcfg-eth0")
        || view.exists("etc/sysconfig/network/ifcfg-eth0")
}
