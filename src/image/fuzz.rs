//! What archives hold, as [`crate::fuzz`] gives it to the parsers.

use super::budget::Budget;
use super::{acl, archive};

/// An archive, compressed or not.
pub(crate) fn archive(input: &[u8]) {
    // What is small and unpacks to much is slow and no fault here: it is bounded where it is unpacked.
    const MOST: u64 = 8 << 20;
    let root = std::fs::File::open("/proc/self/root").expect("open a directory");
    let _ = archive::read(
        input,
        &Budget::default(),
        |_| {},
        |archive| {
            let mut taken = 0;
            while let Some(entry) = archive.next()? {
                for (list, text) in &entry.acls {
                    let _ = acl::parse(text, *list, &root);
                }
                loop {
                    let piece = archive.content(1 << 20)?.len() as u64;
                    taken += piece;
                    if piece == 0 || taken > MOST {
                        break;
                    }
                }
                if taken > MOST {
                    break;
                }
            }
            Ok(())
        },
    );
}
