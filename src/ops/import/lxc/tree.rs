//! Where the files of a container of LXC's are, and as whose they are stored.

use std::path::{Path, PathBuf};

use super::model::Lxc;
use crate::error::{Error, Kind, Result};
use crate::ops::import::foreign::Translated;
use crate::types::IdRange;

pub(super) enum Rootfs {
    /// Below the container's directory.
    Inside(PathBuf),
    Outside(PathBuf),
}

/// Its tree: `dir:/path` or a path; of other backends, what is mounted at its `rootfs`.
///
/// One outside of `dir` is another directory of the host, `/` perhaps: it takes trust in who wrote the
/// configuration. A container directory that was moved or packed still says where it once was: a
/// note says so.
pub(super) fn rootfs(dir: &Path, lxc: &mut Lxc, trust: bool) -> Result<Rootfs> {
    let own = PathBuf::from("rootfs");
    let (backend, path) = match lxc.rootfs.split_once(':') {
        Some((backend, path)) => (backend.to_owned(), PathBuf::from(path)),
        None if lxc.rootfs.is_empty() => (lxc.backend.clone(), dir.join(&own)),
        None => (lxc.backend.clone(), PathBuf::from(&lxc.rootfs)),
    };
    if !matches!(backend.as_str(), "" | "dir" | "btrfs") || path.starts_with("/dev") {
        // Its volume may have been mounted there; if not, what is below is not its files.
        if is_mount_point(dir, &own) {
            return Ok(Rootfs::Inside(own));
        }
        let backend = if path.starts_with("/dev") { path.display().to_string() } else { backend };
        return Err(other_backend(&backend, dir));
    }
    let Ok(said) = path.canonicalize() else {
        if dir.join(&own).symlink_metadata().is_err() {
            return Err(Error::not_found(format!("its files are not at `{}`", path.display())));
        }
        lxc.made.notes.push(format!(
            "`lxc.rootfs.path = {}` is not there: its files are those of `{}`",
            path.display(),
            dir.join(&own).display()
        ));
        return Ok(Rootfs::Inside(own));
    };
    match said {
        // A `rootfs` that is a link is opened as such, and refused.
        _ if path == dir.join(&own) => Ok(Rootfs::Inside(own)),
        said if said.is_file() => Err(other_backend(&said.display().to_string(), dir)),
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

fn is_mount_point(dir: &Path, name: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| path.symlink_metadata().ok().filter(|meta| meta.is_dir()).map(|meta| meta.dev());
    let (above, there) = (device(dir), device(&dir.join(name)));
    there.is_some() && above != there
}

fn other_backend(backend: &str, dir: &Path) -> Error {
    Error::new(Kind::HostLacks, format!("its files are on a backend of LXC's that is not read here, `{backend}`")).hint(
        format!(
            "mount them at `{}`, or have `lxc-copy -B dir` make a container of it whose files are a directory",
            dir.join("rootfs").display()
        ),
    )
}

/// The host id that its id 0 is stored as: of `lxc.idmap = u 0 100000 65536`.
pub(super) fn id_base(maps: &[String]) -> Option<u32> {
    maps.iter().find_map(|map| range(map, "u")).map(|(base, _)| base)
}

/// What the ids from 0 of users (`u`) or groups (`g`) are mapped to, if `map` says so.
fn range(map: &str, of: &str) -> Option<(u32, u32)> {
    match map.split_whitespace().collect::<Vec<_>>()[..] {
        [whose, "0", base, len] if whose == of => Some((base.parse().ok()?, len.parse().ok()?)),
        _ => None,
    }
}

/// Notes where its ids were mapped otherwise than here, which is one range of its own, from 0.
pub(super) fn id_maps(maps: &[String], all_is_known: bool, made: &mut Translated) {
    let first = id_base(maps);
    match first {
        None if all_is_known => {
            made.notes.push("it was privileged under LXC and is not here; `security.privileged` makes it so".to_owned())
        }
        Some(0) => made.notes.push("under LXC its ids were the host's own, and are not here".to_owned()),
        _ => {}
    }
    for map in maps {
        // Files are stored as the first says.
        let range = [range(map, "u"), range(map, "g")].into_iter().flatten().next();
        let is_usual = first.is_some_and(|first| first != 0 && range == Some((first, IdRange::LEN)));
        if !is_usual {
            made.notes.push(format!(
                "not taken over: `lxc.idmap = {map}`: its ids here are a range of its own, {} from 0 on",
                IdRange::LEN
            ));
        }
    }
}
