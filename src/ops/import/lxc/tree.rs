//! Where the files of a container of LXC's are, and as whose they are stored.

use std::path::{Path, PathBuf};

use super::keys::value;
use crate::error::{Error, Kind, Result};
use crate::ops::import::foreign::Translated;
use crate::types::Arch;

pub(super) enum Rootfs {
    /// Below the container's directory.
    Inside(PathBuf),
    Outside(PathBuf),
}

/// Its tree: `dir:/path` or a path; other backends have to be mounted first.
///
/// One outside of `dir` is another directory of the host, `/` perhaps: it takes trust in who wrote the
/// configuration. A container directory that was moved or packed still says where it once was: a
/// note says so.
pub(super) fn rootfs(dir: &Path, keys: &[(String, String)], trust: bool, notes: &mut Vec<String>) -> Result<Rootfs> {
    let said = value(keys, "lxc.rootfs.path").or_else(|| value(keys, "lxc.rootfs")).unwrap_or_default();
    let backend = value(keys, "lxc.rootfs.backend").filter(|backend| !matches!(*backend, "dir" | "btrfs"));
    let path = match said.split_once(':') {
        Some(("dir" | "btrfs", path)) => PathBuf::from(path),
        Some((backend, _)) => return Err(other_backend(backend)),
        None if said.is_empty() => dir.join("rootfs"),
        None => PathBuf::from(said),
    };
    match backend {
        Some(backend) => return Err(other_backend(backend)),
        // A volume that is not there at the moment is no reason to take a mount point's files for it.
        None if path.starts_with("/dev") => return Err(other_backend(&path.display().to_string())),
        None => {}
    }
    let own = PathBuf::from("rootfs");
    let Ok(said) = path.canonicalize() else {
        if dir.join(&own).symlink_metadata().is_err() {
            return Err(Error::not_found(format!("its files are not at `{}`", path.display())));
        }
        notes.push(format!(
            "`lxc.rootfs.path = {}` is not there: its files are those of `{}`",
            path.display(),
            dir.join(&own).display()
        ));
        return Ok(Rootfs::Inside(own));
    };
    match said {
        // A `rootfs` that is a link is opened as such, and refused.
        _ if path == dir.join(&own) => Ok(Rootfs::Inside(own)),
        said if said.is_file() => Err(other_backend(&said.display().to_string())),
        said if said != dir && said.starts_with(dir) => {
            Ok(Rootfs::Inside(said.strip_prefix(dir).unwrap_or(&own).to_owned()))
        }
        said if said == Path::new("/") || dir.starts_with(&said) => {
            Err(Error::failed(format!("its `lxc.rootfs.path` is `{}`, which holds more than it", said.display())))
        }
        said if trust => Ok(Rootfs::Outside(said)),
        said => Err(Error::failed(format!("its `lxc.rootfs.path` is `{}`, outside of its directory", said.display()))
            .hint("`--trust` takes the files from there, if you know who wrote its `config`")),
    }
}

fn other_backend(backend: &str) -> Error {
    Error::new(Kind::HostLacks, format!("its files are on a backend of LXC's that is not read here, `{backend}`"))
        .hint("`lxc-copy -B dir` makes a container of it whose files are a directory")
}

/// The host id that its id 0 is stored as: of `lxc.idmap = u 0 100000 65536`.
pub(super) fn id_base(keys: &[(String, String)]) -> Option<u32> {
    maps(keys).find_map(|(_, map)| base(map, "u"))
}

fn maps(keys: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    let maps = keys.iter().filter(|(key, _)| key == "lxc.idmap" || key == "lxc.id_map");
    maps.map(|(key, map)| (key.as_str(), map.as_str()))
}

/// What the id 0 of users (`u`) or groups (`g`) is mapped to, if `map` says so.
fn base(map: &str, of: &str) -> Option<u32> {
    match map.split_whitespace().collect::<Vec<_>>()[..] {
        [whose, "0", base, _] if whose == of => base.parse().ok(),
        _ => None,
    }
}

/// Notes where its ids were mapped otherwise than here, which is one range of its own, from 0.
pub(super) fn id_maps(keys: &[(String, String)], included: bool, made: &mut Translated) {
    let first = id_base(keys);
    match first {
        None if !included => {
            made.notes.push("it was privileged under LXC and is not here; `security.privileged` makes it so".to_owned())
        }
        Some(0) => made.notes.push("under LXC its ids were the host's own, and are not here".to_owned()),
        _ => {}
    }
    for (key, map) in maps(keys) {
        // Files are stored as the first says.
        let is_usual = first.is_some_and(|first| first != 0)
            && [base(map, "u"), base(map, "g")].into_iter().flatten().next() == first;
        if !is_usual {
            made.left_out(&format!("{key} = {map}"));
        }
    }
}

/// An architecture as lxc.container.conf(5) names it: as uname(2) does, or as Debian does.
pub(super) fn arch(name: &str) -> Option<Arch> {
    match name {
        "linux64" => Some(Arch::host()),
        "i486" | "i586" | "i686" | "linux32" => Some(Arch::I386),
        "armv7l" | "armv7" | "armhf" => Some(Arch::Armhf),
        "ppc64le" => Some(Arch::Ppc64el),
        other => other.parse().ok(),
    }
}
