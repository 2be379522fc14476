//! What an import is asked for.

use crate::types::{ContainerName, Size};

/// How it is to be kept here.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImportOptions {
    /// Unset means the name it had.
    pub name: Option<ContainerName>,
    /// A backend's name, or `auto`.
    pub storage: String,
    /// Takes over also what gives it more than a fresh container has, and files that its
    /// configuration says are elsewhere.
    pub trust: bool,
    /// `security.id-range-size`, whatever its own configuration says.
    pub id_range_size: Option<u32>,
    /// Of several images in one archive, which: its name, or the end of it.
    pub image: Option<String>,
    /// The most that its archives may become unpacked.
    pub max_size: Option<Size>,
}
