//! The ids inside extended attributes: those of ACLs, and the owner of file capabilities.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::error::{Context, Error, Result};

const CAPABILITY: &str = "security.capability";
const ACLS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// A path to an open file, O_PATH or not.
pub(super) fn magic_link(file: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into()
}

fn get(path: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    // XATTR_SIZE_MAX is 64 KiB; an ACL or a capability is far below.
    let mut value = vec![0; 4096];
    loop {
        match rustix::fs::getxattr(path, name, value.as_mut_slice()) {
            Ok(len) => {
                value.truncate(len);
                return Ok(Some(value));
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(Errno::RANGE) if value.len() < 65_536 => value.resize(65_536, 0),
            Err(e) => return Err(e).context(|| format!("read `{name}`")),
        }
    }
}

fn set(path: &Path, name: &str, value: &[u8]) -> Result<()> {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).context(|| format!("write `{name}`"))
}

/// Changes the ids in a file's ACLs.
pub(super) fn shift_acls(path: &Path, shift: impl Fn(u32) -> u32) -> Result<()> {
    for name in ACLS {
        if let Some(acl) = get(path, name)? {
            let shifted = shifted_acl(&acl, &shift)?;
            if shifted != acl {
                set(path, name, &shifted)?;
            }
        }
    }
    Ok(())
}

/// linux/posix_acl_xattr.h: a version, then entries of tag, permissions and id, little-endian.
fn shifted_acl(acl: &[u8], shift: impl Fn(u32) -> u32) -> Result<Vec<u8>> {
    const NAMED_USER: u16 = 0x02;
    const NAMED_GROUP: u16 = 0x08;
    let bad = || Error::failed("an ACL is not well formed");
    let (version, entries) = acl.split_first_chunk::<4>().ok_or_else(bad)?;
    if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
        return Err(bad());
    }
    let mut shifted = acl.to_vec();
    for entry in shifted[4..].chunks_exact_mut(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        if tag == NAMED_USER || tag == NAMED_GROUP {
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            entry[4..].copy_from_slice(&shift(id).to_le_bytes());
        }
    }
    Ok(shifted)
}

/// A file's capabilities as they are stored.
pub(super) fn capability(path: &Path) -> Result<Option<Vec<u8>>> {
    get(path, CAPABILITY)
}

pub(super) fn set_capability(path: &Path, value: &[u8]) -> Result<()> {
    set(path, CAPABILITY, value)
}

/// Capabilities that are worth something to a user namespace whose root is the host's `root`
/// (linux/capability.h: revision 3 carries the id, revision 2 is the host's own).
pub(super) fn capability_for(value: &[u8], root: u32) -> Result<Vec<u8>> {
    const REVISION_2: u32 = 0x0200_0000;
    const REVISION_3: u32 = 0x0300_0000;
    const REVISION_MASK: u32 = 0xFF00_0000;
    let magic = value.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
    match (magic.map(|m| (m & REVISION_MASK, m & !REVISION_MASK)), value.len()) {
        (Some((REVISION_2, flags)), 20) | (Some((REVISION_3, flags)), 24) => {
            let revision = if root == 0 { REVISION_2 } else { REVISION_3 };
            let mut made = (revision | flags).to_le_bytes().to_vec();
            made.extend_from_slice(&value[4..20]);
            if root != 0 {
                made.extend_from_slice(&root.to_le_bytes());
            }
            Ok(made)
        }
        _ => Err(Error::failed("file capabilities of an unknown form")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_users_and_groups_of_an_acl_have_ids() {
        let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
        let acl = |user, group| {
            [
                2u32.to_le_bytes().to_vec(),
                entry(0x01, u32::MAX),
                entry(0x02, user),
                entry(0x08, group),
                entry(0x20, u32::MAX),
            ]
            .concat()
        };
        assert_eq!(shifted_acl(&acl(5, 6), |id| id + 100).unwrap(), acl(105, 106));
        for bad in [&b""[..], b"\x02\0\0", b"\x01\0\0\0", b"\x02\0\0\0abc"] {
            assert!(shifted_acl(bad, |id| id).is_err());
        }
    }

    #[test]
    fn capabilities_go_to_a_user_namespace_and_back() {
        let host: Vec<u8> = [&0x0200_0001u32.to_le_bytes()[..], &[1; 16]].concat();
        let guest = capability_for(&host, 524_288).unwrap();
        assert_eq!(guest.len(), 24);
        assert_eq!(guest[20..], 524_288u32.to_le_bytes());
        assert_eq!(capability_for(&guest, 0).unwrap(), host);
        assert!(capability_for(b"short", 0).is_err());
    }
}
