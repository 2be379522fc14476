//! User namespaces that are made for what they map alone.

use std::fs::{self, File};

use super::clone::{SingleThreaded, clone_holder};
use super::creds;
use crate::error::{Context, Result};

/// Makes one of the host's user `owner`, which maps users and groups alike by `map` (user_namespaces(7)).
pub(crate) fn make(owner: u32, map: &str) -> Result<File> {
    let witness = SingleThreaded::check()?;
    let clone = || clone_holder(witness, libc::CLONE_NEWUSER);
    // The namespace lives as long as this process or the descriptor does.
    let holder = if owner == 0 { clone()? } else { creds::with_effective_uid(owner, clone)?? };
    let make = || {
        for file in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{file}", holder.pid()), map)?;
        }
        File::open(format!("/proc/{}/ns/user", holder.pid()))
    };
    make().context(|| "map the ids of a user namespace")
}

/// Whether this process is root's of the whole host, and not only of a container with ids of its own.
pub(crate) fn is_the_hosts() -> bool {
    // The initial one maps every id to itself, which another one can only do as a copy of it.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Makes one for a try of what maps ids, with an id that there is on every host.
pub(crate) fn for_a_try() -> Result<File> {
    make(0, "0 0 1\n")
}
