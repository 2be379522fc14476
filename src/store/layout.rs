use std::ffi::OsString;
use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::config::{self, Config, HostConfig};
use crate::error::{Context, Error, Kind, Result};
use crate::terminal::quoted;
use crate::types::{Arch, ContainerName};

/// Where everything is. `LXM_ROOT` prefixes every path; `--path` moves the containers alone.
///
/// What runs and what is locked is known by directory *and* name: `web` in one directory is another
/// container than `web` in a second one.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    containers: PathBuf,
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

    /// Whether these are the containers that are meant where nobody names a directory: those of
    /// `path` in `lxm.toml`, else of the default directory.
    pub fn is_home(&self) -> bool {
        // A file that cannot be read is reported by whom it keeps from working.
        match self.host_config().unwrap_or_default().path {
            Some(path) => Layout::new(&self.root).with_containers(path).key == self.key,
            None => self.key.is_none(),
        }
    }

    /// A command on a container of this directory as it is proposed to be typed: `words` after `lxm`,
    /// with the directory where another one is meant without it.
    pub fn command(&self, words: impl Display) -> String {
        if self.is_home() {
            return format!("lxm {words}");
        }
        format!("lxm --path {} {words}", quoted(&self.containers.to_string_lossy()))
    }

    /// The command that makes a copy another container, as it is proposed to be typed.
    pub fn adopt_command(&self, name: &ContainerName) -> String {
        self.command(format_args!("adopt {name} --new-identity"))
    }

    /// The command that unsets a setting, as it is proposed to be typed.
    pub fn unset_command(&self, name: &ContainerName, key: impl Display) -> String {
        self.command(format_args!("config unset {name} {key}"))
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
        let configured = self.host_config().unwrap_or_default().path;
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
    fn apart(&self, dir: PathBuf) -> PathBuf {
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

    pub fn container(&self, name: &ContainerName) -> PathBuf {
        self.containers.join(name)
    }

    pub fn config_file(&self, name: &ContainerName) -> PathBuf {
        self.container(name).join("config.toml")
    }

    pub fn origin_file(&self, name: &ContainerName) -> PathBuf {
        self.container(name).join("origin.toml")
    }

    pub fn rootfs(&self, name: &ContainerName) -> PathBuf {
        self.container(name).join("rootfs")
    }

    /// Snapshots of a container, those in the making (`.NAME`) too.
    pub fn snapshots(&self, name: &ContainerName) -> PathBuf {
        self.container(name).join("snapshots")
    }

    /// Containers in the making, on the file system where they will be.
    pub fn staging(&self) -> PathBuf {
        self.containers.join(".staging")
    }

    /// Containers on their way out.
    pub fn trash(&self) -> PathBuf {
        self.containers.join(".trash")
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("var/cache/lxm/images")
    }

    /// Images in the making and on their way out.
    pub fn image_staging(&self) -> PathBuf {
        self.images().join(".staging")
    }

    /// Downloads that were cut short, by digest.
    pub fn downloads(&self) -> PathBuf {
        self.root.join("var/cache/lxm/downloads")
    }

    pub fn log_dir(&self, name: &ContainerName) -> PathBuf {
        self.apart(self.root.join("var/log/lxm")).join(name)
    }

    pub fn console_log(&self, name: &ContainerName) -> PathBuf {
        self.log_dir(name).join("console.log")
    }

    /// What the builder of a template's image said; one file a kind of system.
    pub fn build_log(&self, template: &str, release: &str, arch: Arch) -> PathBuf {
        let kind: Vec<String> =
            [template, release, &arch.to_string()].iter().filter(|s| !s.is_empty()).map(|s| s.to_string()).collect();
        self.root.join("var/log/lxm/.images").join(format!("{}.log", kind.join("-")))
    }

    pub fn run(&self) -> PathBuf {
        self.root.join("run/lxm")
    }

    /// The directories of what runs, one for each directory of containers.
    pub fn runs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.run()).into_iter().flatten().flatten();
        let is_apart = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(APART);
        std::iter::once(self.run()).chain(entries.filter(is_apart).map(|entry| entry.path())).collect()
    }

    /// Where the running containers of this directory have theirs.
    pub fn own_run(&self) -> PathBuf {
        self.apart(self.run())
    }

    /// Locks of what all containers share, and operation locks; a name that no container can have.
    pub fn lock_dir(&self) -> PathBuf {
        self.run().join(".lock")
    }

    /// The operation locks of the containers of this directory.
    pub fn operation_locks(&self) -> PathBuf {
        self.apart(self.lock_dir())
    }

    /// The running container's own directory: alive lock, control socket, boot and failure records.
    pub fn run_dir(&self, name: &ContainerName) -> PathBuf {
        self.own_run().join(name)
    }

    pub fn control_socket(&self, name: &ContainerName) -> PathBuf {
        self.run_dir(name).join("control.sock")
    }

    pub fn boot_record(&self, name: &ContainerName) -> PathBuf {
        self.run_dir(name).join("boot.toml")
    }

    /// There while a container runs whose changes are undone when it stops.
    pub fn ephemeral_mark(&self, name: &ContainerName) -> PathBuf {
        self.run_dir(name).join("ephemeral")
    }

    /// Why the last start failed, for whoever asks after the supervisor has gone.
    pub fn failure_record(&self, name: &ContainerName) -> PathBuf {
        self.run_dir(name).join("failure.toml")
    }

    /// The container's cgroup below each hierarchy's mount point.
    ///
    /// `lxm/NAME`; a state directory of its own (`LXM_ROOT`, `--path`) has groups of its own,
    /// because two containers of one name may run.
    pub fn cgroup(&self, name: &ContainerName) -> String {
        format!("{}/{name}", self.cgroup_base())
    }

    /// The group above all containers' groups.
    pub fn cgroup_base(&self) -> String {
        if self.containers == Path::new("/var/lib/lxm") {
            return "lxm".into();
        }
        format!("lxm-{}", short_digest(&self.containers))
    }

    /// The host keys of a running guest, as ssh reads them.
    pub fn ssh_known_hosts(&self, name: &ContainerName) -> PathBuf {
        self.run_dir(name).join("ssh_known_hosts")
    }

    pub fn etc(&self) -> PathBuf {
        self.root.join("etc/lxm")
    }

    /// State of the bridges that lxm made, `network.toml`.
    pub fn network_file(&self) -> PathBuf {
        self.etc().join("network.toml")
    }

    /// One directory a bridge for what its lease and name server knows while it runs.
    pub fn network_run(&self) -> PathBuf {
        self.run().join(".network")
    }

    /// One directory a bridge for its leases, which outlive the host's reboot.
    pub fn network_state(&self) -> PathBuf {
        self.root.join("var/lib/lxm/.network")
    }

    /// Where templates are looked for, the admin's first.
    ///
    /// `LXM_TEMPLATES` comes before all, for running from a build tree.
    pub fn template_dirs(&self) -> Vec<PathBuf> {
        let from_env = std::env::var_os("LXM_TEMPLATES").map(PathBuf::from);
        let shipped = ["usr/local/share/lxm/templates", "usr/share/lxm/templates"];
        let mut dirs: Vec<PathBuf> = from_env.into_iter().collect();
        dirs.push(self.etc().join("templates"));
        dirs.extend(shipped.iter().map(|dir| self.root.join(dir)));
        // Shipped templates belong to the program, not to the state that LXM_ROOT moves.
        dirs.extend(shipped.iter().map(|dir| Path::new("/").join(dir)));
        dirs.extend(beside_the_program());
        dirs.dedup();
        dirs
    }

    /// Reads `lxm.toml`; a missing file is the default one.
    pub fn host_config(&self) -> Result<HostConfig> {
        let file = self.etc().join("lxm.toml");
        match std::fs::read_to_string(&file) {
            Ok(text) => config::parse(&text, &file),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(HostConfig::default()),
            Err(e) => Err(e).context(|| format!("read `{}`", file.display())),
        }
    }

    /// Reads a container's configuration; fails with `Kind::NotFound` where there is no container.
    pub fn config(&self, name: &ContainerName) -> Result<Config> {
        let file = self.config_file(name);
        let text = self
            .require(name)
            .and_then(|()| std::fs::read_to_string(&file).context(|| format!("read `{}`", file.display())))?;
        config::parse(&text, &file)
    }

    /// Fails with `Kind::NotFound` unless the container exists. What is no container is none: nothing
    /// is shown of it, changed in it or removed.
    pub fn require(&self, name: &ContainerName) -> Result<()> {
        let place = self.container(name);
        match place.symlink_metadata() {
            Ok(_) if is_container(&place) => Ok(()),
            Ok(meta) if meta.is_symlink() => {
                Err(Error::not_found(format!("`{}` is not a container: it is a symbolic link", place.display()))
                    .hint("`lxm --path DIR` works with the containers of another directory"))
            }
            Ok(_) => Err(Error::not_found(format!("`{}` is not a container: it has no origin.toml", place.display()))
                .hint(format!("`{}` shows the containers; lxm leaves everything else alone", self.command("list")))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::not_found(format!("container `{name}` does not exist"))
                    .hint(format!("`{}` shows those that do", self.command("list"))))
            }
            Err(e) => Err(Error::from(e).step(format!("look for container `{name}`"))),
        }
    }

    /// The names of all containers, sorted.
    pub fn names(&self) -> Result<Vec<ContainerName>> {
        let mut names = self.named()?;
        names.retain(|name| is_container(&self.container(name)));
        Ok(names)
    }

    /// Whatever is named like a container, sorted: one that is renamed at this moment is told from one
    /// that is none by who looks again.
    pub(super) fn named(&self) -> Result<Vec<ContainerName>> {
        let entries = match std::fs::read_dir(&self.containers) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => {
                return Err(Error::from(e)
                    .step(format!("read `{}`", self.containers.display()))
                    .with_kind(Kind::Failed));
            }
        };
        // What is not named like a container is not one: `.staging`, `.trash`; nor is what an admin or
        // another program keeps there.
        let name_of = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<ContainerName>().ok();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.ok().and_then(name_of)).collect();
        names.sort();
        Ok(names)
    }
}

/// The directory of containers below the root.
const DEFAULT_CONTAINERS: &str = "var/lib/lxm";

/// Has a link to each other directory of containers, by its key.
const ELSEWHERE: &str = ".elsewhere";

/// What the state of another directory's containers is kept in begins with.
const APART: &str = ".path-";

/// Whether a directory is a container's: `origin.toml` says so, which lxm writes before anything
/// else and never removes. One that has lost it is known by what else only a container has.
pub fn is_container(place: &Path) -> bool {
    // A link leads to what is somebody else's, or another container's.
    if place.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
        return false;
    }
    // What cannot be looked at (EACCES) may be there.
    let is_absent = |e: &std::io::Error| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    let has = |file: &str| !place.join(file).symlink_metadata().is_err_and(|e| is_absent(&e));
    has("origin.toml") || has("config.toml") && (has("rootfs") || has("overlay.toml"))
}

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
fn short_digest(path: &Path) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// `NAME-KEY`, of which the name is cut so that it is a container's name still.
fn with_suffix(name: &ContainerName, key: &str) -> ContainerName {
    let most = 63 - 1 - key.len();
    let kept = &name.as_str()[..name.as_str().len().min(most)];
    format!("{kept}-{key}").parse().expect("it is made of a name and hexadecimal digits")
}

/// `templates/` of the source tree that the running program was built in, if it was.
fn beside_the_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let target = program.ancestors().find(|dir| dir.file_name().is_some_and(|name| name == "target"))?;
    Some(target.parent()?.join("templates")).filter(|dir| dir.is_dir())
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
    fn names_for_others_are_plain_in_the_usual_directory_alone_and_always_names() {
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
