//! Which containers there are, and their configurations.

use std::io::ErrorKind;
use std::path::Path;

use super::layout::Layout;
use crate::config::{self, Config, HostConfig};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::fs::read_text;
use crate::types::{ContainerName, closest};

impl Layout {
    /// Reads `lxm.toml`; a missing file is the default one.
    pub fn host_config(&self) -> Result<HostConfig> {
        let file = self.etc().join("lxm.toml");
        match read_text(&file) {
            Ok(text) => config::parse(&text, &file),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(HostConfig::default()),
            Err(e) => Err(e).context(|| format!("read `{}`", file.display())),
        }
    }

    /// What can be read of `lxm.toml`, for what works without it: the rest is as if it were not there.
    pub(crate) fn host_settings(&self) -> HostConfig {
        self.host_config().unwrap_or_else(|_| {
            let text = read_text(&self.etc().join("lxm.toml")).unwrap_or_default();
            HostConfig::salvage(&text)
        })
    }

    /// Whether `lxm.toml` has a line that says where the containers are, or was to say it: right, wrong or
    /// misspelt.
    pub(crate) fn names_directory(&self) -> bool {
        let text = read_text(&self.etc().join("lxm.toml")).unwrap_or_default();
        let mut keys = text.lines().filter_map(|line| Some(line.split_once('=')?.0.trim()));
        keys.any(|key| closest(key, ["path"]).is_some())
    }

    /// Reads a container's configuration; fails with `Kind::NotFound` where there is no container.
    pub fn config(&self, name: &ContainerName) -> Result<Config> {
        let file = self.config_file(name);
        let text =
            self.require(name).and_then(|()| read_text(&file).context(|| format!("read `{}`", file.display())))?;
        config::parse(&text, &file)
    }

    /// Why nothing can be done in its guest.
    pub fn not_running(&self, name: &ContainerName) -> Error {
        Error::conflict(format!("container `{name}` is not running"))
            .hint(format!("`{}` starts it", self.command(format_args!("start {name}"))))
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
                let names: Vec<String> = self.names().unwrap_or_default().iter().map(ToString::to_string).collect();
                let near = closest(&name.to_string(), names.iter().map(String::as_str));
                let meant = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
                Err(Error::not_found(format!("container `{name}` does not exist"))
                    .hint(format!("{meant}`{}` shows those that do", self.command("list"))))
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

    /// What is named like a container, sorted. One may be renamed at this moment: the caller looks again to
    /// tell that from what is no container.
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

/// Whether a directory is a container's: `origin.toml` says so, which lxm writes before anything
/// else and never removes. One that has lost it is known by what else only a container has.
pub(crate) fn is_container(place: &Path) -> bool {
    // A link leads out of this directory, or to another container.
    if place.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
        return false;
    }
    // What cannot be examined (EACCES) may exist.
    let is_absent = |e: &std::io::Error| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    let has = |file: &str| !place.join(file).symlink_metadata().is_err_and(|e| is_absent(&e));
    has("origin.toml") || has("config.toml") && (has("rootfs") || has("overlay.toml"))
}
