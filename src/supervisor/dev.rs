//! The guest's /dev, made outside: in a user namespace mknod(2) is refused, and a tmpfs mounted in
//! one honours no device nodes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat, symlinkat};
use rustix::mount::MountAttrFlags;

use crate::cgroup::{DeviceKind, DeviceRule};
use crate::config::Device;
use crate::error::{Context, Error, Kind, Result};
use crate::inside::DEV_DIRECTORIES;
use crate::sys;
use crate::types::device::{GUEST_DEVICES, GuestDevice, Node};

/// Permissions of the nodes that every guest has.
const FOR_ALL: u32 = 0o666;

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// A guest's /dev.
pub(super) struct Dev {
    /// Its tree as a detached mount.
    pub mount: OwnedFd,
    /// Nodes of the host to be bound over the empty files of the same path: this host is itself a
    /// container and may not make nodes.
    pub shown: Vec<PathBuf>,
}

/// Makes /dev, owned by the host id `owner` (the guest's root).
pub(super) fn make(owner: u32, devices: &[Device]) -> Result<Dev> {
    let options = ["mode=0755", "size=4m", "nr_inodes=64k"];
    let dev = sys::mount::new_filesystem(
        "tmpfs",
        &options,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )?;
    let dir = open_root(&dev)?;
    let mut tree = Tree { dir: dir.as_fd(), owner, shown: Vec::new() };
    let fill = |tree: &mut Tree<'_>| -> Result<()> {
        tree.give(".")?;
        for name in DEV_DIRECTORIES {
            tree.directory(name)?;
        }
        for (name, target) in LINKS {
            symlinkat(target, tree.dir, name)?;
            tree.give(name)?;
        }
        for (GuestDevice { name, major, node, .. }, minor) in nodes() {
            let host = Path::new("/dev").join(name);
            if node == Node::Always || host.exists() {
                tree.node(name, FileType::CharacterDevice, FOR_ALL, (major, minor), &host)?;
            }
        }
        // Something for the console's terminal to be bound over.
        openat(tree.dir, "console", OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))?;
        tree.give("console")
    };
    fill(&mut tree).context(|| "make the guest's /dev")?;
    for device in devices {
        add_device(&mut tree, device)?;
    }
    let shown = tree.shown;
    Ok(Dev { mount: dev, shown })
}

/// The devices that have a node in every guest's /dev, with their minor numbers.
fn nodes() -> impl Iterator<Item = (GuestDevice, u32)> {
    let made = GUEST_DEVICES.into_iter().filter(|device| device.node != Node::Devpts);
    made.filter_map(|device| Some((device, device.minor?)))
}

/// A detached mount's root as a directory that can be written to.
fn open_root(mount: &OwnedFd) -> Result<OwnedFd> {
    openat(mount, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(|| "open the guest's /dev")
}

struct Tree<'a> {
    dir: BorrowedFd<'a>,
    owner: u32,
    shown: Vec<PathBuf>,
}

impl Tree<'_> {
    fn give(&self, name: &str) -> Result<()> {
        let (uid, gid) = (rustix::fs::Uid::from_raw(self.owner), rustix::fs::Gid::from_raw(self.owner));
        rustix::fs::chownat(self.dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .context(|| format!("give `{name}` to the guest"))
    }

    fn directory(&self, name: &str) -> Result<()> {
        match mkdirat(self.dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.give(name),
            Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(e) => Err(e).context(|| format!("make `{name}`")),
        }
    }

    /// Makes a device node; where this host may not, its own one is to be shown.
    fn node(&mut self, name: &str, kind: FileType, mode: u32, (major, minor): (u32, u32), host: &Path) -> Result<()> {
        let mut parents: Vec<&Path> =
            Path::new(name).ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
        parents.reverse();
        for parent in parents {
            self.directory(&parent.to_string_lossy())?;
        }
        match mknodat(self.dir, name, kind, Mode::from_raw_mode(mode), makedev(major, minor)) {
            Ok(()) => {}
            Err(rustix::io::Errno::PERM) => return self.show_host_node(name, host),
            Err(e) => return Err(e).context(|| format!("make `{name}`")),
        }
        // The umask was applied to the mode.
        rustix::fs::chmodat(self.dir, name, Mode::from_raw_mode(mode), AtFlags::empty())
            .context(|| format!("set the mode of `{name}`"))?;
        self.give(name)
    }

    /// Makes room for a device that every guest has, or that is given twice.
    fn remove(&mut self, name: &str, host: &Path) -> Result<()> {
        self.shown.retain(|shown| shown != host);
        match rustix::fs::unlinkat(self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(e).context(|| format!("make `{name}` anew")),
        }
    }

    fn show_host_node(&mut self, name: &str, host: &Path) -> Result<()> {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(self.dir, name, flags, Mode::from_raw_mode(0o600)).context(|| format!("make `{name}`"))?;
        self.shown.push(host.to_owned());
        self.give(name)
    }
}

fn add_device(tree: &mut Tree<'_>, device: &Device) -> Result<()> {
    let (kind, numbers, host_mode) = examine(device)?;
    let name = device
        .path
        .strip_prefix("/dev")
        .map_err(|_| Error::new(Kind::Config, format!("device `{}` is not below /dev", device.path.display())))?;
    let every_guest_s = || nodes().any(|(device, _)| name == Path::new(device.name));
    let mode = match &device.mode {
        None if every_guest_s() => FOR_ALL,
        None => host_mode,
        Some(text) => u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| {
            Error::new(Kind::Config, format!("device `{}`: `{text}` is not an octal mode", device.path.display()))
        })?,
    };
    tree.remove(&name.to_string_lossy(), &device.path)?;
    tree.node(&name.to_string_lossy(), kind, mode, numbers, &device.path)
}

/// A host device's kind, numbers and permissions.
fn examine(device: &Device) -> Result<(FileType, (u32, u32), u32)> {
    let stat = rustix::fs::statat(CWD, &device.path, AtFlags::empty())
        .context(|| format!("look at device `{}`", device.path.display()))
        .map_err(|e| e.with_kind(Kind::Config))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        return Err(Error::new(Kind::Config, format!("`{}` is not a device", device.path.display())));
    }
    Ok((kind, (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)), stat.st_mode & 0o777))
}

/// What the guest may use: the default list and the devices given to it.
pub(super) fn rules(devices: &[Device]) -> Result<Vec<DeviceRule>> {
    let every_guest_s =
        |device: GuestDevice| DeviceRule { kind: DeviceKind::Char, major: device.major, minor: device.minor };
    let mut rules: Vec<_> = GUEST_DEVICES.map(every_guest_s).into();
    for device in devices {
        let (kind, (major, minor), _) = examine(device)?;
        let kind = if kind == FileType::BlockDevice { DeviceKind::Block } else { DeviceKind::Char };
        rules.push(DeviceRule { kind, major, minor: Some(minor) });
    }
    Ok(rules)
}
