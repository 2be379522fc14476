//! A container's files as its guest sees them, whether it runs or not.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Error, Result};
use crate::storage::{self, Tree};
use crate::store::{AliveLock, BootRecord, Layout, OperationLock, Origin};
use crate::sys;
use crate::types::account;
use crate::types::{ContainerName, IdRange, parse_id};

/// The root of a container's files.
pub(crate) struct GuestTree {
    root: OwnedFd,
    /// The container's directory on the host.
    place: OwnedFd,
    /// What the ids of the files seen through `root` are mapped by.
    ids: Option<IdRange>,
    /// Keeps a stopped container's files where they are.
    _idle: Option<(Tree, OperationLock)>,
}

/// The id that stands for all that have none (user_namespaces(7)).
const NOBODY: u32 = 65_534;

impl GuestTree {
    /// Opens it: a running guest's own root, what is mounted in it included, or the files of a
    /// stopped container.
    pub(crate) fn open(layout: &Layout, name: &ContainerName) -> Result<Self> {
        layout.require(name)?;
        let lock = OperationLock::acquire(layout, name)?;
        let place = sys::fs::open_dir(layout.container(name))?;
        if AliveLock::is_held(layout, name)? {
            return Self::of_running(layout, name, place);
        }
        let backend = storage::of_container(layout, name)?;
        let tree = Tree::open(backend.as_ref(), &layout.container(name))?;
        // Its files have the ids that the guest gives them.
        let ids = layout.config(name)?.security.ids(Origin::read(layout, name)?.range());
        let ids = ids.map(|ids| IdRange { base: 0, ..ids });
        Ok(GuestTree { root: tree.dir()?, place, ids, _idle: Some((tree, lock)) })
    }

    fn of_running(layout: &Layout, name: &ContainerName, place: OwnedFd) -> Result<Self> {
        let record = BootRecord::read(layout, name)?
            .ok_or_else(|| Error::conflict(format!("`{name}` is just being started or stopped")).hint("try again"))?;
        Ok(GuestTree { root: record.open_root(name)?, place, ids: record.ids, _idle: None })
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory of the host that its files are in, of whatever backend.
    pub(crate) fn place(&self) -> BorrowedFd<'_> {
        self.place.as_fd()
    }

    /// Runs `f` as the guest's root where files are made: those of the host's ids that no guest has
    /// can own nothing there.
    pub(crate) fn as_root<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.ids {
            Some(ids) => sys::creds::with_fs_ids(ids.base, ids.base, f)?,
            None => f(),
        }
    }

    /// What of the host an id of the guest's is, as its files show it.
    pub(crate) fn to_host(&self, id: u32) -> u32 {
        match self.ids {
            Some(ids) => ids.to_host(id).unwrap_or(ids.base + NOBODY),
            None => id,
        }
    }

    /// What of the guest's an id is that its files show to the host.
    pub(crate) fn to_guest(&self, id: u32) -> u32 {
        match self.ids {
            Some(ids) => id.checked_sub(ids.base).filter(|inner| *inner < ids.len).unwrap_or(NOBODY),
            None => id,
        }
    }

    /// The ids that `text` names: a user of the guest, `UID` or `UID:GID`.
    pub(crate) fn owner(&self, text: &str) -> Result<(u32, u32)> {
        let (uid, gid) = match numeric(text) {
            Some(ids) => ids,
            None => self.named(text)?,
        };
        if let Some(ids) = self.ids {
            ids.require(uid, || format!("the user {uid}"))?;
            ids.require(gid, || format!("the group {gid}"))?;
        }
        Ok((uid, gid))
    }

    fn named(&self, text: &str) -> Result<(u32, u32)> {
        let passwd = match sys::fs::read_in_root(&self.root, "etc/passwd", 1 << 20) {
            // A guest without the file has no users by name.
            Err(e) if e.errno() == Some(libc::ENOENT) => Vec::new(),
            other => other?,
        };
        let passwd = String::from_utf8_lossy(&passwd);
        // What follows the numbers does not matter here.
        let ids = |line: &str| match account::fields(line)[..] {
            [_, _, uid, gid, ..] => numeric(&format!("{uid}:{gid}")),
            [_, _, uid] => numeric(uid),
            _ => None,
        };
        passwd
            .lines()
            .filter(|line| account::name(line) == text)
            .find_map(ids)
            .ok_or_else(|| Error::not_found(format!("the guest has no user `{}`", text.escape_default())))
    }
}

/// `UID`, whose group has the same number, or `UID:GID`.
fn numeric(text: &str) -> Option<(u32, u32)> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    Some((parse_id(uid)?, parse_id(gid)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(ids: Option<IdRange>) -> GuestTree {
        let open = || sys::fs::open_dir("/").unwrap();
        GuestTree { root: open(), place: open(), ids, _idle: None }
    }

    #[test]
    fn ids_that_no_guest_has_are_nobodys() {
        let mapped = tree(Some(IdRange::new(524_288)));
        assert_eq!((mapped.to_host(1000), mapped.to_host(70_000)), (525_288, 524_288 + NOBODY));
        assert_eq!((mapped.to_guest(525_288), mapped.to_guest(0), mapped.to_guest(600_000)), (1000, NOBODY, NOBODY));
        let plain = tree(None);
        assert_eq!((plain.to_host(70_000), plain.to_guest(0)), (70_000, 0));
    }

    #[test]
    fn owners_are_named_or_numbered() {
        let (tree, mapped) = (tree(None), tree(Some(IdRange::new(524_288))));
        assert_eq!(tree.owner("1000").unwrap(), (1000, 1000));
        assert_eq!(tree.owner("1000:50").unwrap(), (1000, 50));
        assert_eq!(tree.owner("root").unwrap(), (0, 0));
        assert_eq!(mapped.owner("65535:0").unwrap(), (65_535, 0));
        for outside in ["65536", "0:65536"] {
            let error = mapped.owner(outside).unwrap_err().to_string();
            assert!(error.contains("65536 is not an id of the guest, which has 0 to 65535"), "{error}");
        }
        for none in ["4294967295", "0:4294967295", "+1"] {
            assert_eq!(tree.owner(none).unwrap_err().kind().exit_status(), 3, "{none}");
        }
        assert_eq!(tree.owner("no-such-user").unwrap_err().kind().exit_status(), 3);
    }
}
