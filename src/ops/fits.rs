//! Whether files that were made elsewhere fit the guest that is to have them.

use crate::config::{Security, Storage};
use crate::error::{Error, Result};
use crate::image::measure::HighestOwner;
use crate::types::{IdRange, Size};

/// Fails where a file belongs to an id that the guest does not have: it could neither use nor remove it.
pub(crate) fn ids(highest: &HighestOwner, security: &Security) -> Result<()> {
    // Wherever its own range begins, it is no shorter.
    let ids = security.ids(IdRange { base: IdRange::FIRST_BASE, len: *security.id_count().start() });
    let most = ids.map_or(u32::MAX, |ids| ids.len.saturating_sub(1));
    if highest.id <= most {
        return Ok(());
    }
    Err(Error::failed(format!(
        "`{}` belongs to the id {}, and the guest has ids up to {most}",
        highest.path.display(),
        highest.id
    )))
}

/// Fails where the files take up more than the container may.
pub(crate) fn size(bytes: u64, storage: &Storage) -> Result<()> {
    match storage.size {
        Some(most) if bytes > most.bytes() => Err(Error::failed(format!(
            "its files take up {}, more than its `storage.size` of {most} lets them",
            Size::from_bytes(bytes.next_multiple_of(1 << 20))
        ))
        .hint("give it more where it was made, or keep it with `--storage overlay`: what it begins with does not count there")),
        _ => Ok(()),
    }
}
