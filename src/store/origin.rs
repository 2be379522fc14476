//! `origin.toml`: what a container was made of, and that it is one.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Layout, replace_file};
use crate::config;
use crate::error::{Context, Error, Result};
use crate::sys::fs::read_text;
use crate::types::{Arch, ContainerName, IdRange};

/// A container's provenance, `origin.toml`: written once, at create.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Origin {
    pub template: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub release: String,
    pub arch: Arch,
    /// Id of the image it was made from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Storage backend that holds its root file system.
    pub storage: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// Version of lxm that made it.
    pub lxm: String,
    /// It is removed when it stops.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral: bool,
    /// The host ids set aside for it; no two containers share one.
    pub ids: IdRange,
    /// A larger range, which it has in place of `ids`; the first of those remains what quotas know it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wide_ids: Option<IdRange>,
}

impl Origin {
    /// The host ids that it is given.
    pub fn range(&self) -> IdRange {
        self.wide_ids.unwrap_or(self.ids)
    }

    /// All that is set aside for it, used or not.
    pub(crate) fn set_aside(&self) -> impl Iterator<Item = IdRange> {
        std::iter::once(self.ids).chain(self.wide_ids)
    }

    pub fn read(layout: &Layout, name: &ContainerName) -> Result<Self> {
        Self::read_file(&layout.origin_file(name))
    }

    pub fn read_file(file: &Path) -> Result<Self> {
        let text = read_text(file).context(|| format!("read `{}`", file.display()))?;
        config::parse(&text, file)
    }

    pub fn write_file(&self, file: &Path) -> Result<()> {
        let text = toml::to_string(self).map_err(|e| Error::failed(e.to_string()))?;
        replace_file(file, text.as_bytes(), 0o644)
    }

    /// One of nothing but ids, for tests.
    #[cfg(test)]
    pub(crate) fn of_ids(ids: IdRange) -> Self {
        Origin {
            template: "t".into(),
            release: String::new(),
            arch: Arch::Amd64,
            image: String::new(),
            storage: "dir".into(),
            created: String::new(),
            lxm: String::new(),
            ephemeral: false,
            ids,
            wide_ids: None,
        }
    }
}
