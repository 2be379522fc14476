//! Starting, stopping and asking a bridge's server.
//!
//! Directories of a bridge: `run/lxm/.network/BRIDGE/` belongs to root and has the lock and the
//! guests' files; `var/lib/lxm/.network/BRIDGE/` belongs to the server, which has no rights, and has
//! leases and status. Root opens nothing in the latter but what it reads without trust.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::guests;
use super::link::Link;
use super::privileges::Identity;
use super::resolver::Sockets;
use super::server::{self, Parts, Server};
use super::status::Status;
use crate::cgroup::Hierarchies;
use crate::error::{Context, Error, Result};
use crate::net::nft::{self, Keeper};
use crate::net::settings::NetworkFile;
use crate::store::{FileLock, Generation, Layout, remove_tree, replace_run_file};
use crate::sys;

/// How long a server may take until it serves.
const START_TIME: Duration = Duration::from_secs(10);
/// How long one may take to end before it is killed.
const STOP_TIME: Duration = Duration::from_secs(2);
const READY: &str = "ready\n";

/// Who waits for the server to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// systemd, or nobody.
    Notify,
    /// [`spawn`], at the other end of standard output.
    Stdout,
}

fn lock_file(layout: &Layout, bridge: &str) -> PathBuf {
    layout.network_run().join(bridge).join("lock")
}

fn process_file(layout: &Layout, bridge: &str) -> PathBuf {
    layout.network_run().join(bridge).join("server.toml")
}

/// What the server writes goes here.
fn state_dir(layout: &Layout, bridge: &str) -> PathBuf {
    layout.network_state().join(bridge)
}

/// The cgroup of servers that no service manager started: whoever spawned one may be in a
/// container's group, whose processes are killed with the container.
fn cgroup(layout: &Layout) -> String {
    format!("{}/.network", layout.cgroup_base())
}

pub fn is_running(layout: &Layout, bridge: &str) -> Result<bool> {
    FileLock::is_held(&lock_file(layout, bridge))
}

/// What the bridge's server says of itself; `None` while none runs.
pub fn status(layout: &Layout, bridge: &str) -> Result<Option<Status>> {
    if !is_running(layout, bridge)? {
        return Ok(None);
    }
    match sys::fs::open_dir(state_dir(layout, bridge)) {
        Ok(dir) => Status::read(&dir),
        Err(_) => Ok(None),
    }
}

/// Starts the bridge's server unless it runs, and waits until it serves; its own error where it
/// cannot. For hosts without a service manager; safe to call from several processes at a time.
pub fn spawn(layout: &Layout, bridge: &str) -> Result<()> {
    let _alone = spawn_lock(layout, bridge)?;
    if is_running(layout, bridge)? {
        return Ok(());
    }
    start(layout, bridge).context(|| format!("start the lease server of `{bridge}`"))
}

/// Starts a server again that was killed; does nothing for one that was stopped.
pub fn revive(layout: &Layout, bridge: &str) -> Result<()> {
    let _alone = spawn_lock(layout, bridge)?;
    if is_running(layout, bridge)? || !process_file(layout, bridge).exists() {
        return Ok(());
    }
    start(layout, bridge).context(|| format!("start the lease server of `{bridge}` again"))
}

/// Held by who starts or stops the bridge's server.
fn spawn_lock(layout: &Layout, bridge: &str) -> Result<FileLock> {
    FileLock::acquire(&layout.network_run().join(bridge).join("spawn.lock"))
}

fn start(layout: &Layout, bridge: &str) -> Result<()> {
    let log = layout.network_run().join(bridge).join("server.log");
    let log_file =
        File::options().create(true).append(true).open(&log).context(|| format!("open `{}`", log.display()))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("lxm").args(["network", "serve", bridge, "--spawned"]).env("LXM_ROOT", layout.root()).current_dir("/");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file).spawn()?;
    let mut answer = String::new();
    let mut pipe = child.stdout.take().ok_or_else(|| Error::failed("the server has no output"))?;
    if !sys::poll::wait_readable(&pipe, START_TIME)? {
        return Err(Error::timed_out(format!("it is not ready after {} s", START_TIME.as_secs())));
    }
    pipe.read_to_string(&mut answer)?;
    if answer == READY {
        return Ok(());
    }
    let _ = child.wait();
    let own = serde_json::from_str::<Error>(&answer);
    Err(own.unwrap_or_else(|_| Error::failed(format!("it ended; `{}` may say why", log.display()))))
}

/// Ends the bridge's server, which tells the guests so; one that does not run has ended.
///
/// Not for a server that a service manager runs: that would start it again.
pub fn stop(layout: &Layout, bridge: &str) -> Result<()> {
    let alone = spawn_lock(layout, bridge)?;
    if is_running(layout, bridge)? {
        end(layout, bridge).context(|| format!("stop the lease server of `{bridge}`"))?;
    }
    // Without it, its keeper does not start it again.
    remove_tree(&process_file(layout, bridge))?;
    // The keeper may be waiting for the lock, in the group that is to go.
    drop(alone);
    remove_cgroup(layout);
    Ok(())
}

fn end(layout: &Layout, bridge: &str) -> Result<()> {
    let text = fs::read_to_string(process_file(layout, bridge))?;
    let process: Generation = toml::from_str(&text).map_err(|e| Error::failed(e.message().to_owned()))?;
    for (signal, patience) in [(Signal::SIGTERM, STOP_TIME), (Signal::SIGKILL, STOP_TIME)] {
        if sys::process::is_same(&process) {
            let _ = nix::sys::signal::kill(Pid::from_raw(process.pid), signal);
        }
        if wait_released(layout, bridge, patience)? {
            return Ok(());
        }
    }
    Err(Error::timed_out(format!("process {} does not end", process.pid)))
}

/// Removes the servers' cgroup. Fails, as it should, while other bridges' servers are in it; those
/// that lxm keeps containers in are removed with those.
fn remove_cgroup(layout: &Layout) {
    let Ok(hierarchies) = Hierarchies::detect() else { return };
    let Ok(unified) = hierarchies.require_unified() else { return };
    let deadline = Instant::now() + STOP_TIME;
    // A process that has let go of its lock may be in its group for a moment still.
    while matches!(fs::remove_dir(unified.join(cgroup(layout))), Err(e) if e.kind() == ErrorKind::ResourceBusy) {
        if Instant::now() >= deadline || other_servers(layout) {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = fs::remove_dir(unified.join(layout.cgroup_base()));
}

fn other_servers(layout: &Layout) -> bool {
    let bridges = guests::bridges(layout).unwrap_or_default();
    bridges.iter().any(|bridge| is_running(layout, bridge).unwrap_or(false))
}

fn wait_released(layout: &Layout, bridge: &str, limit: Duration) -> Result<bool> {
    let deadline = Instant::now() + limit;
    while is_running(layout, bridge)? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(true)
}

/// Is the bridge's server until it is told to stop or the bridge is gone: `lxm network serve`.
pub fn run(layout: &Layout, bridge: &str, readiness: Readiness) -> Result<()> {
    let served = match readiness {
        Readiness::Notify => serve(layout, bridge, |_| notify("READY=1")),
        Readiness::Stdout => detach(layout).and_then(|()| {
            serve(layout, bridge, |keeper| {
                keeper.revive_me()?;
                tell_spawner(READY)
            })
        }),
    };
    if let (Err(e), Readiness::Stdout) = (&served, readiness) {
        let _ = tell_spawner(&serde_json::to_string(e).unwrap_or_default());
    }
    served
}

fn serve(layout: &Layout, bridge: &str, ready: impl FnOnce(&Keeper) -> Result<()>) -> Result<()> {
    let mut settings = NetworkFile::load(layout)?.get(bridge)?.clone();
    if settings.ipv4.is_none() && settings.ipv6.is_none() {
        return Err(Error::config(format!("bridge `{bridge}` has no address to serve leases from")));
    }
    if !settings.dhcp {
        // Nothing is served on it; the keeper has its work all the same.
        (settings.ipv4, settings.ipv6) = (None, None);
    }
    // It needs the rights that the server gives up, and none of what the server opens.
    let keeper = nft::spawn_keeper(layout, bridge)?;
    let guests_dir = guests::directory(layout, bridge);
    fs::create_dir_all(&guests_dir).context(|| format!("make `{}`", guests_dir.display()))?;
    let Some(lock) = FileLock::try_acquire(&lock_file(layout, bridge))? else {
        return Err(Error::conflict(format!("bridge `{bridge}` has a lease server already")));
    };
    let process = toml::to_string(&sys::process::generation(Pid::this())?).unwrap_or_default();
    replace_run_file(&process_file(layout, bridge), process.as_bytes(), 0o644)?;
    let identity = Identity::find()?;
    let parts = Parts {
        link: Link::open(bridge, &settings)?,
        names: Sockets::bind(&server::name_addresses(&settings)),
        watch: watch(&guests_dir)?,
        guests_dir: open_dir(&guests_dir)?,
        state_dir: make_state_dir(&state_dir(layout, bridge), identity)?,
        settings,
        keeper,
    };
    identity.assume()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.context(|| "build the event loop")?;
    let tasks = tokio::task::LocalSet::new();
    let served = tasks.block_on(&runtime, async {
        let mut server = Server::new(parts)?;
        ready(&server.keeper)?;
        server.run().await?;
        // Before the lock is let go of: whoever stopped us may start another. A keeper that was
        // killed needs no word.
        let _ = server.keeper.let_me_go();
        Ok(())
    });
    drop(lock);
    served
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    Ok(File::open(path).context(|| format!("open `{}`", path.display()))?.into())
}

/// Makes the directory that the server may write to; its parents are root's.
fn make_state_dir(path: &Path, identity: Identity) -> Result<OwnedFd> {
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

/// Leaves session, descriptors and cgroups of whoever spawned us: we outlive them.
fn detach(layout: &Layout) -> Result<()> {
    sys::creds::close_from(3)?;
    sys::birth::as_a_daemon()?;
    // Fails for the leader of a group, which then has a session of its own already.
    let _ = nix::unistd::setsid();
    let Ok(hierarchies) = Hierarchies::detect() else { return Ok(()) };
    for root in hierarchies.v1_mounts() {
        // A container whose groups we stayed in could not remove them.
        let _ = fs::write(root.join("cgroup.procs"), "0");
    }
    let Ok(unified) = hierarchies.require_unified() else { return Ok(()) };
    let group = unified.join(cgroup(layout));
    let join = fs::create_dir_all(&group).and_then(|()| fs::write(group.join("cgroup.procs"), "0"));
    join.context(|| format!("move to the cgroup `{}`", group.display()))
}

/// Writes to standard output and closes it, which is what [`spawn`] waits for.
fn tell_spawner(line: &str) -> Result<()> {
    let tell = || -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes())?;
        out.flush()?;
        let null = File::options().write(true).open("/dev/null")?;
        nix::unistd::dup2_stdout(null)?;
        Ok(())
    };
    tell().context(|| "tell that the server is ready")
}

/// Tells systemd, where it runs us (sd_notify(3)).
fn notify(state: &str) -> Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let send = || -> std::io::Result<()> {
        let address = match path.as_encoded_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
    };
    send().context(|| "tell the service manager")
}
