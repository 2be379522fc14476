//! Which backend a new container gets.

use super::{backend, dir};
use crate::error::Result;
use crate::store::Layout;

/// A backend and why it was taken, to be shown to the admin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub backend: &'static str,
    pub why: String,
}

/// The backend for a new container: `requested` (a backend's name, or `auto`).
pub fn choose(layout: &Layout, requested: &str) -> Result<Choice> {
    if requested != "auto" {
        let backend = backend(layout, requested)?.name();
        return Ok(Choice { backend, why: "as asked for".into() });
    }
    Ok(Choice { backend: dir::NAME, why: "works everywhere".into() })
}
