//! The backends that there are, by their names.

use std::path::{Path, PathBuf};

use super::backend::Backend;
use super::usage::{self, Usage};
use super::{btrfs, dir, layers, overlay};
use crate::error::{Error, Result};
use crate::store::Layout;

/// The names that `--storage` takes, `auto` apart.
pub(crate) const BACKENDS: [&str; 3] = [btrfs::NAME, dir::NAME, overlay::NAME];

/// The backend that `origin.toml` names.
pub fn backend(layout: &Layout, name: &str) -> Result<Box<dyn Backend>> {
    match name {
        btrfs::NAME => Ok(Box::new(btrfs::Btrfs)),
        dir::NAME => Ok(Box::new(dir::Dir)),
        overlay::NAME => Ok(Box::new(overlay::Overlay::new(layout))),
        _ => Err(Error::usage(format!("there is no storage backend `{name}`"))
            .hint(format!("valid values: `auto`, {}", BACKENDS.map(|b| format!("`{b}`")).join(", ")))),
    }
}

/// The backend of a container.
pub fn of_container(layout: &Layout, name: &crate::types::ContainerName) -> Result<Box<dyn Backend>> {
    let origin = crate::store::Origin::read(layout, name)?;
    backend(layout, &origin.storage)
}

/// The directory that the overlay of a place writes to; `None` where its backend is another.
pub(crate) fn upper_layer(layout: &Layout, backend: &str, place: &Path) -> Result<Option<PathBuf>> {
    if backend == overlay::NAME { overlay::Overlay::new(layout).exclusive(place) } else { Ok(None) }
}

/// The places whose trees are layered on the image with the tree `image`, below the containers'
/// directory: `web`, `web/snapshots/before`, `.trash/…`.
pub(crate) fn users_of_image(layout: &Layout, image: &Path) -> Result<Vec<PathBuf>> {
    using(layout, image, layers::Layers::new(layout).stacks()?)
}

/// The same, of what can be read: to be shown.
pub(crate) fn known_users_of_image(layout: &Layout, image: &Path) -> Result<Vec<PathBuf>> {
    using(layout, image, layers::Layers::new(layout).readable_stacks()?)
}

fn using(layout: &Layout, image: &Path, stacks: Vec<(PathBuf, layers::LayerStack)>) -> Result<Vec<PathBuf>> {
    let name = layers::Layers::new(layout).image_name(image)?;
    let users = stacks.into_iter().filter(|(_, stack)| stack.image.as_ref() == Some(&name));
    let below = |place: PathBuf| place.strip_prefix(layout.containers()).map(Path::to_owned).unwrap_or(place);
    Ok(users.map(|(place, _)| below(place)).collect())
}

/// What the image with the tree `image`, of `bytes` in all, has in common with containers: with those
/// that are layered on it, all.
pub(crate) fn usage_of_image(image: &Path, bytes: u64, is_layered_on: bool) -> Result<Usage> {
    match () {
        () if is_layered_on => Ok(Usage { own: 0, shared: bytes }),
        () if usage::shares_blocks(image)? => usage::of_tree(image),
        () => Ok(Usage { own: bytes, shared: 0 }),
    }
}
