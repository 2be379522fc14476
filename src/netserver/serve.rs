//! The server's process: everything is opened as root, then root is given up.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::unistd::Pid;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::guests;
use super::link::BridgeLink;
use super::privileges::ServerUser;
use super::resolver::Sockets;
use super::running::{lock_file, process_file, state_dir};
use super::server::{self, Server, ServerParts};
use super::watchdog::{Watchdog, WatchdogMessage};
use crate::config::bridge::BridgeSettings;
use crate::error::{Context, Error, Result};
use crate::store::{FileLock, Layout, replace_run_file};
use crate::sys;

/// Serves the bridge until a signal stops it or the bridge is gone.
///
/// `settings` are the bridge's; `ready` is called when it serves.
pub(crate) fn serve(
    layout: &Layout,
    bridge: &str,
    settings: BridgeSettings,
    watchdog: Watchdog,
    ready: impl FnOnce(&Watchdog) -> Result<()>,
) -> Result<()> {
    let guests_dir = guests::directory(layout, bridge);
    fs::create_dir_all(&guests_dir).context(|| format!("make `{}`", guests_dir.display()))?;
    let Some(lock) = FileLock::try_acquire(&lock_file(layout, bridge))? else {
        return Err(Error::conflict(format!("bridge `{bridge}` has a lease server already")));
    };
    let process = toml::to_string(&sys::process::generation(Pid::this())?).unwrap_or_default();
    replace_run_file(&process_file(layout, bridge), process.as_bytes(), 0o644)?;
    let identity = ServerUser::find()?;
    let parts = ServerParts {
        link: BridgeLink::open(bridge, &settings)?,
        names: Sockets::bind(&server::name_addresses(&settings)),
        watch: watch(&guests_dir)?,
        guests_dir: open_dir(&guests_dir)?,
        state_dir: make_state_dir(&state_dir(layout, bridge), identity)?,
        settings,
        watchdog,
    };
    identity.assume()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.context(|| "build the event loop")?;
    let tasks = tokio::task::LocalSet::new();
    let served = tasks.block_on(&runtime, async {
        let mut server = Server::new(parts)?;
        ready(&server.watchdog)?;
        server.run().await?;
        // Before the lock is released: whoever stopped us may start another. A watchdog that was
        // killed needs no message.
        let _ = server.watchdog.send(WatchdogMessage::Stop);
        Ok(())
    });
    drop(lock);
    served
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    Ok(File::open(path).context(|| format!("open `{}`", path.display()))?.into())
}

/// Makes the directory that the server may write to; its parents are root's.
fn make_state_dir(path: &Path, identity: ServerUser) -> Result<OwnedFd> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(path).context(|| format!("make `{}`", path.display()))?;
    let dir = open_dir(path)?;
    let own = || -> Result<()> {
        nix::unistd::fchown(&dir, Some(identity.uid), Some(identity.gid))?;
        File::from(dir.try_clone()?).set_permissions(fs::Permissions::from_mode(0o755))?;
        Ok(())
    };
    own().context(|| format!("give `{}` to the lease server", path.display()))?;
    Ok(dir)
}

fn watch(dir: &Path) -> Result<OwnedFd> {
    let watch = || -> Result<OwnedFd> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&fd, dir, WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE)?;
        Ok(fd)
    };
    watch().context(|| format!("watch `{}`", dir.display()))
}
