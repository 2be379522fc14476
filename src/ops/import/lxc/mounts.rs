//! `lxc.mount.entry`, a line in the form of fstab(5), and `lxc.mount.auto`.

use std::path::{Component, Path, PathBuf};

use super::model::{Lxc, WantedDevice, nesting_is_asked_for};
use crate::config::{Mount, MountIds, MountTarget};
use crate::ops::import::device_nodes::is_place_of_devices;
use crate::ops::import::table::{Setting, Taken};

/// File systems that every guest of lxm's has, and their type.
const OWN: [(&str, &str); 7] = [
    ("/dev/mqueue", "mqueue"),
    ("/dev/pts", "devpts"),
    ("/dev/shm", "tmpfs"),
    ("/proc", "proc"),
    ("/run", "tmpfs"),
    ("/sys", "sysfs"),
    ("/sys/fs/cgroup", "cgroup2"),
];

/// Options that say what lxm does anyway: its mounts are private and `nosuid,nodev`.
const USUAL: [&str; 20] = [
    "",
    "bind",
    "rbind",
    "ro",
    "rw",
    "optional",
    "create=dir",
    "create=file",
    "defaults",
    "nosuid",
    "nodev",
    "private",
    "rprivate",
    "relatime",
    "noatime",
    "nodiratime",
    "suid",
    "dev",
    "exec",
    "idmap=container",
];

/// `/srv/www var/www none bind,ro,create=dir 0 0`
pub(super) fn entry(lxc: &mut Lxc, setting: &Setting) -> Taken {
    // A space is written \040 (getmntent(3)).
    let mut fields = setting.value.split_whitespace().map(unescaped);
    let (Some(source), Some(target)) = (fields.next(), fields.next()) else {
        return Taken::LostFor("it has no target".to_owned());
    };
    let (kind, options) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let options: Vec<&str> = options.split(',').collect();
    let Some(target) = below_root(&target, &lxc.roots) else {
        return Taken::LostFor("its target is not below the container's files, and LXC mounts no such one".to_owned());
    };
    if !options.contains(&"bind") && !options.contains(&"rbind") {
        return file_system(&target, &kind);
    }
    let source = Path::new(&source);
    if !source.is_absolute() || source.components().any(|part| part == Component::ParentDir) {
        return Taken::LostFor("its source is not an absolute path of the host".to_owned());
    }
    if source.starts_with("/proc") || source.starts_with("/sys") {
        return Taken::LostFor("a guest has a /proc and a /sys of its own".to_owned());
    }
    if is_place_of_devices(source) {
        lxc.wanted.push(WantedDevice { path: source.to_owned(), target, setting: setting.clone() });
        return Taken::Over;
    }
    let target = match MountTarget::try_from(target.as_path()) {
        Ok(target) => target,
        Err(e) => return Taken::LostFor(e.to_string()),
    };
    let mount = Mount {
        read_only: options.contains(&"ro"),
        optional: options.contains(&"optional"),
        recursive: options.contains(&"rbind"),
        idmap: if options.contains(&"idmap=container") { MountIds::Guest } else { MountIds::None },
        ..Mount::new(source, target)
    };
    let lost: Vec<_> = options.iter().filter(|option| !USUAL.contains(option)).copied().collect();
    if !lost.is_empty() && !setting.is_shipped {
        lxc.made.notes.push(format!("the mount of `{}` is without `{}`", source.display(), lost.join(",")));
    }
    if !lxc.made.config.mount.contains(&mount) {
        lxc.made.config.mount.push(mount);
    }
    Taken::Over
}

fn file_system(target: &Path, kind: &str) -> Taken {
    if OWN.iter().any(|(own, of)| target == Path::new(own) && kind == *of) {
        return Taken::Over;
    }
    if target.starts_with("/dev/.lxc") {
        return nesting_is_asked_for();
    }
    Taken::LostFor("lxm mounts directories and files of the host; the guest's own /etc/fstab mounts others".to_owned())
}

/// A target as the guest sees it: LXC takes absolute ones as the host sees them.
fn below_root(target: &str, roots: &[PathBuf]) -> Option<PathBuf> {
    let target = Path::new(target);
    if target.is_relative() {
        return Some(Path::new("/").join(target));
    }
    let below = |root: &PathBuf| Some(Path::new("/").join(target.strip_prefix(root).ok()?));
    roots.iter().filter(|root| root.is_absolute()).find_map(below)
}

/// `\040` and its like are the bytes that they number.
fn unescaped(field: &str) -> String {
    let mut found = String::new();
    let mut rest = field;
    while let Some((before, escape)) = rest.split_once('\\') {
        found.push_str(before);
        let code = escape.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(|code| matches!(code, b' ' | b'\t' | b'\n' | b'\\')) {
            Some(code) => {
                found.push(code.into());
                rest = &escape[3..];
            }
            None => {
                found.push('\\');
                rest = escape;
            }
        }
    }
    found.push_str(rest);
    found
}

/// `proc:mixed sys:ro cgroup:mixed`
pub(super) fn auto(_: &mut Lxc, setting: &Setting) -> Taken {
    let is_usual = |mount: &str| {
        let mut words = mount.split(':');
        let what = words.next().unwrap_or_default();
        ["proc", "sys", "cgroup", "cgroup2"].contains(&what) && !words.any(|word| word == "rw")
    };
    Taken::if_so(setting.value.split_whitespace().all(is_usual))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::import::lxc::{lines::parse, read};

    fn mounts(entry: &str) -> (Vec<Mount>, Vec<WantedDevice>, Vec<String>) {
        let text = format!("lxc.rootfs.path = dir:/srv/old\nlxc.mount.entry = {entry}\n");
        let lxc = read(parse(&text).unwrap(), Path::new("/lxc/web")).unwrap();
        (lxc.made.config.mount, lxc.wanted, lxc.made.notes)
    }

    #[test]
    fn binds_are_mounts_and_targets_are_the_guest_s() {
        for (entry, source, target) in [
            ("/srv/www var/www none bind 0 0", "/srv/www", "/var/www"),
            ("/srv/www /srv/old/var/www none bind", "/srv/www", "/var/www"),
            ("/srv/www /lxc/web/rootfs/mnt none rbind,create=dir", "/srv/www", "/mnt"),
            (r"/srv/a\040b mnt/a\134b none bind", "/srv/a b", r"/mnt/a\b"),
            ("/dev/shm mnt none bind", "/dev/shm", "/mnt"),
            ("/var/lib/lxcfs/proc/meminfo proc/meminfo none bind", "/var/lib/lxcfs/proc/meminfo", "/proc/meminfo"),
        ] {
            let (mounts, wanted, notes) = mounts(entry);
            assert_eq!((mounts[0].source.to_str(), mounts[0].target.to_string().as_str()), (Some(source), target));
            assert!(wanted.is_empty() && notes.is_empty(), "{entry}: {notes:?}");
        }
        let mount = &mounts("/srv mnt none bind,ro,optional,idmap=container").0[0];
        assert!(mount.read_only && mount.optional && !mount.recursive && mount.idmap == MountIds::Guest);
        assert!(mounts("/srv mnt none rbind").0[0].recursive);
        let (mounts, _, notes) = mounts("/srv mnt none bind,noexec,rslave");
        assert!(mounts.len() == 1 && notes[0].contains("noexec,rslave"), "{notes:?}");
    }

    #[test]
    fn what_lxm_does_not_mount_is_told() {
        for entry in [
            "/srv",
            "/srv /elsewhere none bind",
            "srv mnt none bind,relative",
            "/srv/../etc mnt none bind",
            "/sys/kernel/debug sys/kernel/debug none bind,optional",
            "/srv proc/sys none bind",
            "/srv ../x none bind",
            "tmpfs tmp tmpfs defaults",
            "proc dev/.lxc/proc proc create=dir",
            "//server/share mnt cifs ro",
        ] {
            let (mounts, wanted, notes) = mounts(entry);
            assert!(mounts.is_empty() && wanted.is_empty() && notes.len() == 1, "{entry}: {notes:?}");
        }
        for entry in
            ["none dev/shm tmpfs rw,nosuid,create=dir", "run run tmpfs rw,mode=755", "mqueue dev/mqueue mqueue x"]
        {
            let (mounts, _, notes) = mounts(entry);
            assert!(mounts.is_empty() && notes.is_empty(), "{entry}: {notes:?}");
        }
    }
}
