//! A supervisor's life: it boots the guest, watches it, and cleans up after it.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use super::awaited::await_all;
use super::ending::keep_end;
use super::manager::Manager;
use super::pause::RebootDelay;
use super::stage::{Stage, Timeline};
use super::{boot, dev, policy, rights};
use crate::cgroup::ContainerCgroup;
use crate::error::{Context, Error, Result};
use crate::identity::ClaimLocks;
use crate::net;
use crate::proto::control::StopStage;
use crate::storage;
use crate::store::{self, AliveLock, BootRecord, LastRun, Layout};
use crate::supervisor::clients::Clients;
use crate::supervisor::console::Console;
use crate::supervisor::event_loop::{Ending, RunningGuest, Surroundings};
use crate::supervisor::setup::Setup;
use crate::sys;
use crate::sys::socket::PacketListener;
use crate::types::ContainerName;

/// What a console log grows to before its older half is dropped, unless `lxm.toml` says otherwise.
const CONSOLE_LOG_SIZE: u64 = 1 << 20;

/// The exit status that asks systemd to start the unit again: the guest has rebooted.
const REBOOT_STATUS: u8 = 133;

/// Runs the supervisor of `name` until its guest has ended for good; returns the exit status.
///
/// A failure to start is reported to the manager and kept in `failure.toml`.
pub(crate) fn run(layout: &Layout, name: &ContainerName, mut manager: Manager) -> u8 {
    match supervise(layout, name, &mut manager) {
        Ok(status) => status,
        Err(error) => {
            manager.failed(&error);
            crate::sys::log::line(&format!("error: {error}"));
            error.kind().exit_status()
        }
    }
}

fn supervise(layout: &Layout, name: &ContainerName, manager: &mut Manager) -> Result<u8> {
    let timeline = Timeline::start();
    let kept = |e: Error| {
        let error = e.step(format!("start `{name}`"));
        // The manager is notified where it can be; the exit status says the rest.
        store::write_failure(layout, name, &error);
        error
    };
    let begin = || -> Result<(SignalFd, AliveLock)> {
        sys::creds::close_on_exec_from(3)?;
        sys::birth::many_descriptors();
        sys::oom::be_last();
        // A request to stop that comes during the boot is served after it; what is meant for init ends nothing.
        use Signal::{SIGHUP, SIGINT, SIGPWR, SIGTERM, SIGUSR1, SIGUSR2};
        let signals = sys::signals::descriptor_with_realtime(&[SIGTERM, SIGINT, SIGPWR, SIGHUP, SIGUSR1, SIGUSR2])?;
        Ok((signals, take_alive(layout, name)?))
    };
    let (signals, alive) = begin().map_err(kept)?;
    store::forget_failure(layout, name);
    if manager.is_patient() && !await_all(layout, name, manager, &signals).map_err(kept)? {
        return Ok(0);
    }
    // Kept while the lock is held: who waits for the lock reads it then.
    boot_until_off(layout, name, manager, (&signals, &alive), timeline).map_err(kept)
}

/// Boots the guest, and again whenever it reboots; returns the exit status.
fn boot_until_off(
    layout: &Layout,
    name: &ContainerName,
    manager: &mut Manager,
    (signals, alive): (&SignalFd, &AliveLock),
    mut timeline: Timeline,
) -> Result<u8> {
    let cgroup = manager.cgroup(layout, name)?;
    let prepared = Supervisor::prepare(layout, name, manager, &cgroup, (signals, alive), &mut timeline);
    let (mut supervisor, rootfs) = prepared.inspect_err(|_| drop(cgroup.leave().and_then(|()| cgroup.remove())))?;
    let mut mounted = Some(rootfs);
    loop {
        let boot = supervisor.boot(mounted.take(), timeline)?;
        if let Some(status) = supervisor.clean_up(boot)? {
            return Ok(status);
        }
        mounted = supervisor.prepare_reboot()?;
        timeline = Timeline::start();
    }
}

/// What a supervisor has from its start to its end, over all boots of its guest.
struct Supervisor<'a> {
    manager: &'a mut Manager,
    signals: &'a SignalFd,
    alive: &'a AliveLock,
    setup: Setup,
    console: Console,
    listener: PacketListener,
    clients: Clients,
    pace: RebootDelay,
    boots: u32,
    /// What the end of the last boot took.
    stop_stage: StopStage,
    /// The last field: it is dropped after what is mounted.
    held: ClaimLocks,
}

/// A boot that is over.
struct FinishedBoot {
    ending: Ending,
    /// How long it lasted; `None` where its end was requested from outside.
    lived: Option<Duration>,
    wires: Wires,
    /// Whether all its processes are gone.
    killed: Result<()>,
}

impl<'a> Supervisor<'a> {
    /// Sweeps what an earlier one left, reads the configuration, and makes what all boots need; gives the
    /// mounted root file system too.
    fn prepare(
        layout: &Layout,
        name: &ContainerName,
        manager: &'a mut Manager,
        cgroup: &ContainerCgroup,
        (signals, alive): (&'a SignalFd, &'a AliveLock),
        timeline: &mut Timeline,
    ) -> Result<(Self, OwnedFd)> {
        if !layout.ephemeral_mark(name).exists() {
            // Of an ephemeral run that the host did not survive.
            storage::ephemeral::end(layout, name)?;
        }
        // Before anything is mounted, even to be examined.
        own_mount_namespace()?;
        timeline.reached(Stage::Locked);
        sweep(layout, name, cgroup)?;
        timeline.reached(Stage::Swept);

        let mut held = ClaimLocks::new(layout)?;
        let (setup, rootfs) = Setup::read(layout, name, cgroup.clone(), &mut held)?;
        timeline.reached(Stage::Read);

        let limit = setup.host.console_log_size.map_or(CONSOLE_LOG_SIZE, |size| size.bytes());
        let console = Console::new(layout.console_log(name), limit, manager.journal(layout, name)?)?;
        let listener = PacketListener::bind(&layout.control_socket(name))?;
        make_cgroup(&setup)?;
        setup.cgroup.join_v1()?;
        manager.prepare(&setup)?;
        rights::drop_others(&setup)?;
        timeline.reached(Stage::Prepared);
        let (clients, pace) = (Clients::default(), RebootDelay::default());
        let supervisor = Supervisor {
            manager,
            signals,
            alive,
            setup,
            console,
            listener,
            clients,
            pace,
            boots: 0,
            stop_stage: StopStage::Exited,
            held,
        };
        Ok((supervisor, rootfs))
    }

    /// Boots the guest and serves it until it ends. Its root file system is mounted unless it is given.
    fn boot(&mut self, rootfs: Option<OwnedFd>, mut timeline: Timeline) -> Result<FinishedBoot> {
        self.boots += 1;
        let (setup, alive) = (&self.setup, self.alive);
        let rootfs = rootfs.map_or_else(|| setup.mount_rootfs(), Ok);
        let (rows, cols) = (self.manager.rows, self.manager.cols);
        let booted = rootfs.and_then(|rootfs| boot::boot(setup, rootfs, &mut timeline, rows, cols));
        // The error is what matters; what cannot be removed now the next start sweeps.
        let (mut booted, terminal) = booted.inspect_err(|_| drop(remove_traces(setup, alive, &Wires::default())))?;
        let wires =
            Wires { links: std::mem::take(&mut booted.links), held: net::hold(&setup.config, booted.leader.pid) };
        let known = write_record(setup, &booted, &wires.links, &timeline).and_then(|()| self.console.connect(terminal));
        known.inspect_err(|_| drop(remove_traces(setup, alive, &wires)))?;
        self.manager.started(setup, &booted.leader, &wires.links);
        self.clients.rebooted(self.stop_stage);
        let mut guest = RunningGuest::new(setup, booted, self.boots);
        let ending = guest.watch(&mut Surroundings {
            signals: self.signals,
            listener: &self.listener,
            console: &mut self.console,
            clients: &mut self.clients,
            manager: self.manager,
        });
        self.stop_stage = guest.stop_stage();
        let lived = (!guest.was_asked()).then(|| guest.lived());
        let (end, ran) = (guest.end(), guest.lived());
        self.console.disconnect();
        // Before anybody hears that it has ended.
        keep_end(setup, &self.console, end, ran);
        self.manager.ended(setup);
        timeline.reached(Stage::Ended);
        let killed = setup.cgroup.kill_and_wait();
        self.clients.reap_commands();
        Ok(FinishedBoot { ending, lived, wires, killed })
    }

    /// Removes what a boot leaves; returns the exit status, unless the guest is to be booted again.
    fn clean_up(&mut self, boot: FinishedBoot) -> Result<Option<u8>> {
        let FinishedBoot { mut ending, lived, wires, killed: mut cleared } = boot;
        if ending == Ending::Reboot && !self.manager.restarts_us() && cleared.is_ok() {
            cleared = self.clear_for_reboot(&wires);
            match self.wait_for_reboot(lived) {
                true if cleared.is_ok() => return Ok(None),
                true => {}
                false => ending = Ending::Off,
            }
        }
        // Clients that wait are answered when everything is removed, not before.
        let mut removed = cleared.and(remove_traces(&self.setup, self.alive, &wires));
        if ending == Ending::Off {
            removed = removed.and(forget_ephemeral(&self.setup.layout, &self.setup.name));
        }
        self.clients.stopped(self.stop_stage);
        removed?;
        Ok(Some(if ending == Ending::Reboot { REBOOT_STATUS } else { 0 }))
    }

    /// Never into the same group again: since Linux 6.14 what is cloned into a group that was once killed
    /// as a whole (cgroup.kill) is taken for a straggler and killed as well.
    fn clear_for_reboot(&self, wires: &Wires) -> Result<()> {
        disconnect(&self.setup, wires)?;
        self.setup.cgroup.remove_payload()?;
        // With the profiles that the guest had loaded: a broken one ends with this boot.
        policy::remove_namespace(self.setup.cgroup.group())
    }

    /// Holds up a guest that reboots all the time; returns whether it is to be booted again.
    fn wait_for_reboot(&mut self, lived: Option<Duration>) -> bool {
        let pause = lived.map_or(Duration::ZERO, |lived| self.pace.after(lived));
        if !pause.is_zero() {
            // Its guest is gone: the state is `starting`.
            let _ = std::fs::remove_file(self.setup.layout.boot_record(&self.setup.name));
        }
        let mut around = Surroundings {
            signals: self.signals,
            listener: &self.listener,
            console: &mut self.console,
            clients: &mut self.clients,
            manager: self.manager,
        };
        self.pace.wait(pause, self.boots, &mut around)
    }

    /// Reads the configuration again, which may have changed; returns the mounted root file system with it.
    fn prepare_reboot(&mut self) -> Result<Option<OwnedFd>> {
        let (layout, name) = (self.setup.layout.clone(), self.setup.name.clone());
        let again = self.setup.read_again(&mut self.held).and_then(|(now, rootfs)| {
            sys::fork::run(|| now.require_host(&rootfs))?;
            Ok((now, rootfs))
        });
        let mounted = match again.map_err(|e| e.step(format!("`{name}` boots as it did before"))) {
            Ok((now, rootfs)) => {
                self.setup = now;
                store::forget_failure(&layout, &name);
                Some(rootfs)
            }
            // It has worked so far, and no admin may be present to mend it.
            Err(e) => {
                sys::log::line(&format!("warning: {e}"));
                store::write_failure(&layout, &name, &e);
                None
            }
        };
        let grouped = self.setup.cgroup.lift_limits().and_then(|()| make_cgroup(&self.setup));
        grouped.inspect_err(|_| drop(remove_traces(&self.setup, self.alive, &Wires::default())))?;
        Ok(mounted)
    }
}

/// Takes the alive lock. The command that started us has seen that it was free; if it is held now, its holder
/// is a supervisor whose own command was killed, which ends as soon as it notices.
fn take_alive(layout: &Layout, name: &ContainerName) -> Result<AliveLock> {
    AliveLock::wait_released(layout, name, PREDECESSOR)?;
    AliveLock::take(layout, name)?.ok_or_else(|| Error::conflict("it runs already"))
}

/// Makes the container's groups and closes its list of devices.
fn make_cgroup(setup: &Setup) -> Result<()> {
    setup.cgroup.create(&setup.config.limits, setup.ids)?;
    setup.cgroup.restrict_devices(&dev::rules(&setup.config.device)?)
}

/// Removes what an earlier supervisor of this container left when it was killed.
fn sweep(layout: &Layout, name: &ContainerName, cgroup: &ContainerCgroup) -> Result<()> {
    cgroup.kill_and_wait()?;
    cgroup.remove_payload()?;
    if net::is_wired(layout, name) {
        sys::fork::run(|| net::sweep(layout, name)).context(|| "remove an earlier network")?;
    }
    policy::remove_namespace(cgroup.group())?;
    if remove_records(layout, name)? {
        LastRun::lost().write(layout, name);
    }
    Ok(())
}

/// Leaves the host's mount namespace: what storage mounts for the guest is seen by no other process and goes
/// with us, however we end.
fn own_mount_namespace() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).context(|| "make a mount namespace")?;
    // Slave: what the admin mounts later, for a bind into a rebooted guest, still comes in.
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .context(|| "keep mounts from the host")
}

fn write_record(setup: &Setup, booted: &boot::Booted, links: &[String], timeline: &Timeline) -> Result<()> {
    let record = BootRecord {
        supervisor: sys::process::generation(nix::unistd::getpid())?,
        leader: sys::process::generation(booted.leader.pid)?,
        started: crate::store::now(),
        privileged: setup.ids.is_none(),
        init: setup.guest.init_path.to_string_lossy().into_owned(),
        init_type: setup.guest.kind_name().to_owned(),
        ids: setup.ids,
        cgroup: setup.cgroup.group().to_owned(),
        links: links.to_vec(),
        stages: timeline.stages().to_vec(),
    };
    record.write(&setup.layout, &setup.name)
}

/// A guest's network, as its end needs it.
#[derive(Default)]
struct Wires {
    /// The host's ends of its links.
    links: Vec<String>,
    /// Its network namespace, if a link of the host was moved into it.
    held: Option<OwnedFd>,
}

fn disconnect(setup: &Setup, wires: &Wires) -> Result<()> {
    if wires.links.is_empty() && !net::is_wired(&setup.layout, &setup.name) {
        return Ok(());
    }
    let held = wires.held.as_ref().map(AsFd::as_fd);
    let disconnect = || net::disconnect(&setup.layout, &setup.name, &wires.links, held);
    sys::fork::run(disconnect).context(|| "disconnect the network")
}

/// Removes everything of a run but the lock file and the failure record. Continues after a failure
/// and gives the first.
fn remove_traces(setup: &Setup, alive: &AliveLock, wires: &Wires) -> Result<()> {
    let steps = [
        setup.cgroup.kill_and_wait(),
        disconnect(setup, wires),
        policy::remove_namespace(setup.cgroup.group()),
        setup.cgroup.leave(),
        setup.cgroup.remove(),
        // Where our run directory was removed, what is there is another's.
        if alive.is_in_place() { remove_records(&setup.layout, &setup.name).map(drop) } else { Ok(()) },
    ];
    steps.into_iter().find(Result::is_err).unwrap_or(Ok(()))
}

/// Undoes what an ephemeral run has changed, or removes an ephemeral container.
fn forget_ephemeral(layout: &Layout, name: &ContainerName) -> Result<()> {
    storage::ephemeral::end(layout, name)?;
    match std::fs::remove_file(layout.ephemeral_mark(name)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    storage::ephemeral::remove(layout, name)
}

/// Removes what only a running guest has; returns whether there was the record of a boot.
fn remove_records(layout: &Layout, name: &ContainerName) -> Result<bool> {
    let remove = |file: std::path::PathBuf| match std::fs::remove_file(&file) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).context(|| format!("remove `{}`", file.display())),
    };
    remove(layout.control_socket(name))?;
    remove(layout.ssh_known_hosts(name))?;
    remove(layout.boot_record(name))
}

/// How long a supervisor whose command was killed may take to end.
const PREDECESSOR: Duration = Duration::from_secs(5);
