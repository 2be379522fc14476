//! `home.toml`: where a container was made, by which a copy is recognised.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Layout, replace_file};
use crate::error::{Context, Error, Result};
use crate::sys::fs::read_text;
use crate::types::ContainerName;

/// `home.toml`: the directory and name that a container was made in, or last renamed to by lxm. One
/// that is found elsewhere was moved or copied by hand.
///
/// A file of its own: `origin.toml` goes into copies and exports, which are at home elsewhere, and
/// older versions of lxm take no new keys in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Home {
    pub directory: PathBuf,
    pub name: ContainerName,
    /// It is being given an identity of its own, and has half of one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopting: bool,
}

impl Home {
    pub(crate) fn of(layout: &Layout, name: &ContainerName) -> Self {
        Home { directory: layout.containers().to_owned(), name: name.clone(), adopting: false }
    }

    /// Whether a container is where it says that it was made. One that is being adopted is at home nowhere yet.
    pub(crate) fn is_here(layout: &Layout, name: &ContainerName) -> Result<bool> {
        Ok(Self::read(&layout.container(name))?.as_ref() == Some(&Self::of(layout, name)))
    }

    fn file(place: &Path) -> PathBuf {
        place.join("home.toml")
    }

    /// Reads it; `None` where there is none: early versions of lxm wrote none, and a power cut may have taken
    /// it.
    pub(crate) fn read(place: &Path) -> Result<Option<Self>> {
        let file = Self::file(place);
        match read_text(&file) {
            Ok(text) => Ok(toml::from_str(&text).ok()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).context(|| format!("read `{}`", file.display())),
        }
    }

    fn text(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::failed(e.to_string()))
    }

    pub(crate) fn write(&self, place: &Path) -> Result<()> {
        replace_file(&Self::file(place), self.text()?.as_bytes(), 0o644)
    }

    /// Writes it into a container in the making. Not synced: one that a power cut takes is written
    /// again by the next start.
    pub(super) fn write_new(&self, place: &Path) -> Result<()> {
        let file = Self::file(place);
        std::fs::write(&file, self.text()?).context(|| format!("write `{}`", file.display()))
    }
}
