//! Root file systems: unpacked from archives, packed into them, copied, and kept as images.
//!
//! It may name `store` and what stands below it. Start reading at `cache`, `unpack` and `pack`.

mod acl;
mod archive;
mod attributes;
pub(crate) mod budget;
mod cache;
pub(crate) mod compress;
pub(crate) mod copy;
#[cfg(test)]
pub(crate) mod fingerprint;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod inode_flags;
mod marks;
pub(crate) mod measure;
pub(crate) mod pack;
mod record;
mod remarks;
pub(crate) mod survey;
#[cfg(test)]
mod testing;
pub(crate) mod unpack;
mod walk;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

pub(crate) use cache::{Image, ImageStore, Listed};
pub(crate) use marks::remove_overlay_marks;
pub(crate) use record::{BuildInputs, ImageRecord, ImageSpec};
pub use remarks::Remarks;
pub(crate) use walk::open_deep;

/// No path in an archive is longer. A guest can nest directories deeper than the 4096 bytes (PATH_MAX) that
/// the kernel takes at once, and their archive is read back; but each entry of it has the whole path.
const MOST_PATH: usize = 16 << 10;

/// No more of an entry's headers is held in memory: its paths and extended attributes. The kernel's own limits,
/// with room: 64 KiB for a value, and for all names.
const MOST_METADATA: usize = 8 << 20;

/// No more parts with data are read of a sparse file.
const MOST_PARTS: usize = 1_000_000;

/// As libarchive writes it, which ends it with no `=`.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What ext4 can hold; holes take no room, but a copy that cannot keep them would.
const LARGEST_SPARSE: u64 = 16 << 40;

/// A name out of an archive or a tree, for a message: no control characters, not endless.
fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text = String::from_utf8_lossy(&name[..name.len().min(LONGEST)]);
    let mut shown = crate::terminal::line(&text).into_owned();
    if name.len() > LONGEST {
        shown.push('…');
    }
    shown
}
