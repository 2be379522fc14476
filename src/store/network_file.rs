//! The file of the bridges, `network.toml`.

use std::io;

use super::{Layout, replace_file};
use crate::config::bridge::NetworkFile;
use crate::error::{Context, Error, Result};
use crate::sys::fs::read_text;

impl NetworkFile {
    /// Reads it; a missing file is one without bridges.
    pub fn load(layout: &Layout) -> Result<Self> {
        let path = layout.network_file();
        match read_text(&path) {
            Ok(text) => Self::parse(&text, &path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).context(|| format!("read `{}`", path.display())),
        }
    }

    /// Replaces it. The caller holds the lock that orders the writers.
    pub fn save(&self, layout: &Layout) -> Result<()> {
        let text = toml::to_string(self).map_err(|e| Error::failed(format!("write the bridges as TOML: {e}")))?;
        replace_file(&layout.network_file(), text.as_bytes(), 0o644)
    }
}
