//! /run/host: what the container interface tells the guest of its manager.
//!
//! <https://systemd.io/CONTAINER_INTERFACE/>

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use super::BootPlan;
use crate::error::{Context, Result};
use crate::sys::mount::{self as sys_mount, MountAttributes};

const DIR: &str = "/run/host";

/// Fills /run/host, makes it read-only, and gives this boot its own random id.
///
/// Returns the notify socket where the plan asks for one.
pub(super) fn fill(plan: &BootPlan) -> Result<Option<OwnedFd>> {
    let write = || -> std::io::Result<()> {
        for dir in ["", "incoming", "inaccessible", "inaccessible/dir", "unix-export"] {
            fs::create_dir(Path::new(DIR).join(dir))?;
        }
        for (file, text) in [
            ("container-manager", "lxm\n"),
            ("container-uuid", &format!("{}\n", plan.uuid)),
            ("boot-id", &format!("{}\n", plan.boot_id)),
            ("os-release", &plan.host_os_release),
            ("inaccessible/reg", ""),
        ] {
            fs::write(Path::new(DIR).join(file), text)?;
        }
        for name in ["inaccessible/reg", "inaccessible/dir"] {
            fs::set_permissions(Path::new(DIR).join(name), fs::Permissions::from_mode(0o000))?;
        }
        for (name, kind) in [("fifo", rustix::fs::FileType::Fifo), ("sock", rustix::fs::FileType::Socket)] {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                Path::new(DIR).join("inaccessible").join(name),
                kind,
                Mode::empty(),
                0,
            )?;
        }
        Ok(())
    };
    write().context(|| format!("fill `{DIR}`"))?;
    write_credentials(plan)?;
    let notify = if plan.notify { Some(notify_socket()?) } else { None };
    sys_mount::attach(sys_mount::copy_tree("/run/host/boot-id", false)?, "/proc/sys/kernel/random/boot_id")?;
    let tree = sys_mount::copy_tree(DIR, true)?;
    let change = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() };
    sys_mount::set_attributes(&tree, &change).context(|| format!("make `{DIR}` read-only"))?;
    sys_mount::attach(tree, DIR)?;
    Ok(notify)
}

/// Credentials are on a file system of their own that is never swapped and only root reads.
fn write_credentials(plan: &BootPlan) -> Result<()> {
    if plan.credentials.is_empty() {
        return Ok(());
    }
    let dir = "/run/host/credentials";
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = sys_mount::new_filesystem("tmpfs", &["mode=0700", "noswap"], attributes)
        // `noswap` came with Linux 6.3.
        .or_else(|_| sys_mount::new_filesystem("tmpfs", &["mode=0700"], attributes))?;
    let write = || -> std::io::Result<()> {
        for (name, value) in &plan.credentials {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&mount, name.as_str(), flags, Mode::RUSR)?;
            std::io::Write::write_all(&mut fs::File::from(file), value.as_bytes())?;
        }
        fs::create_dir(dir)
    };
    write().context(|| "write the credentials")?;
    sys_mount::attach(&mount, dir)
}

/// The datagram socket that the guest's init tells its readiness to (sd_notify(3)).
fn notify_socket() -> Result<OwnedFd> {
    let path = "/run/host/notify";
    let make = || -> Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        // Who sent a message: only init is believed.
        setsockopt(&fd, sockopt::PassCred, &true)?;
        // The receiver has to close them, which may take as long as their sender likes; where the kernel
        // cannot refuse them the supervisor sees to that (notify.rs).
        crate::sys::socket::refuse_descriptors(&fd);
        bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(fd)
    };
    make().context(|| format!("listen on `{path}`"))
}
