//! How root file systems are made: templates are data, read here and carried out by a builder.
//!
//! [`find()`] reads a template, [`Recipe::new`] makes every choice that the command line leaves to
//! it, and [`build`] fills a directory.
//!
//! It may name `image`, `distro`, `store` and what stands below them. Start reading at `recipe`.

mod archive;
mod bootstrap;
mod busybox;
mod command;
pub(crate) mod download;
mod find;
mod model;
mod recipe;
mod script;

use std::path::Path;

pub(crate) use find::{FoundTemplate, find};
pub(crate) use model::Builder;
pub(crate) use recipe::{BuildRequest, Recipe};

use crate::distro;
use crate::error::{Context, Error, Result};
use crate::image::Remarks;
use crate::progress::Progress;

/// Fills the empty directory `target` with the system that `recipe` describes, fit to be a guest.
///
/// `downloads` keeps what was cut short between one attempt and the next.
///
/// Returns what of an archive was left out or changed. What the builder says goes to `log`, whose last lines are in the error when it fails. On
/// failure `target` holds whatever was made so far; the caller removes it.
pub(crate) fn build(recipe: &Recipe, target: &Path, log: &Path, downloads: &Path) -> Result<Remarks> {
    let step = || match recipe.release.as_str() {
        "" => format!("build `{}`", recipe.found.name),
        release => format!("build `{}` {release} ({})", recipe.found.name, recipe.arch),
    };
    let progress = Progress::spinner(step());
    let made = match recipe.found.template.builder {
        Builder::Bootstrap => bootstrap::build(recipe, target, log, &progress).map(|()| Remarks::default()),
        Builder::Archive => archive::build(recipe, target),
        Builder::Busybox => busybox::build(target).map(|()| Remarks::default()),
        Builder::Download => download::build(recipe, target, downloads),
        Builder::Script => script::build(recipe, target, log, &progress).map(|()| Remarks::default()),
        Builder::Published => Err(Error::not_found("the image that was published was removed")
            .hint("`lxm publish` makes it again of a container")),
    };
    let prepared = made.and_then(|remarks| {
        distro::prepare(target, &recipe.extras()?)?;
        Ok(remarks)
    });
    let remarks = prepared.context(step)?;
    progress.finish();
    Ok(remarks)
}
