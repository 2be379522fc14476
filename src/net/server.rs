//! Who runs a bridge's lease and name server: systemd where the package is installed, else we.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::rules;
use crate::cgroup::Hierarchies;
use crate::config::bridge::NetworkFile;
use crate::error::{Context, Error, Result};
use crate::net::bridge::link::{exists, usable};
use crate::net::bridge::raise;
use crate::netserver::watchdog::WatchdogMessage;
use crate::netserver::{self, Watchdog, guests, is_running, process_file};
use crate::store::{FileLock, Layout, remove_tree};
use crate::sys;
use crate::sys::helper;
use crate::systemd;
use crate::systemd::notify::Notifier;

/// How long the group of a server that has ended may be busy still.
const GROUP_TIMEOUT: Duration = Duration::from_secs(2);

/// What waits for the server to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// systemd, or no process.
    Notify,
    /// `spawn`, at the other end of standard output.
    Stdout,
}

/// Makes sure that the bridge's server serves; returns when it does.
pub(crate) fn ensure(layout: &Layout, bridge: &str) -> Result<()> {
    if is_running(layout, bridge)? {
        return Ok(());
    }
    if has_unit(layout) { systemctl("start", bridge) } else { spawn(layout, bridge) }
}

/// Ends the bridge's server, which advertises that to the guests; one that does not run has ended.
pub fn stop(layout: &Layout, bridge: &str) -> Result<()> {
    if has_unit(layout) {
        systemctl("stop", bridge)?;
    }
    let alone = spawn_lock(layout, bridge)?;
    if is_running(layout, bridge)? {
        end(layout, bridge).context(|| format!("stop the lease server of `{bridge}`"))?;
    }
    // Without it, its watchdog does not start it again.
    remove_tree(&process_file(layout, bridge))?;
    // The watchdog may be waiting for the lock, in the group that is to go.
    drop(alone);
    remove_cgroup(layout);
    Ok(())
}

/// Whether systemd runs this host and knows the unit. It is for the host's own state alone.
fn has_unit(layout: &Layout) -> bool {
    let dirs = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    layout.root() == Path::new("/")
        && systemd::is_running()
        && dirs.iter().any(|dir| Path::new(dir).join("lxm-net@.service").is_file())
}

fn systemctl(verb: &str, bridge: &str) -> Result<()> {
    let unit = format!("lxm-net@{bridge}.service");
    let output = Command::new("systemctl").args(["--quiet", verb, &unit]).output().context(|| "run `systemctl`")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::failed(format!("{verb} `{unit}`: {}", said.lines().next().unwrap_or("it failed").trim()))
        .hint(format!("see `journalctl -u {unit}`")))
}

/// The cgroup of servers that no service manager started: whoever spawned one may be in a
/// container's group, whose processes are killed with the container.
fn cgroup(layout: &Layout) -> String {
    format!("{}/.network", layout.cgroup_base())
}

/// Starts the bridge's server unless it runs, and waits until it serves; its own error where it
/// cannot. For hosts without a service manager; safe to call from several processes at a time.
fn spawn(layout: &Layout, bridge: &str) -> Result<()> {
    let _alone = spawn_lock(layout, bridge)?;
    if is_running(layout, bridge)? {
        return Ok(());
    }
    start(layout, bridge).context(|| format!("start the lease server of `{bridge}`"))
}

/// Starts a server again that was killed; does nothing for one that was stopped.
fn restart(layout: &Layout, bridge: &str) -> Result<()> {
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
    command.arg0("lxm").args(["network", "serve", bridge, "--spawned"]).env("LXM_ROOT", layout.root());
    helper::start(command.stdin(Stdio::null()).stderr(log_file)).map_err(|e| match e.hint_text() {
        None => e.hint(format!("see `{}`", log.display())),
        Some(_) => e,
    })
}

fn end(layout: &Layout, bridge: &str) -> Result<()> {
    let text = fs::read_to_string(process_file(layout, bridge))?;
    let process = toml::from_str(&text).map_err(|e| Error::failed(e.message().to_owned()))?;
    helper::end(&process, || is_running(layout, bridge))
}

/// Removes the servers' cgroup. Fails, as it should, while other bridges' servers are in it; those
/// that lxm keeps containers in are removed with those.
fn remove_cgroup(layout: &Layout) {
    let Ok(hierarchies) = Hierarchies::detect() else { return };
    let Ok(unified) = hierarchies.require_unified() else { return };
    let deadline = Instant::now() + GROUP_TIMEOUT;
    // A process that has released its lock may be in its group for a moment still.
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

/// Runs as the bridge's server until a signal stops it or the bridge is gone: `lxm network serve`.
pub(crate) fn run(layout: &Layout, bridge: &str, readiness: Readiness) -> Result<()> {
    let ready = || -> Result<()> {
        if let Some(notifier) = Notifier::from_env()? {
            notifier.tell("READY=1");
        }
        Ok(())
    };
    // In a process of its own: a runtime that was made before would be a part of the watchdog's process, which
    // closes all descriptors.
    let made = sys::fork::run(|| raise::again(layout, bridge));
    let served = made.and_then(|()| match readiness {
        // Not a failure, after which systemd would start it again and again.
        Readiness::Notify if !exists(bridge) => {
            NetworkFile::load(layout)?.get(bridge)?;
            sys::log::line(&format!("bridge `{bridge}` is gone"));
            ready()
        }
        Readiness::Notify => serve(layout, bridge, |_| ready()),
        Readiness::Stdout => detach(layout).and_then(|()| {
            serve(layout, bridge, |watchdog| {
                watchdog.send(WatchdogMessage::RestartOnCrash)?;
                helper::report(None)
            })
        }),
    });
    if let (Err(e), Readiness::Stdout) = (&served, readiness) {
        let _ = helper::report(Some(e));
    }
    served
}

fn serve(layout: &Layout, bridge: &str, ready: impl FnOnce(&Watchdog) -> Result<()>) -> Result<()> {
    let mut settings = usable(bridge, NetworkFile::load(layout)?.get(bridge)?.clone());
    if settings.ipv4.is_none() && settings.ipv6.is_none() {
        return Err(Error::config(format!("bridge `{bridge}` has no address to serve leases from")));
    }
    if !settings.dhcp {
        // Nothing is served on it; the watchdog has its work all the same.
        (settings.ipv4, settings.ipv6) = (None, None);
    }
    // It needs the rights that the server gives up, and none of what the server opens.
    let serves_ipv6 = settings.ipv6.is_some();
    let watchdog = rules::spawn_watchdog(layout, bridge, serves_ipv6, || restart(layout, bridge))?;
    netserver::serve(layout, bridge, settings, watchdog, ready)
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
