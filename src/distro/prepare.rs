//! A root file system becomes an image, and an image's copy becomes a container.

use std::path::Path;

use super::edit::{self, Edit};
use super::identity::{self, HostKeys, Identity};
use super::inspect::inspect;
use super::view::View;
use super::{alpine, systemd, sysv, units};
use crate::config::Init;
use crate::error::{Context, Result};

/// Version of the edits that go into images. Raised with every change of what `tests/golden` shows
/// (`tests/golden.rs` sees to that): images made with older edits are then made anew.
pub const REVISION: u32 = 4;

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
pub(super) fn family_edits(view: &View, init: Init) -> Result<Vec<Edit>> {
    let mut edits = match init {
        Init::Systemd => systemd::edits(view)?,
        Init::Sysvinit | Init::Openrc | Init::Runit => sysv::edits(view, init)?,
        Init::Busybox if alpine::is_alpine(view) => alpine::edits(view)?,
        // Busybox systems are as many as there are makers of them: the template's own files say all.
        Init::Busybox | Init::Procd | Init::S6 | Init::Dinit | Init::Finit | Init::Auto | Init::Other => Vec::new(),
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
