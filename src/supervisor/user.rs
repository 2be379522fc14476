//! Users of the guest, read from its own /etc/passwd and /etc/group.
//!
//! Not through libc: its name service would load the guest's libraries into our process.

use std::path::Path;

use crate::error::{Error, Result};
use crate::types::account::{self, Passwd};
use crate::types::{IdRange, parse_id};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
    pub shell: String,
}

/// More than this of a guest's user database is not read.
const LIMIT: u64 = 4 << 20;

impl User {
    /// Finds `wanted` (`NAME`, `UID`, either with `:GROUP`), root by default, in the files of this
    /// process's root, which is the guest's.
    pub(super) fn find(wanted: Option<&str>) -> Result<Self> {
        find(&read("/etc/passwd"), &read("/etc/group"), wanted.unwrap_or("0"))
    }

    /// Fails where the user, or a group of theirs, is none that the guest's range of ids has.
    pub(super) fn require_in(&self, ids: IdRange) -> Result<()> {
        ids.require(self.uid, || format!("the user {}", self.uid))?;
        let groups = self.groups.iter();
        groups.copied().try_for_each(|gid| ids.require(gid, || format!("the group {gid} of the user `{}`", self.name)))
    }
}

/// A guest without the file has no users by name, which is not an error until one is asked for.
fn read(file: &str) -> String {
    let contents =
        crate::sys::fs::open_dir("/").and_then(|root| crate::sys::fs::read_in_root(root, Path::new(file), LIMIT));
    contents.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn find(passwd: &str, group: &str, wanted: &str) -> Result<User> {
    let (wanted_user, wanted_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let mut user = find_user(passwd, wanted_user)?;
    match wanted_group {
        Some(name) => user.gid = find_group(group, name)?,
        None => user.groups = groups_of(group, &user.name),
    }
    if !user.groups.contains(&user.gid) {
        user.groups.insert(0, user.gid);
    }
    Ok(user)
}

fn find_user(passwd: &str, wanted: &str) -> Result<User> {
    // A guest can have a line without a name.
    if wanted.is_empty() {
        return Err(Error::usage("the name of the user is empty"));
    }
    let uid = parse_id(wanted);
    let entry = passwd
        .lines()
        .filter_map(Passwd::parse)
        .find(|entry| entry.name == wanted || (uid.is_some() && parse_id(entry.uid) == uid));
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    match (entry, uid) {
        (Some(entry), _) => match entry.ids() {
            Some((uid, gid)) => Ok(User {
                name: entry.name.to_owned(),
                uid,
                gid,
                groups: Vec::new(),
                home: or(entry.home, "/"),
                shell: or(entry.shell, "/bin/sh"),
            }),
            None => Err(Error::failed(format!("the guest's /etc/passwd has no valid ids for `{wanted}`"))),
        },
        // A number needs no entry, as with chroot(1) and docker.
        (None, Some(uid)) => Ok(User {
            name: if uid == 0 { "root".into() } else { uid.to_string() },
            uid,
            gid: uid,
            groups: Vec::new(),
            home: if uid == 0 { "/root".into() } else { "/".into() },
            shell: "/bin/sh".into(),
        }),
        (None, None) => Err(Error::not_found(format!("the guest has no user `{wanted}`"))),
    }
}

fn find_group(group: &str, wanted: &str) -> Result<u32> {
    if let Some(gid) = parse_id(wanted) {
        return Ok(gid);
    }
    let mut entries = group.lines().filter(|line| account::name(line) == wanted).filter_map(account::id);
    entries.next().and_then(parse_id).ok_or_else(|| Error::not_found(format!("the guest has no group `{wanted}`")))
}

fn groups_of(group: &str, user: &str) -> Vec<u32> {
    let member = |line: &&str| {
        line.rsplit(':').next().is_some_and(|members| members.split(',').any(|name| !name.is_empty() && name == user))
    };
    group.lines().filter(member).filter_map(account::id).filter_map(parse_id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\ndebian:x:1000:1000::/home/debian:/bin/sh\nbad:x:x:y::/:\n";
    const GROUP: &str = "root:x:0:\nsudo:x:27:debian\nadm:x:4:other,debian\ndebian:x:1000:\n";

    #[test]
    fn users_are_found_by_name_and_number_with_their_groups() {
        let debian = find(PASSWD, GROUP, "debian").unwrap();
        assert_eq!((debian.uid, debian.gid, debian.groups.as_slice()), (1000, 1000, [1000, 27, 4].as_slice()));
        assert_eq!(find(PASSWD, GROUP, "1000").unwrap(), debian);
        assert_eq!(find(PASSWD, GROUP, "debian:adm").unwrap().gid, 4);
        assert_eq!(find(PASSWD, GROUP, "0").unwrap().shell, "/bin/bash");
    }

    #[test]
    fn a_number_needs_no_entry_and_a_name_does() {
        let nobody = find("", "", "4242").unwrap();
        assert_eq!((nobody.uid, nobody.gid, nobody.home.as_str()), (4242, 4242, "/"));
        for wanted in ["web", "root:web", "bad", "+0", "4294967295", "0x0", "root:+0"] {
            assert!(find(PASSWD, GROUP, wanted).is_err(), "{wanted}");
        }
    }
}
