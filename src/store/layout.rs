use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::config::{self, Config, HostConfig};
use crate::error::{Context, Error, Kind, Result};
use crate::types::{Arch, ContainerName};

/// Where everything is. `LXM_ROOT` prefixes every path; `--path` moves the containers alone.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    containers: PathBuf,
}

impl Layout {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Layout { containers: root.join("var/lib/lxm"), root }
    }

    /// The layout that the environment asks for; `LXM_ROOT` must be absolute.
    pub fn from_env() -> Result<Self> {
        let root = PathBuf::from(std::env::var_os("LXM_ROOT").unwrap_or_else(|| OsString::from("/")));
        if !root.is_absolute() {
            return Err(Error::usage(format!("LXM_ROOT is `{}`: it must be an absolute path", root.display())));
        }
        Ok(Layout::new(root))
    }

    pub fn with_containers(mut self, dir: impl Into<PathBuf>) -> Self {
        self.containers = dir.into();
        self
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
        self.root.join("var/log/lxm").join(name)
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

    /// The operation locks, at a name that no container can have.
    pub fn lock_dir(&self) -> PathBuf {
        self.run().join(".lock")
    }

    /// The running container's own directory: alive lock, control socket, boot and failure records.
    pub fn run_dir(&self, name: &ContainerName) -> PathBuf {
        self.run().join(name)
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
        use sha2::{Digest, Sha256};
        if self.containers == Path::new("/var/lib/lxm") {
            return "lxm".into();
        }
        let digest = Sha256::digest(self.containers.as_os_str().as_encoded_bytes());
        format!("lxm-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
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

    /// Fails with `Kind::NotFound` unless the container exists.
    pub fn require(&self, name: &ContainerName) -> Result<()> {
        match self.container(name).symlink_metadata() {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::not_found(format!("container `{name}` does not exist"))
                    .hint("`lxm list` shows those that do"))
            }
            Err(e) => Err(Error::from(e).step(format!("look for container `{name}`"))),
        }
    }

    /// The names of all containers, sorted.
    pub fn names(&self) -> Result<Vec<ContainerName>> {
        let entries = match std::fs::read_dir(&self.containers) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => {
                return Err(Error::from(e)
                    .step(format!("read `{}`", self.containers.display()))
                    .with_kind(Kind::Failed));
            }
        };
        // What is not named like a container is not one: `.staging`, `.trash`, an admin's own files.
        let name_of = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<ContainerName>().ok();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.ok().and_then(name_of)).collect();
        names.sort();
        Ok(names)
    }
}

/// `templates/` of the source tree that the running program was built in, if it was.
fn beside_the_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let target = program.ancestors().find(|dir| dir.file_name().is_some_and(|name| name == "target"))?;
    Some(target.parent()?.join("templates")).filter(|dir| dir.is_dir())
}
