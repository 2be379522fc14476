//! `lxm publish`: an image made of a container, and a template that names it.

use super::create;
use crate::container::view::Reading;
use crate::distro::{self, Extras};
use crate::error::{Context, Error, Kind, Result};
use crate::image::ImageStore;
use crate::image::copy::copy_tree;
use crate::progress::Progress;
use crate::storage;
use crate::store::{self, Layout};
use crate::template::{self, BuildRequest, Builder, FoundTemplate, Recipe};
use crate::types::{ContainerName, SnapshotName};

/// Makes an image of a container, or of a snapshot of it, that `lxm create -t NAME` makes containers
/// of. Returns its id, and what of the container is not in it.
///
/// The image has no identity: host keys, machine-id and leases are the container's. One that was
/// published under this name before is replaced; those made of it keep it.
pub(crate) fn publish(
    layout: &Layout,
    name: &ContainerName,
    snapshot: Option<&SnapshotName>,
    as_name: &ContainerName,
) -> Result<(String, Vec<String>)> {
    let step = || format!("publish `{name}` as `{as_name}`");
    let before = published_before(layout, as_name).context(step)?;
    let reading = Reading::begin(layout, name, snapshot).context(step)?;
    let found = template_of(layout, name, as_name, &reading)?;
    let build = BuildRequest { arch: Some(reading.origin.arch), ..BuildRequest::default() };
    let recipe = Recipe::new(found.clone(), &build)?;
    let progress = Progress::bytes(format!("copy `{name}`"), 0);
    let images = ImageStore::new(layout);
    let image = images.replace(&create::spec(&recipe, &build)?, |root| {
        let remarks = copy_tree(reading.tree(), root, &progress)?;
        distro::prepare(root, &Extras::default())?;
        Ok(remarks)
    });
    let image = image.context(step)?;
    store::replace_file(&found.file, found.text.as_bytes(), 0o644)?;
    progress.finish();
    if let Some(old) = before {
        // The new one is published. One that is needed, or cannot be removed, is left to `lxm gc`, which says why.
        let _ = images.remove(&old, &storage::users_of_image);
    }
    Ok((image.id, image.remarks.notes()))
}

/// Removes the template of a published image that is gone.
pub(super) fn forget(layout: &Layout, template: &str, image: &str) -> Result<()> {
    let Ok(as_name) = template.parse::<ContainerName>() else { return Ok(()) };
    let base = image.split('.').next().unwrap_or(image);
    let own = layout.etc().join("templates").join(format!("{as_name}.toml"));
    match published_before(layout, &as_name) {
        Ok(Some(id)) if id == base && own.exists() => {
            std::fs::remove_file(&own).context(|| format!("remove `{}`", own.display()))
        }
        // A template that makes it again stays.
        _ => Ok(()),
    }
}

/// The image that was published under this name; fails with `Kind::Conflict` where the name is a
/// template's that something else made.
fn published_before(layout: &Layout, as_name: &ContainerName) -> Result<Option<String>> {
    let found = match template::find(layout, as_name.as_str()) {
        Err(e) if e.kind() == Kind::NotFound => return Ok(None),
        other => other?,
    };
    if found.template.builder != Builder::Published {
        return Err(Error::conflict(format!("`{}` is a template of that name", found.file.display()))
            .hint("choose another name"));
    }
    let build = BuildRequest::default();
    Ok(Some(create::spec(&Recipe::new(found, &build)?, &build)?.id()))
}

/// The template that stands for the image; its text is new each time, and so the image's id.
fn template_of(
    layout: &Layout,
    name: &ContainerName,
    as_name: &ContainerName,
    reading: &Reading,
) -> Result<FoundTemplate> {
    let file = layout.etc().join("templates").join(format!("{as_name}.toml"));
    let user = template::find(layout, &reading.origin.template).ok().and_then(|found| found.template.user);
    let mut text = format!(
        "# Made by `lxm publish {name} {as_name}`.\ndescription = \"`{name}` as of {}\"\nbuilder = \"published\"\n",
        crate::store::now()
    );
    if let Some(user) = user {
        text += &format!("user = {}\n", toml::Value::String(user));
    }
    let template = crate::config::parse(&text, &file)?;
    Ok(FoundTemplate { name: as_name.to_string(), file, text, template })
}
