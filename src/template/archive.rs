//! Builder `archive`: a packed root file system.

use std::path::Path;

use super::recipe::Recipe;
use crate::error::{Error, Result};
use crate::image::Remarks;
use crate::image::budget::Budget;
use crate::image::unpack::{raise_top, unpack_file};

pub(super) fn build(recipe: &Recipe, target: &Path) -> Result<Remarks> {
    let file = recipe.archive().ok_or_else(|| Error::config("builder `archive` needs an option `file`"))?;
    let mut remarks = unpack_file(&file, target, &Budget::new(recipe.max_size()?))?.remarks;
    remarks.append(raise_top(target)?);
    Ok(remarks)
}
