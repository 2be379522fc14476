//! The process that keeps the leases of one container: its start, its life and its end.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use caps::Capability;
use futures_util::future::join_all;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::link::LeasedLink;
use super::resolv;
use crate::config;
use crate::error::{Context, Error, Result};
use crate::net::netlink::{self, in_netns};
use crate::net::record::GuestRecord;
use crate::store::{FileLock, Layout, write_volatile};
use crate::sys;
use crate::sys::helper;
use crate::types::{ContainerName, Generation};

/// How long a start waits for the first lease: servers that ping an address before they offer it take three
/// seconds. Without an answer the guest boots without an address, and gets
/// it when there is one.
const FIRST: Duration = Duration::from_secs(5);

/// `lease.toml` of a running container, worth something only while its lock is held.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Record {
    process: Generation,
}

fn lock_file(layout: &Layout, name: &ContainerName) -> PathBuf {
    layout.run_dir(name).join("lease.lock")
}

fn record_file(layout: &Layout, name: &ContainerName) -> PathBuf {
    layout.run_dir(name).join("lease.toml")
}

/// Starts the process for a container whose record says that it has leases to be kept; returns when it has
/// them, or has waited for them. `root` is the guest's, for its resolv.conf.
pub(crate) fn spawn(layout: &Layout, name: &ContainerName, root: BorrowedFd<'_>) -> Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("lxm").arg("--path").arg(layout.containers()).args(["network", "lease", name.as_str()]);
    let root = root.try_clone_to_owned().context(|| "duplicate a descriptor")?;
    command.env("LXM_ROOT", layout.root()).stdin(root).stderr(Stdio::null());
    helper::start(&mut command).context(|| format!("keep the lease of `{name}`"))
}

/// Ends the process, which gives the leases back; one that does not run has ended.
pub(crate) fn stop(layout: &Layout, name: &ContainerName) -> Result<()> {
    let (lock, file) = (lock_file(layout, name), record_file(layout, name));
    if FileLock::is_held(&lock)?
        && let Ok(text) = fs::read_to_string(&file)
    {
        let record: Record = config::parse(&text, Path::new(&file))?;
        // What is left of one that does not end goes with the guest's links.
        let _ = helper::end(&record.process, || FileLock::is_held(&lock));
    }
    for file in [file, lock] {
        let _ = fs::remove_file(file);
    }
    Ok(())
}

/// Is the process: has the leases, says so on standard output, and keeps them until the guest ends.
pub(crate) fn run(layout: &Layout, name: &ContainerName) -> Result<()> {
    let prepared = sys::birth::as_a_daemon().and_then(|()| prepare(layout, name));
    let kept = prepared.and_then(|prepared| prepared.keep());
    if let Err(e) = &kept {
        let _ = helper::report(Some(e));
    }
    kept
}

struct Prepared {
    leader: OwnedFd,
    netns: File,
    links: Vec<LeasedLink>,
    root: OwnedFd,
    _lock: FileLock,
}

fn prepare(layout: &Layout, name: &ContainerName) -> Result<Prepared> {
    let record = GuestRecord::read(layout, name)?.ok_or_else(|| Error::failed(format!("`{name}` has no network")))?;
    let root = sys::helper::take_stdin()?;
    let Some(lock) = FileLock::try_acquire(&lock_file(layout, name))? else {
        return Err(Error::conflict(format!("the leases of `{name}` are kept already")));
    };
    let process = sys::process::generation(nix::unistd::getpid())?;
    write_volatile(&record_file(layout, name), &Record { process })?;
    let leader = Pid::from_raw(record.leader);
    let netns = netlink::open_netns(leader)?;
    let leased = record.links.iter().filter(|link| link.lease);
    let links = leased.map(|link| LeasedLink::open(&netns, link, name)).collect::<Result<_>>()?;
    Ok(Prepared { leader: sys::pidfd::open(leader)?, netns, links, root, _lock: lock })
}

impl Prepared {
    fn keep(self) -> Result<()> {
        // Whoever started the container may end, and its terminal be closed.
        let _ = nix::unistd::setsid();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let kept = runtime.context(|| "build the event loop")?.block_on(self.until_the_end());
        self.links.iter().for_each(LeasedLink::release);
        kept
    }

    async fn until_the_end(&self) -> Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context(|| "wait for signals")?;
        let leader = sys::ready::ReadableFd::new(&self.leader)?;
        let open = || rtnetlink::new_connection().context(|| "open a netlink socket");
        let (connection, guest, _) = in_netns(self.netns.as_fd(), open)?;
        tokio::spawn(connection);
        // What is left: addresses and routes of the guest, and the file that has its ids.
        sys::privileges::confine_helper(&[Capability::CAP_NET_ADMIN, Capability::CAP_DAC_OVERRIDE])?;
        let told = || self.write_resolv_conf();
        let all = |until_bound| {
            join_all(
                self.links
                    .iter()
                    .map(move |link| (link, until_bound))
                    .map(|(link, until_bound)| link.keep(&guest, until_bound, &told)),
            )
        };
        let ends = async {
            tokio::select! {
                () = leader.readable() => {}
                _ = terminate.recv() => {}
            }
        };
        tokio::pin!(ends);
        tokio::select! {
            _ = all(true) => {}
            () = tokio::time::sleep(FIRST) => {}
            () = &mut ends => return Ok(()),
        }
        helper::report(None)?;
        tokio::select! {
            _ = all(false) => Ok(()),
            () = ends => Ok(()),
        }
    }

    /// What all leases say, the first interface's first; without a lease it stays as it is.
    fn write_resolv_conf(&self) {
        let leases: Vec<_> = self.links.iter().filter_map(LeasedLink::lease).collect();
        if leases.is_empty() {
            return;
        }
        let resolvers: Vec<IpAddr> =
            leases.iter().flat_map(|lease| &lease.resolvers).copied().map(IpAddr::V4).collect();
        let domain = leases.iter().find_map(|lease| lease.domain.as_deref());
        if let Err(e) = resolv::update(&self.root, &resolv::text(&resolvers, domain)) {
            sys::log::line(&format!("warning: {e}"));
        }
    }
}
