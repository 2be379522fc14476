//! What containers of other programs have in common on their way here.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::config::{Config, Device, NetworkType, PublishedPort};
use crate::container::random;
use crate::distro;
use crate::error::{Context, Error, Result};
use crate::ops::create;
use crate::store::{Layout, Origin};
use crate::sys::fs::open_beneath;
use crate::terminal::quoted;
use crate::types::{Arch, ContainerName, IdRange};

/// A configuration being made of another program's, and what was not taken over from it.
pub(super) struct Translated {
    pub config: Config,
    pub notes: Vec<String>,
    /// What it is without, and a command gives it.
    pub hints: Vec<Hint>,
    /// It said something of its network: what of that has no counterpart leaves it without, and not
    /// on a bridge that it was kept from.
    pub says_network: bool,
}

impl Translated {
    /// With an identity of its own, and no network yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Translated {
            config: Config { uuid: random::uuid()?, ..Config::default() },
            notes: Vec::new(),
            hints: Vec::new(),
            says_network: false,
        })
    }

    /// Gives it devices of this host that it does not have yet.
    pub(super) fn give_devices(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            if self.config.device.iter().all(|device| device.path != path) {
                self.config.device.push(Device { path, mode: None, name: None });
            }
        }
    }

    /// Leaves out interfaces at links that this host does not have, and wires one, `name`, as that of a fresh
    /// container if the other program's configuration says nothing of a network.
    pub(super) fn with_network(&mut self, layout: &Layout, name: &str) -> Result<()> {
        let default = layout.host_config()?.network.default;
        let notes = &mut self.notes;
        self.config.network.retain(|name, network| {
            let link = [&network.bridge, &network.parent].into_iter().flatten().next();
            let missing = link.filter(|link| **link != default && !link_exists(link));
            if let Some(link) = missing {
                notes.push(format!("not taken over: interface `{name}`, for this host has no link `{link}`"));
            }
            missing.is_none()
        });
        if !self.says_network {
            self.config.network.insert(name.into(), create::network(&default)?);
        }
        Ok(())
    }

    /// As a file's text.
    pub(super) fn text(&self) -> Result<String> {
        toml::to_string(&self.config).map_err(|e| Error::failed(e.to_string()))
    }
}

/// Something that others gave a container, and that lxm gives it when it is told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hint {
    Device(PathBuf),
    /// A port that it listens on.
    Publish(PublishedPort),
}

/// One command that gives the container all of what `hints` name: of two, the second would take away
/// what the first gave.
pub(super) fn hint(layout: &Layout, name: &ContainerName, hints: &[Hint]) -> Result<Option<String>> {
    let config = layout.config(name)?;
    let mut settings = Vec::new();
    let mut ports: Vec<String> =
        config.network.get("eth0").iter().flat_map(|eth0| &eth0.publish).map(ToString::to_string).collect();
    let had = ports.len();
    let mut next = config.device.len();
    for hint in hints {
        match hint {
            Hint::Device(path) if config.device.iter().all(|device| device.path != *path) => {
                settings.push(format!("device.{next}.path {}", quoted(&path.display().to_string())));
                next += 1;
            }
            Hint::Publish(port) if !ports.contains(&port.to_string()) => ports.push(port.to_string()),
            _ => {}
        }
    }
    let is_wired = config.network.get("eth0").is_some_and(|eth0| eth0.kind == NetworkType::Veth);
    if is_wired && ports.len() > had {
        settings.push(format!("network.eth0.publish {}", quoted(&ports.join(","))));
    }
    let command = || layout.command(format_args!("config set {name} {}", settings.join(" ")));
    Ok((!settings.is_empty()).then(|| format!("to give it what others gave it: `{}`", command())))
}

/// Fails where the files `root` have no init that a start could boot on this host.
pub(super) fn require_init(root: &Path, config: &Config) -> Result<()> {
    let root = open(root)?;
    let guest = distro::inspect(root.as_fd(), config.boot.init.as_deref())?;
    distro::compat::check(&guest)
}

/// Where a foreign container came from, as its origin says it. What is kept here is filled in later.
pub(super) fn origin(program: &str) -> Origin {
    Origin { template: program.to_owned(), ..super::make::unknown_origin("", IdRange::new(IdRange::FIRST_BASE)) }
}

/// The most that is read of another program's configuration.
const LONGEST: u64 = 1 << 20;

/// Reads a file of another program's settings: itself, and not what a link in its place leads to,
/// whose lines would then be shown as settings that were not taken over.
pub(super) fn settings(dir: impl AsFd, file: &Path) -> Result<String> {
    let step = || format!("read `{}`", file.display());
    // Non-blocking: a fifo in its place must not hang us.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(dir, file, flags, Mode::empty()).map_err(|e| match e {
        Errno::LOOP => Error::failed("it is a symbolic link, which may lead anywhere"),
        e => e.into(),
    });
    opened.and_then(text_of).context(step)
}

/// The text of an open file of settings.
pub(super) fn text_of(opened: OwnedFd) -> Result<String> {
    use std::io::Read;
    let opened = std::fs::File::from(opened);
    let meta = opened.metadata()?;
    if !meta.is_file() || meta.len() > LONGEST {
        return Err(Error::failed(format!("it is not a file of at most {LONGEST} bytes")));
    }
    let mut text = Vec::new();
    opened.take(LONGEST).read_to_end(&mut text)?;
    String::from_utf8(text).map_err(|_| Error::failed("it is not text"))
}

/// Opens a directory, not through a link in its last component.
pub(super) fn open(dir: &Path) -> Result<OwnedFd> {
    opened(rustix::fs::open(dir, DIRECTORY, Mode::empty()).map_err(Error::from), dir)
}

/// Opens a directory below `dir`, through no link that leads out of it.
pub(super) fn open_below(dir: impl AsFd, path: &Path) -> Result<OwnedFd> {
    opened(open_beneath(dir, path, DIRECTORY, Mode::empty()), path)
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn opened(opened: Result<OwnedFd>, path: &Path) -> Result<OwnedFd> {
    let not_one = |e: Error| match e.errno() {
        Some(libc::ELOOP | libc::ENOTDIR | libc::EXDEV) => {
            Error::failed("it is not a directory of its own, but a symbolic link perhaps")
        }
        _ => e,
    };
    opened.map_err(not_one).context(|| format!("open `{}`", path.display()))
}

/// A path that leads to the open directory whatever becomes of its name.
pub(super) fn path_of(dir: &OwnedFd) -> PathBuf {
    // With a component behind the magic link, which is then followed even by O_NOFOLLOW.
    PathBuf::from(format!("/proc/self/fd/{}/.", dir.as_raw_fd()))
}

/// Whether the host has this link.
pub(super) fn link_exists(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && Path::new("/sys/class/net").join(name).exists()
}

/// The host id that a tree's id 0 is stored as, by the owner of its root; 0 for one that is not shifted.
pub(super) fn base_of(rootfs: &Path) -> Result<u32> {
    use std::os::unix::fs::MetadataExt;
    let meta = rootfs.metadata().map_err(|e| Error::from(e).step(format!("look at `{}`", rootfs.display())))?;
    // Below are owners of the host's own, to which ids are never shifted.
    Ok(if meta.uid() >= IdRange::LEN { meta.uid() } else { 0 })
}

/// An architecture as LXC and personality(2) name it: as uname(2) does, or as Debian does.
pub(super) fn arch(name: &str) -> Option<Arch> {
    match name {
        "linux64" => Some(Arch::host()),
        "x86" | "i486" | "i586" | "i686" | "athlon" | "linux32" => Some(Arch::I386),
        "arm" | "armel" | "armv7l" | "armv7" | "armhf" => Some(Arch::Armhf),
        "ppc64le" => Some(Arch::Ppc64el),
        other => other.parse().ok(),
    }
}
