//! Settings of LXC that say what lxm does by itself, and so are not reported.

use std::path::Path;

use super::tree::arch;
use crate::types::Arch;

/// Whether lxm does what `key` says anyway, or `key` has no meaning for it. Everything else is taken
/// over or reported.
pub(super) fn is_default(key: &str, value: &str) -> bool {
    match key {
        "lxc.uts.name" | "lxc.utsname" | "lxc.rootfs" | "lxc.rootfs.path" | "lxc.rootfs.mount" | "lxc.tty.max"
        | "lxc.tty.dir" | "lxc.pty.max" | "lxc.log.level" | "lxc.log.file" => true,
        // One that this host does not run is a note's worth; so is one that is not known.
        "lxc.arch" => arch(value).is_some_and(|guest| Arch::host().runs(guest)),
        // An idmapped mount is how ids are mapped here.
        "lxc.rootfs.options" => value.split(',').all(|option| option.is_empty() || option.starts_with("idmap=")),
        "lxc.apparmor.profile" => value == "generated" || value.starts_with("lxc-container-default"),
        "lxc.apparmor.allow_nesting" => value == "0",
        "lxc.seccomp.profile" => Path::new(value).starts_with("/usr/share/lxc/config"),
        // Writable ones are more than lxm mounts.
        "lxc.mount.auto" => value.split_whitespace().all(|mount| {
            let is_usual = |mount: &str| ["proc", "sys", "cgroup"].contains(&mount);
            is_usual(mount.split(':').next().unwrap_or_default()) && !mount.split(':').any(|word| word == "rw")
        }),
        // What LXC gives to every container; what nesting takes is another file.
        "lxc.include" => {
            let name = value.rsplit('/').next().unwrap_or_default();
            Path::new(value).parent() == Some(Path::new("/usr/share/lxc/config")) && name != "nesting.conf"
        }
        _ => false,
    }
}
