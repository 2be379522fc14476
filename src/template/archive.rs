//! Builder `archive`: a packed root file system.

use std::path::Path;

use super::recipe::Recipe;
use crate::error::{Error, Result};
use crate::image::budget::Budget;
use crate::image::unpack::unpack_file;

pub(super) fn build(recipe: &Recipe, target: &Path) -> Result<()> {
    let file = recipe.archive().ok_or_else(|| Error::config("builder `archive` needs an option `file`"))?;
    unpack_file(&file, target, &Budget::new(recipe.max_size()?))?;
    Ok(())
}
