//! `lxm image`: what is done with the images that containers are made of.

use std::path::PathBuf;

use crate::error::{Context, Result};
use crate::image::{ImageRecord, ImageStore, Listed};
use crate::ops::{create, publish};
use crate::storage::{self, Usage};
use crate::store::Layout;
use crate::template::{self, BuildRequest, Recipe};

pub(crate) use crate::template::download::available;

/// An image and who needs it.
#[derive(Debug, Clone)]
pub(crate) struct Overview {
    pub id: String,
    pub record: ImageRecord,
    rootfs: PathBuf,
    /// Whether a newer one has replaced it: it is kept while something needs it.
    pub superseded: bool,
    /// Containers and snapshots whose files are stored as changes to it.
    pub used_by: Vec<PathBuf>,
}

impl Overview {
    /// What it is called: its template, and the release where there is one.
    pub(crate) fn name(&self) -> String {
        self.record.name()
    }

    /// What removing it would free, and what it has in common with containers; measured now.
    pub(crate) fn usage(&self) -> Result<Usage> {
        storage::usage_of_image(&self.rootfs, self.record.bytes, !self.used_by.is_empty())
    }
}

/// What came of [`refresh`].
#[derive(Debug, Clone)]
pub(crate) struct Refreshed {
    pub old: String,
    pub new: String,
    /// What keeps the old one from being removed, if anything does.
    pub kept: Option<String>,
}

pub(crate) fn list(layout: &Layout) -> Result<Vec<Overview>> {
    let store = ImageStore::new(layout);
    let overview = |image: Listed| -> Result<Overview> {
        let used_by = store.users_of(&image, &storage::known_users_of_image)?;
        let rootfs = store.rootfs_of(&image);
        Ok(Overview { id: image.id, record: image.record, rootfs, superseded: image.superseded, used_by })
    };
    store.list()?.into_iter().map(overview).collect()
}

/// Removes an image, by its name, its id or the beginning of that, and the template of a published one; returns
/// the id.
pub(crate) fn remove(layout: &Layout, id: &str) -> Result<String> {
    let store = ImageStore::new(layout);
    let image = store.find(id)?;
    store.remove(&image.id, &storage::users_of_image).context(|| format!("remove image `{}`", image.id))?;
    if !image.superseded {
        publish::forget(layout, &image.record.template, &image.id)?;
    }
    Ok(image.id)
}

/// Makes an image anew, by the template as it is now. The old one goes unless something needs it.
///
/// With `insecure`, or where it was made so, an image server is believed that proves nothing.
pub(crate) fn refresh(layout: &Layout, id: &str, insecure: bool) -> Result<Refreshed> {
    let store = ImageStore::new(layout);
    let old = store.find(id)?;
    let again = || -> Result<String> {
        let ImageRecord { template, release, arch, asked, .. } = &old.record;
        let build = BuildRequest {
            release: Some(release.clone()).filter(|release| !release.is_empty()),
            arch: Some(*arch),
            mirror: asked.mirror.clone(),
            packages: asked.packages.clone(),
            args: asked.args.clone(),
            insecure: asked.insecure || insecure,
        };
        let recipe = Recipe::new(template::find(layout, template)?, &build)?;
        let image = store.replace(&create::spec(&recipe, &build)?, |target| create::build(layout, &recipe, target))?;
        Ok(image.id)
    };
    let new = again().context(|| format!("refresh image `{}`", old.id))?;
    let kept = match store.remove(&old.id, &storage::users_of_image) {
        Ok(()) => None,
        // The new one is there; whether the old one is needed may not be known.
        Err(e) => Some(e.to_string()),
    };
    Ok(Refreshed { old: old.id, new, kept })
}
