//! What containers of other programs have in common on their way here.

use std::path::Path;

use crate::config::{Config, Network};
use crate::error::{Error, Result};
use crate::ops::fresh;
use crate::store::{Layout, Origin};
use crate::types::IdRange;

/// A configuration being made of another program's, and what was not taken over from it.
pub(super) struct Translated {
    pub config: Config,
    pub notes: Vec<String>,
}

impl Translated {
    /// With an identity of its own, and no network yet.
    pub fn new() -> Result<Self> {
        Ok(Translated { config: Config { uuid: fresh::uuid()?, ..Config::default() }, notes: Vec::new() })
    }

    /// Notes a setting that has no counterpart here.
    pub fn left_out(&mut self, setting: &str) {
        self.notes.push(format!("not taken over: `{setting}`"));
    }

    /// Wires eth0 to the host's default bridge, unless the translation has given it a network.
    pub fn with_default_network(&mut self, layout: &Layout) -> Result<()> {
        if self.config.network.is_empty() {
            let bridge = layout.host_config()?.network.default;
            let network = Network { bridge: Some(bridge), mac: Some(fresh::mac()?), ..Network::default() };
            self.config.network.insert("eth0".into(), network);
        }
        Ok(())
    }

    /// As a file's text.
    pub fn text(&self) -> Result<String> {
        toml::to_string(&self.config).map_err(|e| Error::failed(e.to_string()))
    }
}

/// Where a foreign container came from, as its origin says it. What is kept here is filled in later.
pub(super) fn origin(program: &str) -> Origin {
    Origin { template: program.to_owned(), ..super::unknown_origin("", IdRange::new(IdRange::FIRST_BASE)) }
}

/// Whether the host has this link.
pub(super) fn link_exists(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && Path::new("/sys/class/net").join(name).exists()
}

/// The host id that a tree's id 0 is stored as, by the owner of its root; 0 for one that is not shifted.
pub(super) fn base_of(rootfs: &Path) -> Result<u32> {
    use std::os::unix::fs::MetadataExt;
    let meta = rootfs.metadata().map_err(|e| Error::from(e).step(format!("look at `{}`", rootfs.display())))?;
    // Below are owners of the host's own, which nobody shifts ids to.
    Ok(if meta.uid() >= IdRange::LEN { meta.uid() } else { 0 })
}
