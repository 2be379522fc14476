//! The state directory and the directory of containers: what keys their state on this host.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::types::ContainerName;

/// Where everything is. `LXM_ROOT` prefixes every path; `--path` moves the containers alone.
///
/// What runs and what is locked is known by directory *and* name: `web` in one directory is another
/// container than `web` in a second one.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    pub(super) containers: PathBuf,
    /// Tells the state of containers of this directory from those of the default one, which has none.
    key: Option<String>,
}

impl Layout {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Layout { containers: root.join(DEFAULT_CONTAINERS), root, key: None }
    }

    /// The layout that the environment asks for; `LXM_ROOT` must be absolute.
    pub fn from_env() -> Result<Self> {
        let root = PathBuf::from(std::env::var_os("LXM_ROOT").unwrap_or_else(|| OsString::from("/")));
        if !root.is_absolute() {
            return Err(Error::usage(format!("LXM_ROOT is `{}`: it must be an absolute path", root.display())));
        }
        Ok(Layout::new(root))
    }

    /// The same for the containers of another directory. A directory has one key by whatever way it
    /// is named: links on its path are followed, and the default directory is known by its inode.
    pub fn with_containers(mut self, dir: impl Into<PathBuf>) -> Self {
        let (dir, default) = (canonical(&dir.into()), self.root.join(DEFAULT_CONTAINERS));
        self.key = (!is_same_directory(&dir, &default)).then(|| short_digest(&dir));
        self.containers = if self.key.is_some() { dir } else { default };
        self
    }

    /// Whether these are the containers that commands mean without `--path`: those of `path` in `lxm.toml`,
    /// else of the default directory.
    pub fn is_home(&self) -> bool {
        // A file that cannot be read is reported by the command that needs it.
        match self.host_settings().path {
            Some(path) => Layout::new(&self.root).with_containers(path).key == self.key,
            None => self.key.is_none(),
        }
    }

    /// The name that is the container's alone among the guests of a bridge: with the directory's key
    /// where that is not the usual one. It is a DNS label still (RFC 1035, 63 bytes).
    pub fn name_on_bridge(&self, name: &ContainerName) -> ContainerName {
        match &self.key {
            Some(key) if !self.is_home() => with_suffix(name, key),
            _ => name.clone(),
        }
    }

    /// The name that is the container's alone on this host, for systemd-machined and the journal.
    pub fn name_on_host(&self, name: &ContainerName) -> ContainerName {
        if self.root == Path::new("/") {
            return self.name_on_bridge(name);
        }
        with_suffix(name, &short_digest(&self.containers))
    }

    /// Notes that this directory has containers, for [`Layout::known`]; nothing to note for the default.
    pub fn note(&self) -> Result<()> {
        let Some(key) = &self.key else { return Ok(()) };
        let link = self.root.join(DEFAULT_CONTAINERS).join(ELSEWHERE).join(key);
        let make = || match std::os::unix::fs::symlink(&self.containers, &link) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(link.parent().expect("it has a name"))?;
                std::os::unix::fs::symlink(&self.containers, &link)
            }
            made => made,
        };
        match make() {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            made => made.context(|| format!("make `{}`", link.display())),
        }
    }

    /// Every directory of containers of this root: the default one, that of `lxm.toml`, those in which
    /// lxm has made or started containers, and this one. Those that do not exist now are left out.
    pub fn known(&self) -> Vec<Layout> {
        let default = Layout::new(&self.root);
        let links = std::fs::read_dir(default.containers.join(ELSEWHERE)).into_iter().flatten().flatten();
        let noted = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let configured = self.host_settings().path;
        let mut known = vec![default.clone()];
        for dir in configured.into_iter().chain(noted).chain([self.containers.clone()]).filter(|dir| dir.is_dir()) {
            let layout = default.clone().with_containers(dir);
            if !known.iter().any(|other| other.key == layout.key) {
                known.push(layout);
            }
        }
        known
    }

    /// The directory of this host's state for containers of this directory: `dir` itself, or one of
    /// a name that no container can have.
    pub(super) fn apart(&self, dir: PathBuf) -> PathBuf {
        match &self.key {
            None => dir,
            Some(key) => dir.join(format!("{APART}{key}")),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of all containers.
    pub fn containers(&self) -> &Path {
        &self.containers
    }
}

/// The directory of containers below the root.
const DEFAULT_CONTAINERS: &str = "var/lib/lxm";

/// Has a link to each other directory of containers, by its key.
const ELSEWHERE: &str = ".elsewhere";

/// What the state of another directory's containers is kept in begins with.
pub(super) const APART: &str = ".path-";

/// The directory by its own name; of one that does not exist yet, as much of it as does.
fn canonical(dir: &Path) -> PathBuf {
    match (dir.canonicalize(), dir.parent(), dir.file_name()) {
        (Ok(dir), ..) => dir,
        (Err(_), Some(parent), Some(name)) => canonical(parent).join(name),
        _ => dir.to_owned(),
    }
}

fn is_same_directory(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |dir: &Path| dir.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    a == b || id(a).is_some_and(|id_of_a| id(b) == Some(id_of_a))
}

/// Eight hexadecimal digits that stand for a path.
pub(super) fn short_digest(path: &Path) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    hex::encode(&digest[..4])
}

/// `NAME-KEY`, of which the name is cut so that it is a container's name still.
fn with_suffix(name: &ContainerName, key: &str) -> ContainerName {
    let most = 63 - 1 - key.len();
    let kept = &name.as_str()[..name.as_str().len().min(most)];
    format!("{kept}-{key}").parse().expect("it is made of a name and hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ContainerName {
        text.parse().unwrap()
    }

    #[test]
    fn a_directory_has_its_own_state_by_whatever_way_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (root, other) = (dir.path(), dir.path().join("srv/other"));
        std::fs::create_dir_all(&other).unwrap();
        std::fs::create_dir_all(root.join("var/lib/lxm")).unwrap();
        std::os::unix::fs::symlink("other", root.join("srv/link")).unwrap();
        std::os::unix::fs::symlink("../var/lib/lxm", root.join("srv/default")).unwrap();
        let layout = Layout::new(root);
        let at = |dir: &str| layout.clone().with_containers(root.join(dir));
        assert_eq!(layout.run_dir(&name("web")), root.join("run/lxm/web"));
        assert_eq!(at("srv/default").run_dir(&name("web")), layout.run_dir(&name("web")));
        assert_eq!(at("srv/default").containers(), layout.containers());
        let expected = at("srv/other");
        for place in [Layout::run_dir, Layout::log_dir, Layout::control_socket] {
            assert_ne!(place(&expected, &name("web")), place(&layout, &name("web")));
            for same in ["srv/link", "srv/../srv/./other"] {
                assert_eq!(place(&at(same), &name("web")), place(&expected, &name("web")), "{same}");
            }
        }
        assert_ne!(expected.operation_locks(), layout.operation_locks());
        assert_eq!(at("srv/none/yet").containers(), dir.path().canonicalize().unwrap().join("srv/none/yet"));
    }

    #[test]
    fn names_for_others_are_plain_in_the_usual_directory_alone() {
        let layout = Layout::new("/");
        assert_eq!(layout.name_on_host(&name("web")), name("web"));
        let other = layout.with_containers("/nonexistent/other");
        assert_ne!(other.name_on_host(&name("web")), name("web"));
        assert_eq!(other.name_on_bridge(&name("web")), other.name_on_host(&name("web")));
        assert_eq!(other.name_on_bridge(&name(&"x".repeat(63))).as_str().len(), 63);
        let root = Layout::new("/nonexistent");
        assert_eq!(other.command("stop web"), "lxm --path /nonexistent/other stop web");
        assert_eq!(Layout::new("/").with_containers("/srv/a b").command("stop web"), "lxm --path '/srv/a b' stop web");
        assert_eq!(root.command("stop web"), "lxm stop web");
        assert_eq!(root.name_on_bridge(&name("web")), name("web"));
        assert_ne!(root.name_on_host(&name("web")), name("web"));
    }

    #[test]
    fn what_is_no_container_is_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new("/").with_containers(dir.path());
        std::fs::write(dir.path().join("hosts"), "").unwrap();
        for place in ["photos", "containerd", "web", "damaged/rootfs"] {
            std::fs::create_dir_all(dir.path().join(place)).unwrap();
        }
        for file in ["containerd/config.toml", "damaged/config.toml", "web/origin.toml"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        assert_eq!(layout.names().unwrap(), [name("damaged"), name("web")]);
        // A link to a container would be a second way to the same files.
        std::os::unix::fs::symlink("web", dir.path().join("link")).unwrap();
        assert_eq!(layout.names().unwrap(), [name("damaged"), name("web")]);
        for none in ["link", "hosts", "photos", "containerd", "absent"] {
            assert_eq!(layout.require(&name(none)).unwrap_err().kind().exit_status(), 3, "{none}");
        }
    }
}
