//! The guest's mount tree: its root, the kernel's file systems, and what is hidden of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{FileType, Mode, OFlags, mkdirat, openat};
use rustix::mount::MountAttrFlags;

use super::places::{self, attach_in_root};
use super::plan::{BootPlan, NetworkView};
use crate::error::{Context, Error, Result};
use crate::sys::fs::{open_dir, open_in_root_no_links};
use crate::sys::mount::{self as sys_mount, MountAttributes, attach, copy_tree, new_filesystem};

const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// Directories that the /dev made by the supervisor must have: others are mounted on them.
pub(crate) const DEV_DIRECTORIES: [&str; 3] = ["pts", "shm", "mqueue"];

/// Hidden behind /dev/null: they speak of the host, or act on it.
const INACCESSIBLE: [&str; 5] =
    ["/proc/kallsyms", "/proc/kcore", "/proc/keys", "/proc/sysrq-trigger", "/proc/timer_list"];

/// Shown but not to be written, as systemd-nspawn does.
const READ_ONLY: [&str; 7] =
    ["/proc/acpi", "/proc/apm", "/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/scsi"];

/// The kernel's file systems, made while the host's mount tree is still visible: the kernel lets
/// a user namespace mount proc and sysfs only where it can already see a whole one
/// (mount_too_revealing in fs/namespace.c).
pub(super) struct KernelFilesystems {
    proc: OwnedFd,
    sys: OwnedFd,
    cgroup: OwnedFd,
    /// securityfs, whose files of AppArmor show the policy of who reads them; no guest can mount one.
    security: Option<OwnedFd>,
    /// Whole ones that nothing reaches, for the same rule: a guest's own sandboxes (`ProtectProc=`,
    /// chroots, container managers) mount proc and sysfs anew, and what covers /proc is locked.
    whole: Option<(OwnedFd, OwnedFd)>,
}

impl KernelFilesystems {
    pub(super) fn make(plan: &BootPlan) -> Result<Self> {
        let proc = || new_filesystem("proc", &[], NOSUID | NODEV | NOEXEC);
        let sys = |read_only| match plan.network {
            NetworkView::Own => new_filesystem("sysfs", &[], NOSUID | NODEV | NOEXEC | read_only),
            // sysfs shows a network namespace, and mounting it asks for power over that one.
            NetworkView::Host => {
                let tree = copy_tree("/sys", true)?;
                let change =
                    MountAttributes { set: libc::MOUNT_ATTR_RDONLY, recursive: true, ..MountAttributes::default() };
                sys_mount::set_attributes(&tree, &change).context(|| "make /sys read-only")?;
                Ok(tree)
            }
        };
        let whole = if plan.mapped || plan.nesting { Some((proc()?, sys(MountAttrFlags::empty())?)) } else { None };
        Ok(KernelFilesystems {
            proc: proc()?,
            sys: sys(RDONLY)?,
            cgroup: new_filesystem("cgroup2", &[], NOSUID | NODEV | NOEXEC)?,
            security: if plan.own_policy { Some(copy_tree("/sys/kernel/security", false)?) } else { None },
            whole,
        })
    }
}

/// Makes `root` this process's root; nothing of the host's tree stays reachable.
pub(super) fn change_root(root: BorrowedFd<'_>) -> Result<()> {
    let call = |step: &'static str| move || format!("change the root: {step}");
    // Nothing done below may travel to the host's mount namespace.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context(call("make mounts private"))?;
    let old_root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(call("open /"))?;
    attach(root, "/").context(call("attach the root file system"))?;
    nix::unistd::fchdir(root).context(call("enter it"))?;
    // pivot_root(2) takes the same directory twice: the old root ends up on top of the new one,
    // from where it is taken off again, and no directory for it is needed in the guest.
    nix::unistd::pivot_root(".", ".").context(call("pivot_root"))?;
    nix::unistd::fchdir(&old_root).context(call("enter the old root"))?;
    umount2(".", MntFlags::MNT_DETACH).context(call("take the old root off"))?;
    nix::unistd::chdir("/").context(call("enter the new root"))
}

/// Mounts everything on the new root. `dev` is the tree the supervisor made.
pub(super) fn mount_all(kernel: KernelFilesystems, dev: BorrowedFd<'_>) -> Result<()> {
    for (mount, target) in [(kernel.proc.as_fd(), "/proc"), (kernel.sys.as_fd(), "/sys"), (dev, "/dev")] {
        attach_in_root(mount, target)?;
    }
    attach(&kernel.cgroup, "/sys/fs/cgroup")?;
    if let Some(security) = &kernel.security {
        attach(security, "/sys/kernel/security")?;
    }
    // Group 5 is `tty` on every distribution. Of terminals there are 4096 for all guests and the host
    // (kernel.pty.max): a guest that does not close them takes no more than a part.
    let pts = new_filesystem("devpts", &["mode=620", "gid=5", "ptmxmode=0666", "max=1024"], NOSUID | NOEXEC)?;
    attach(pts, "/dev/pts")?;
    attach(new_filesystem("tmpfs", &["mode=1777", "size=10%", "nr_inodes=400k"], NOSUID | NODEV)?, "/dev/shm")?;
    attach(new_filesystem("mqueue", &[], NOSUID | NODEV | NOEXEC)?, "/dev/mqueue")?;
    attach_in_root(new_filesystem("tmpfs", &["mode=0755", "size=20%", "nr_inodes=800k"], NOSUID | NODEV)?, "/run")?;
    if let Some((proc, sys)) = &kernel.whole {
        keep_whole(proc, sys)?;
    }
    protect_proc()
}

/// Keeps whole proc and sysfs mounts in the namespace, below an empty directory that covers them.
fn keep_whole(proc: &OwnedFd, sys: &OwnedFd) -> Result<()> {
    for (mount, target) in [(Some(proc), "/dev/.lxm/proc"), (Some(sys), "/dev/.lxm/sys"), (None, "/dev/.lxm/empty")] {
        std::fs::create_dir_all(target).context(|| format!("make `{target}`"))?;
        mount.map_or(Ok(()), |mount| attach(mount, target))?;
    }
    attach(read_only("/dev/.lxm/empty")?, "/dev/.lxm")
}

/// A detached copy of one mount, read-only.
fn read_only(path: &str) -> Result<OwnedFd> {
    let tree = copy_tree(path, false)?;
    let change = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() };
    sys_mount::set_attributes(&tree, &change).context(|| format!("make `{path}` read-only"))?;
    Ok(tree)
}

fn protect_proc() -> Result<()> {
    // Network settings belong to the guest's own network namespace; copied before they are covered.
    let net = copy_tree("/proc/sys/net", false)?;
    attach(read_only("/proc/sys")?, "/proc/sys")?;
    attach(net, "/proc/sys/net")?;
    for path in READ_ONLY.iter().filter(|path| Path::new(path).exists()) {
        attach(read_only(path)?, path)?;
    }
    for path in INACCESSIBLE.iter().filter(|path| Path::new(path).exists()) {
        attach(copy_tree("/dev/null", false)?, path)?;
    }
    Ok(())
}

/// Attaches what `[[mount]]` and `[[device]]` ask for, making the place where it is missing.
pub(super) fn bind(mount: BorrowedFd<'_>, place: &Path, directory: bool) -> Result<()> {
    let target = place.display();
    let root = open_dir("/")?;
    let open = |path: &Path, flags| {
        open_in_root_no_links(&root, path, OFlags::PATH | flags, Mode::empty()).map_err(|e| match e.errno() {
            Some(libc::ELOOP) => e.hint(
                "the path has a symbolic link on another mount, which others may have made: use the real path as target",
            ),
            _ => e,
        })
    };
    let make = |path: &Path, directory: bool| -> Result<()> {
        match open(path, OFlags::empty()) {
            Err(e) if e.errno() == Some(libc::ENOENT) => {}
            other => return other.map(drop),
        }
        let parent = open(path.parent().unwrap_or(path), OFlags::DIRECTORY)?;
        let name = path.file_name().unwrap_or_default();
        if directory {
            return Ok(mkdirat(parent, name, Mode::from_raw_mode(0o755))?);
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        Ok(openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)?)
    };
    let step = || format!("make the mount point `{target}` in the guest");
    places::keep_visible(place).context(step)?;
    let mut parents: Vec<&Path> = place.ancestors().skip(1).collect();
    while let Some(parent) = parents.pop() {
        make(parent, true).context(step)?;
    }
    make(place, directory).context(step)?;
    let there = open(place, OFlags::empty()).context(|| format!("open `{target}` in the guest"))?;
    sys_mount::attach_at(mount, &there)
        .map_err(|e| of_another_kind(e, &there, directory))
        .context(|| format!("mount on `{target}` in the guest"))
}

/// The kernel's errors for a file on a directory and the other way round (mount(2), ENOTDIR; graft_tree() in
/// fs/namespace.c) say neither.
fn of_another_kind(e: Error, there: &OwnedFd, directory: bool) -> Error {
    let is_directory =
        rustix::fs::fstat(there).map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    match (is_directory, directory) {
        (Ok(true), false) => Error::config("it is a directory, and the source is none"),
        (Ok(false), true) => Error::config("it is no directory, and the source is one"),
        _ => e,
    }
}

/// Makes the whole tree shared, as the container interface asks: services in the guest that unshare
/// mounts still see what is mounted later.
pub(super) fn share() -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>)
        .context(|| "share the mounts")
}
