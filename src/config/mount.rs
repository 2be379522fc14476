//! `[[mount]]`: what of the host is shown in the guest, where, and whose its files are there.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::defaults::is_default;
use crate::error::{Error, Result};
use crate::types::device::GUEST_DEVICES;
use crate::types::{parse_id, serde_as_text};

/// `[[mount]]`: a directory or file of the host shown in the guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mount {
    /// What it is called in the names of its settings: `mount.srv.source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "absolute")]
    pub source: PathBuf,
    pub target: MountTarget,
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Start without it when the source does not exist.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional: bool,
    /// With what is mounted below the source when the container starts.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub recursive: bool,
    /// Set-user-id programs and file capabilities in it count.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suid: bool,
    /// Device nodes in it can be opened, where the guest may use the device.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dev: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub idmap: MountIds,
}

impl Mount {
    pub fn new(source: impl Into<PathBuf>, target: MountTarget) -> Self {
        Mount {
            name: None,
            source: source.into(),
            target,
            read_only: false,
            optional: false,
            recursive: true,
            suid: false,
            dev: false,
            idmap: MountIds::None,
        }
    }

    /// Whether an unprivileged guest acts as the host's root on its files; `owner` is the source's.
    pub fn acts_as_host_root(&self, owner: u32) -> bool {
        match self.idmap {
            MountIds::None => false,
            MountIds::Guest => true,
            MountIds::Owner | MountIds::Root => owner == 0,
            MountIds::Pair { host, .. } => host == 0,
        }
    }
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

fn absolute<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    let wrong = |why| {
        Err(serde::de::Error::custom(format!("the source of a mount must be an absolute path, and `{why}` is not")))
    };
    if path.is_absolute() { Ok(path) } else { wrong(path.display()) }
}

/// Which ids the files of a mount have in a guest with ids of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountIds {
    /// Those that they have on the host; ids outside the guest's range appear as nobody's.
    #[default]
    None,
    /// The source's owner is who owns the target in the guest; all others are nobody.
    Owner,
    /// The source's owner is the guest's root; all others are nobody.
    Root,
    /// The host's ids 0 and on are the guest's 0 and on.
    Guest,
    /// One id of the host is one of the guest; all others are nobody.
    Pair { host: u32, guest: u32 },
}

impl FromStr for MountIds {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let pair = || {
            let (host, guest) = s.split_once(':')?;
            Some(MountIds::Pair { host: parse_id(host)?, guest: parse_id(guest)? })
        };
        match s {
            "none" => Ok(MountIds::None),
            "owner" => Ok(MountIds::Owner),
            "root" => Ok(MountIds::Root),
            "guest" => Ok(MountIds::Guest),
            _ => pair().ok_or_else(|| {
                Error::config(format!(
                    "`{s}` is not an `idmap` of a mount: use `none`, `owner`, `root`, `guest` or UID:GUEST-UID"
                ))
            }),
        }
    }
}

impl fmt::Display for MountIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MountIds::None => f.write_str("none"),
            MountIds::Owner => f.write_str("owner"),
            MountIds::Root => f.write_str("root"),
            MountIds::Guest => f.write_str("guest"),
            MountIds::Pair { host, guest } => write!(f, "{host}:{guest}"),
        }
    }
}

serde_as_text!(MountIds);

/// Where in a guest something is mounted: an absolute path that is none of lxm's own places.
///
/// A file may hold one that an earlier lxm took. It is read, so that it can be looked at and changed,
/// and [`Config::unfit`](super::Config::unfit) names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountTarget(PathBuf);

/// Without them a guest does not work. What is below them may be mounted on, but for [`OWN_TREES`].
const OWN_PLACES: [&str; 5] = ["/", "/proc", "/sys", "/dev", "/run"];

/// What lxm mounts for every guest, beside its devices, which keeps it within its bounds or tells it of its
/// manager.
const OWN_TREES: [&str; 6] = ["/proc", "/sys/fs/cgroup", "/dev/.lxm", "/dev/console", "/dev/fd", "/run/host"];

/// Files of /proc that say how large a machine is: lxcfs has better ones for a guest. They are no masks,
/// and no process depends on them (runc has the same list).
const PROC_FILES: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/pressure",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
];

impl MountTarget {
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Why nothing can be mounted there, if so.
    pub fn refusal(&self) -> Option<String> {
        MountTarget::try_from(self.as_path()).err().map(|e| e.to_string())
    }
}

impl TryFrom<&Path> for MountTarget {
    type Error = Error;

    fn try_from(path: &Path) -> Result<Self> {
        let refused =
            |why: &str| Err(Error::config(format!("the target of a mount cannot be `{}`: {why}", path.display())));
        if !path.is_absolute() {
            return refused("it does not begin with `/`");
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return refused("it contains `..`");
        }
        // Without `//`, `/./` and a slash at its end.
        let path: PathBuf = path.components().collect();
        let is_own = OWN_PLACES.iter().any(|own| path == Path::new(own));
        let is_device = |below: &Path| GUEST_DEVICES.iter().any(|device| below.starts_with(device.name));
        let is_below_own =
            OWN_TREES.iter().any(|own| path.starts_with(own)) || path.strip_prefix("/dev").is_ok_and(is_device);
        let is_of_lxcfs = PROC_FILES.iter().any(|file| path == Path::new(file));
        if (is_own || is_below_own) && !is_of_lxcfs {
            return refused("lxm mounts its own file system there");
        }
        Ok(MountTarget(path))
    }
}

impl FromStr for MountTarget {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Path::new(s).try_into()
    }
}

impl fmt::Display for MountTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Serialize for MountTarget {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MountTarget {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        Ok(MountTarget::try_from(path.as_path()).unwrap_or(MountTarget(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_absolute_and_none_of_lxm_s_own() {
        for text in [
            "",
            "srv",
            "./srv",
            "/",
            "//",
            "/.",
            "/srv/..",
            "/srv/../proc",
            "/proc",
            "/proc/",
            "/proc//sys",
            "/proc/1/root",
            "/proc/kcore",
            "/proc/sys/net",
            "/proc/self",
            "/sys",
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/x",
            "/dev",
            "/dev/null",
            "/dev/pts/0",
            "/dev/console",
            "/dev/net/tun",
            "/run",
            "/run/host",
            "/run/host/notify",
        ] {
            assert!(text.parse::<MountTarget>().is_err(), "{text}");
        }
        for text in [
            "/srv",
            "/proc/meminfo",
            "/sys/devices/system/cpu/online",
            "/dev/dri",
            "/dev/shm",
            "/run/secrets",
            "/procs",
        ] {
            assert_eq!(text.parse::<MountTarget>().unwrap().to_string(), text);
        }
        assert_eq!("/srv//www/./".parse::<MountTarget>().unwrap().to_string(), "/srv/www");
    }

    #[test]
    fn ways_to_map_ids_are_read_as_they_are_written() {
        for text in ["none", "owner", "root", "guest", "1000:0"] {
            assert_eq!(text.parse::<MountIds>().unwrap().to_string(), text);
        }
        for text in ["", "all", "1000", "1000:", "a:b", "-1:0", "4294967295:0"] {
            assert!(text.parse::<MountIds>().is_err(), "{text}");
        }
    }

    #[test]
    fn defaults_are_not_written() {
        let text = "source = \"/srv\"\ntarget = \"/mnt\"\n";
        let mount: Mount = toml::from_str(text).unwrap();
        assert_eq!(mount, Mount::new("/srv", "/mnt".parse().unwrap()));
        assert_eq!(toml::to_string(&mount).unwrap(), text);
        assert!(toml::from_str::<Mount>("source = \"srv\"\ntarget = \"/mnt\"\n").is_err());
    }

    #[test]
    fn who_acts_as_the_host_s_root_is_known() {
        let mount =
            |idmap: &str| Mount { idmap: idmap.parse().unwrap(), ..Mount::new("/srv", "/mnt".parse().unwrap()) };
        for (idmap, by_root_s, by_a_user_s) in [
            ("none", false, false),
            ("guest", true, true),
            ("root", true, false),
            ("owner", true, false),
            ("0:5", true, true),
        ] {
            let mount = mount(idmap);
            assert_eq!(
                (mount.acts_as_host_root(0), mount.acts_as_host_root(1000)),
                (by_root_s, by_a_user_s),
                "{idmap}"
            );
        }
    }
}
