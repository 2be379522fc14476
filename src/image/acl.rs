//! Access control lists as archives write them (`SCHILY.acl.*`) into the kernel's form.

use std::io::Read;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};

use crate::error::{Context, Error, Result};
use crate::types::account;

/// Which of the two lists of a file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AclKind {
    Access,
    /// A directory's: what is handed down to files made in it.
    Default,
}

impl AclKind {
    pub(super) fn xattr(self) -> &'static str {
        match self {
            AclKind::Access => "system.posix_acl_access",
            AclKind::Default => "system.posix_acl_default",
        }
    }
}

// linux/posix_acl.h and posix_acl_xattr.h
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;
const VERSION: u32 = 2;

/// The value of the extended attribute that `text` stands for; `None` for an access list that
/// says no more than the permission bits.
///
/// Takes acl_to_text(3)'s form (`user:lisa:r-x`, by commas or lines) and star's, which adds the
/// number (`user:lisa:r-x:502`). A name without one is looked up as GNU tar does, in the host's
/// users and groups, then in those of the tree below `root`.
pub(super) fn parse(text: &[u8], list: AclKind, root: impl AsFd) -> Result<Option<Vec<u8>>> {
    let text = str::from_utf8(text).map_err(|_| Error::failed("an access control list is not text"))?;
    let mut entries = Vec::new();
    for entry in text.split([',', '\n']) {
        let entry = entry.split('#').next().unwrap_or_default().trim();
        if !entry.is_empty() {
            entries.push(parse_entry(entry, &root).context(|| format!("access control entry `{entry}`"))?);
        }
    }
    if entries.is_empty()
        || list == AclKind::Access && entries.iter().all(|(tag, ..)| !matches!(*tag, USER | GROUP | MASK))
    {
        return Ok(None);
    }
    // posix_acl_valid() in the kernel wants them in this order.
    entries.sort_by_key(|&(tag, _, id)| (tag, id));
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    Ok(Some(value))
}

fn parse_entry(entry: &str, root: impl AsFd) -> Result<(u16, u16, u32)> {
    let malformed = || Error::failed("not of the form `tag:name:rwx`");
    let fields: Vec<_> = entry.split(':').map(str::trim).collect();
    let (tag, name, permissions, number) = match fields[..] {
        [tag, permissions] => (tag, "", permissions, None),
        [tag, name, permissions] => (tag, name, permissions, None),
        [tag, name, permissions, number] => (tag, name, permissions, Some(number)),
        _ => return Err(malformed()),
    };
    let mut bits = 0;
    for c in permissions.chars() {
        bits |= match c {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return Err(malformed()),
        };
    }
    let (tag, database) = match (tag, name) {
        ("user" | "u", "") => (USER_OBJ, None),
        ("user" | "u", _) => (USER, Some(Database::Users)),
        ("group" | "g", "") => (GROUP_OBJ, None),
        ("group" | "g", _) => (GROUP, Some(Database::Groups)),
        ("mask" | "m", "") => (MASK, None),
        ("other" | "o", "") => (OTHER, None),
        _ => return Err(malformed()),
    };
    let id = match (database, number) {
        (None, _) => NO_ID,
        (Some(_), Some(number)) => number.parse().map_err(|_| malformed())?,
        (Some(database), None) => match name.parse() {
            Ok(id) => id,
            Err(_) => database.id_of(name, root)?,
        },
    };
    Ok((tag, bits, id))
}

#[derive(Debug, Clone, Copy)]
enum Database {
    Users,
    Groups,
}

impl Database {
    fn id_of(self, name: &str, root: impl AsFd) -> Result<u32> {
        let on_host = match self {
            Database::Users => nix::unistd::User::from_name(name)?.map(|user| user.uid.as_raw()),
            Database::Groups => nix::unistd::Group::from_name(name)?.map(|group| group.gid.as_raw()),
        };
        on_host.or_else(|| self.id_in_tree(name, root)).ok_or_else(|| {
            Error::failed(format!("neither this host nor the archive knows `{name}`"))
                .hint("make the archive with `tar --xattrs --xattrs-include='*'`, which stores numbers")
        })
    }

    fn id_in_tree(self, name: &str, root: impl AsFd) -> Option<u32> {
        let file = match self {
            Database::Users => "etc/passwd",
            Database::Groups => "etc/group",
        };
        let fd = crate::sys::fs::open_beneath(root, file, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).ok()?;
        let mut text = String::new();
        std::fs::File::from(fd).take(1 << 20).read_to_string(&mut text).ok()?;
        let mut ids = text.lines().filter(|line| account::name(line) == name).filter_map(account::id);
        ids.find_map(|id| id.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, list: AclKind) -> Result<Option<Vec<u8>>> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "only-in-tree:x:4711:1:::\n").unwrap();
        parse(text.as_bytes(), list, crate::sys::fs::open_dir(dir.path()).unwrap())
    }

    fn value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut value = vec![2, 0, 0, 0];
        for (tag, permissions, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    #[test]
    fn every_known_form_becomes_what_the_kernel_wants() {
        let expected = value(&[(1, 7, NO_ID), (2, 5, 502), (4, 4, NO_ID), (8, 6, 0), (16, 7, NO_ID), (32, 0, NO_ID)]);
        for text in [
            "user::rwx,user:502:r-x,group::r--,group:root:rw-,mask::rwx,other::---",
            "user::rwx\nuser:502:r-x\t#effective:r-x\ngroup::r--\ngroup:root:rw-\nmask::rwx\nother::---\n",
            "user::rwx,user:lisa:r-x:502,group::r--,group:root:rw-:0,mask::rwx,other::---",
            "other::---,mask::rwx,group:0:rw-,u:502:rx,g::r,u::rwx",
        ] {
            assert_eq!(parsed(text, AclKind::Access).unwrap().as_ref(), Some(&expected), "{text}");
        }
        let in_tree = parsed("u::rwx,u:only-in-tree:r,g::r,m::r,o::-", AclKind::Access).unwrap().unwrap();
        assert_eq!(in_tree[12..20], value(&[(2, 4, 4711)])[4..]);
    }

    #[test]
    fn a_list_equal_to_the_mode_is_none_unless_it_is_a_default() {
        let text = "user::rw-,group::r--,other::r--";
        assert_eq!(parsed(text, AclKind::Access).unwrap(), None);
        assert!(parsed(text, AclKind::Default).unwrap().is_some());
        assert_eq!(parsed("", AclKind::Default).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for text in ["user", "user:a:b:c:d", "user::rwz", "whoever::rwx", "user:lxm-no-such-user:rwx", "user:x:r:y"] {
            assert!(parsed(text, AclKind::Access).is_err(), "{text}");
        }
    }
}
