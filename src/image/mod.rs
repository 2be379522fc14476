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
mod marks;
pub(crate) mod measure;
pub(crate) mod pack;
mod record;
#[cfg(test)]
mod testing;
pub(crate) mod unpack;
mod walk;

pub(crate) use cache::{Image, ImageStore, Listed};
pub(crate) use marks::remove_overlay_marks;
pub(crate) use record::{BuildInputs, ImageRecord, ImageSpec};

/// No path in an archive is longer. A guest can nest directories deeper than the 4096 bytes (PATH_MAX) that
/// the kernel takes at once, and their archive is read back; but each entry of it has the whole path.
const MOST_PATH: usize = 16 << 10;

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
