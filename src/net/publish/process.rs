//! The process that has the published ports of one container: its start, its life and its end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use caps::Capability;
use nix::unistd::Pid;

use super::record::{PublishTarget, Record, lock_file, read, record_file};
use super::watch::{self, InterfaceAddresses};
use super::{bind, carry, given};
use crate::error::{Context, Error, Result};
use crate::net::netlink;
use crate::net::record::{GuestRecord, LinkRecord};
use crate::net::rules;
use crate::store::{FileLock, Layout, write_volatile};
use crate::sys;
use crate::sys::helper;
use crate::types::{ContainerName, Generation};

/// How soon it is looked again whether an address is the guest's that was not, each time after twice as
/// long, and whether all still are.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_AT_MOST: Duration = Duration::from_secs(60);
/// The same on bridges of the host's own, where another machine may come to have a guest's address.
const RETRY_ON_HOST_BRIDGES: Duration = Duration::from_secs(5);

/// Starts the process for a container that publishes ports; returns when it has them.
///
/// Fails with `Kind::Conflict` where a port is taken, naming the program that has it.
pub(crate) fn spawn(layout: &Layout, name: &ContainerName) -> Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("lxm").arg("--path").arg(layout.containers()).args(["network", "publish", name.as_str()]);
    helper::start(command.env("LXM_ROOT", layout.root()).stdin(Stdio::null()).stderr(Stdio::null()))
        .context(|| format!("publish the ports of `{name}`"))
}

/// Ends the process; one that does not run has ended.
pub(crate) fn stop(layout: &Layout, name: &ContainerName) -> Result<()> {
    let lock = lock_file(layout, name);
    if FileLock::is_held(&lock)?
        && let Some(record) = read(&layout.run_dir(name))?
    {
        // What is left of one that does not end is taken away all the same.
        let _ = helper::end(&record.process, || FileLock::is_held(&lock));
    }
    // It clears up itself, unless it was killed.
    if record_file(layout, name).exists() {
        clear(layout, name)?;
    }
    let _ = fs::remove_file(lock);
    Ok(())
}

fn clear(layout: &Layout, name: &ContainerName) -> Result<()> {
    let file = record_file(layout, name);
    fs::remove_file(&file).context(|| format!("remove `{}`", file.display()))?;
    rules::apply_translation(layout)
}

/// Is the carrier: binds the ports, says so on standard output, and carries until the guest ends.
pub(super) fn run(layout: &Layout, name: &ContainerName) -> Result<()> {
    let carried = prepare(layout, name).and_then(|prepared| {
        helper::report(None)?;
        prepared.carry()
    });
    if let Err(e) = &carried {
        let _ = helper::report(Some(e));
    }
    carried
}

struct Prepared<'a> {
    layout: &'a Layout,
    name: &'a ContainerName,
    process: Generation,
    leader: std::os::fd::OwnedFd,
    netns: fs::File,
    links: Vec<LinkRecord>,
    ports: Vec<bind::Bound>,
    _lock: FileLock,
}

fn prepare<'a>(layout: &'a Layout, name: &'a ContainerName) -> Result<Prepared<'a>> {
    let record = GuestRecord::read(layout, name)?.ok_or_else(|| Error::failed(format!("`{name}` has no network")))?;
    let Some(lock) = FileLock::try_acquire(&lock_file(layout, name))? else {
        return Err(Error::conflict(format!("the ports of `{name}` are published already")));
    };
    let leader = Pid::from_raw(record.leader);
    let mut ports = Vec::new();
    for link in &record.links {
        for publish in &link.publish {
            ports.extend(bind::bind(layout, name, &link.guest, *publish)?);
        }
    }
    Ok(Prepared {
        layout,
        name,
        process: sys::process::generation(nix::unistd::getpid())?,
        leader: sys::pidfd::open(leader)?,
        netns: netlink::open_netns(leader)?,
        links: record.links,
        ports,
        _lock: lock,
    })
}

impl Prepared<'_> {
    fn carry(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context(|| "build the event loop")?;
        let tasks = tokio::task::LocalSet::new();
        let carried = tasks.block_on(&runtime, self.until_the_end());
        let cleared = clear(self.layout, self.name);
        carried.and(cleared)
    }

    async fn until_the_end(&self) -> Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context(|| "wait for signals")?;
        let addresses = Rc::new(RefCell::new(InterfaceAddresses::default()));
        let interfaces: Vec<String> = {
            let mut names: Vec<String> = self.ports.iter().map(|port| port.interface.clone()).collect();
            names.dedup();
            names
        };
        self.note(&[])?;
        for port in &self.ports {
            tokio::task::spawn_local(carry::carry(port.try_clone()?, addresses.clone()));
        }
        let leader = sys::ready::ReadableFd::new(&self.leader)?;
        let mut guest = watch::GuestNetwork::open(&self.netns)?;
        let (connection, host, _) = rtnetlink::new_connection().context(|| "open a netlink socket")?;
        tokio::spawn(connection);
        // The ports are bound and the guest's network is in sight: what is left is to write rules.
        sys::privileges::confine_helper(&[Capability::CAP_NET_ADMIN])?;
        let mut at_the_hosts = self.links.iter().map(|link| given::is_at_the_hosts(self.layout, link).unwrap_or(true));
        let at_most = if at_the_hosts.any(|is| is) { RETRY_ON_HOST_BRIDGES } else { RETRY_AT_MOST };
        let mut pace = watch::ChangePace::default();
        let mut again = RETRY_FIRST;
        loop {
            let all_given = self.look((&host, &guest), &interfaces, &addresses).await.unwrap_or_else(|e| {
                // The ports stay, and lead where they led; the next look may see more.
                crate::sys::log::line(&format!("read the guest's addresses: {e}"));
                false
            });
            again = if all_given { at_most } else { again.min(at_most / 2) * 2 };
            let next = async {
                tokio::time::sleep(pace.rest()).await;
                guest.changed().await;
            };
            tokio::select! {
                () = leader.readable() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                () = next => {
                    // Whatever came of the look: it is the guest that has us look.
                    pace.changed(Instant::now());
                    again = RETRY_FIRST;
                }
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    /// Follows the guest's addresses; says whether all of them were given to it.
    async fn look(
        &self,
        (host, guest): (&rtnetlink::Handle, &watch::GuestNetwork),
        interfaces: &[String],
        addresses: &RefCell<InterfaceAddresses>,
    ) -> Result<bool> {
        let mut seen = guest.addresses(interfaces).await?;
        let before = addresses.borrow().clone();
        let mut holders = BTreeMap::new();
        for link in &self.links {
            if let Some(bridge) = &link.bridge
                && given::is_at_the_hosts(self.layout, link)?
            {
                holders.insert(&link.guest, given::holders(host, bridge, seen.all_of(&link.guest)).await?);
            }
        }
        let none = given::HostHolders::new();
        let all_given = seen.keep(|interface, address| {
            let Some(link) = self.links.iter().find(|link| link.guest == interface) else { return Ok(false) };
            let had = before.all_of(interface).contains(&address);
            given::is_given(self.layout, link, address, holders.get(&link.guest).unwrap_or(&none), had)
        })?;
        if seen != *addresses.borrow() {
            *addresses.borrow_mut() = seen.clone();
            self.note(&seen.into_targets())?;
            rules::apply_translation(self.layout)?;
        }
        Ok(all_given)
    }

    fn note(&self, targets: &[PublishTarget]) -> Result<()> {
        let record = Record { process: self.process, interfaces: targets.to_vec() };
        write_volatile(&record_file(self.layout, self.name), &record)
    }
}
