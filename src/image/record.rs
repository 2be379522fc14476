//! `image.toml`: what an image was made of.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config;
use crate::error::{Context, Error, Result};
use crate::image::measure::{HighestOwner, Measured};
use crate::store::replace_file;
use crate::sys::fs::read_text;
use crate::types::{Arch, IdRange};

/// All that decides what is in an image.
#[derive(Debug, Clone)]
pub(crate) struct ImageSpec {
    pub template: String,
    pub release: String,
    pub arch: Arch,
    pub packages: Vec<String>,
    /// What else decides it, as text: the template's own, files it refers to, the mirror.
    pub content: String,
    pub asked: BuildInputs,
}

/// What must be asked of the template to make the image anew, beside release and architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct BuildInputs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// Packages beyond the template's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// What stood after `--`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// `--insecure`
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

impl ImageSpec {
    /// The image's id: the same for all that are made alike, another one for all others.
    pub(crate) fn id(&self) -> String {
        let mut packages = self.packages.clone();
        packages.sort();
        packages.dedup();
        let arch = self.arch.to_string();
        let fields = [&self.template, &self.release, &arch, &self.content].into_iter().chain(&packages);
        let mut hasher = Sha256::new();
        for field in fields {
            // With its length, so that no two lists of fields look alike.
            hasher.update((field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        hex::encode(&hasher.finalize()[..6])
    }
}

/// What an image is: its `image.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ImageRecord {
    pub template: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub release: String,
    pub arch: Arch,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// RFC 3339, UTC.
    pub created: String,
    /// Version of lxm that made it.
    pub lxm: String,
    /// Disk space that its files take up.
    pub bytes: u64,
    /// The highest id that a file belongs to, where a usual range of ids does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest_id: Option<u32>,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest: Option<PathBuf>,
    #[serde(default)]
    pub asked: BuildInputs,
}

impl ImageRecord {
    /// What it is called: its template, and the release where there is one.
    pub(crate) fn name(&self) -> String {
        if self.release.is_empty() { self.template.clone() } else { format!("{}/{}", self.template, self.release) }
    }

    pub(super) fn new(spec: &ImageSpec, measured: Measured) -> Self {
        let Measured { bytes, highest, .. } = measured;
        let highest = Some(highest).filter(|highest| highest.id >= IdRange::LEN);
        ImageRecord {
            template: spec.template.clone(),
            release: spec.release.clone(),
            arch: spec.arch,
            packages: spec.packages.clone(),
            created: crate::store::now(),
            lxm: env!("CARGO_PKG_VERSION").to_owned(),
            bytes,
            highest_id: highest.as_ref().map(|highest| highest.id),
            // A path that is not text cannot be in the file; it is for a message alone.
            highest: highest.map(|highest| highest.path.to_string_lossy().into_owned().into()),
            asked: spec.asked.clone(),
        }
    }

    /// What of it belongs to the highest id; nothing where that is one that every guest has.
    pub(crate) fn highest(&self) -> HighestOwner {
        HighestOwner { id: self.highest_id.unwrap_or_default(), path: self.highest.clone().unwrap_or_default() }
    }

    /// Reads that of the image at `place`; `None` where there is no image.
    pub(super) fn read(place: &Path) -> Result<Option<Self>> {
        let file = place.join("image.toml");
        match read_text(&file) {
            Ok(text) => config::parse(&text, &file).map(Some),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(e).context(|| format!("read `{}`", file.display())),
        }
    }

    /// The disk space that the image with the tree `rootfs` takes up.
    pub(crate) fn bytes_of(rootfs: &Path) -> Result<u64> {
        let place = rootfs.parent().unwrap_or(rootfs);
        let gone = || Error::not_found(format!("image `{}` does not exist", place.display()));
        Ok(Self::read(place)?.ok_or_else(gone)?.bytes)
    }

    pub(super) fn write(&self, place: &Path) -> Result<()> {
        let text = toml::to_string(self).map_err(|e| Error::failed(e.to_string()))?;
        replace_file(&place.join("image.toml"), text.as_bytes(), 0o644)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_changes_with_what_decides_the_contents_alone() {
        let spec = ImageSpec {
            template: "debian".into(),
            release: "trixie".into(),
            arch: Arch::Amd64,
            packages: vec!["a".into(), "b".into()],
            content: "text".into(),
            asked: BuildInputs::default(),
        };
        let same = [
            ImageSpec { packages: vec!["b".into(), "a".into(), "a".into()], ..spec.clone() },
            ImageSpec { asked: BuildInputs { args: vec!["x".into()], ..BuildInputs::default() }, ..spec.clone() },
        ];
        let others = [
            ImageSpec { template: "ubuntu".into(), ..spec.clone() },
            ImageSpec { release: "sid".into(), ..spec.clone() },
            ImageSpec { arch: Arch::I386, ..spec.clone() },
            ImageSpec { packages: vec!["ab".into()], ..spec.clone() },
            ImageSpec { packages: vec!["a".into()], ..spec.clone() },
            ImageSpec { content: "texta".into(), ..spec.clone() },
        ];
        assert_eq!(spec.id().len(), 12);
        assert!(same.iter().all(|other| other.id() == spec.id()));
        assert!(others.iter().all(|other| other.id() != spec.id()));
    }
}
