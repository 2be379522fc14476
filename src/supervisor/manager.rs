//! What started this supervisor and is notified by it: a command line on a bare host, or systemd.

use std::time::Duration;

use super::notify::Notification;
use super::service::Service;
use super::setup::Setup;
use super::stop::StopGoal;
use crate::cgroup::{ContainerCgroup, Hierarchies};
use crate::error::{Error, Result};
use crate::store::Layout;
use crate::sys::clone::Child;
use crate::sys::socket::Packets;
use crate::systemd::journal::ConsoleJournal;
use crate::types::ContainerName;

/// The other side, as the supervisor sees it.
#[derive(Debug)]
pub(crate) struct Manager {
    link: Starter,
    /// The console's window size until a client connects to it.
    pub rows: u16,
    pub cols: u16,
}

#[derive(Debug)]
enum Starter {
    /// The command line that cloned us, until it was notified that the guest has started.
    Command(Option<Packets>),
    Systemd(Box<Service>),
}

/// To the command line: the leader's pid, or why there is none.
pub(crate) type Started = Result<i32>;

impl Manager {
    /// A command line at the other end of `packets`.
    pub(crate) fn command(packets: Packets, rows: u16, cols: u16) -> Self {
        Manager { link: Starter::Command(Some(packets)), rows, cols }
    }

    /// systemd, whose main process of a unit we are; fails with `Kind::Usage` when we are not.
    pub(crate) fn systemd() -> Result<Self> {
        Ok(Manager { link: Starter::Systemd(Box::new(Service::from_env()?)), rows: 24, cols: 80 })
    }

    /// The groups that the guest shall be in.
    pub(super) fn cgroup(&self, layout: &Layout, name: &ContainerName) -> Result<ContainerCgroup> {
        let hierarchies = Hierarchies::detect()?;
        match &self.link {
            Starter::Command(_) => Ok(ContainerCgroup::new(hierarchies, layout.cgroup(name))),
            Starter::Systemd(_) => ContainerCgroup::of_own_unit(hierarchies),
        }
    }

    /// Whether the start is the host's own and may be too early; who starts a container by hand is told at once.
    pub(super) fn is_patient(&self) -> bool {
        matches!(self.link, Starter::Systemd(_))
    }

    /// The start waits for what is missing, for `left` at most.
    pub(super) fn awaits(&self, missing: &Error, left: Duration) {
        if let Starter::Systemd(service) = &self.link {
            service.awaits(missing, left);
        }
    }

    /// Where the console is written to beside its log.
    pub(super) fn journal(&self, layout: &Layout, name: &ContainerName) -> Result<Option<ConsoleJournal>> {
        match &self.link {
            Starter::Command(_) => Ok(None),
            Starter::Systemd(_) => ConsoleJournal::open(&layout.name_on_host(name)),
        }
    }

    /// Sets the limits that belong to systemd.
    pub(super) fn prepare(&self, setup: &Setup) -> Result<()> {
        match &self.link {
            Starter::Command(_) => Ok(()),
            Starter::Systemd(service) => service.prepare(setup),
        }
    }

    /// Init has been executed.
    pub(super) fn started(&mut self, setup: &Setup, leader: &Child, links: &[String]) {
        match &mut self.link {
            Starter::Command(command) => {
                // The command may have ended: the guest runs all the same.
                let _ = command.take().map(|command| command.send(&Started::Ok(leader.pid.as_raw()), &[]));
            }
            Starter::Systemd(service) => service.started(setup, leader, links),
        }
    }

    /// The guest's init has sent a message.
    pub(super) fn notified(&mut self, setup: &Setup, message: &Notification) {
        if let Starter::Systemd(service) = &mut self.link {
            service.notified(setup, message);
        }
    }

    /// Does what is due `booted` after the guest's boot; returns when to be called again at the latest.
    pub(super) fn tick(&mut self, setup: &Setup, leader: &Child, booted: Duration) -> Duration {
        match &mut self.link {
            Starter::Command(_) => Duration::MAX,
            Starter::Systemd(service) => service.tick(setup, leader, booted),
        }
    }

    /// A signal asks us to stop: says how long the guest may take. `left` is what an earlier
    /// request has left it, if there was one.
    pub(super) fn asked_to_stop(&self, setup: &Setup, goal: StopGoal, left: Option<Duration>) -> Duration {
        match (&self.link, goal) {
            (Starter::Systemd(service), StopGoal::PowerOff) => service.asked_to_stop(setup, left),
            _ => setup.config.boot.stop_timeout.get(),
        }
    }

    /// The guest has ended.
    pub(super) fn ended(&mut self, setup: &Setup) {
        if let Starter::Systemd(service) = &mut self.link {
            service.ended(&setup.layout.name_on_host(&setup.name));
        }
    }

    pub(super) fn failed(&mut self, error: &Error) {
        match &mut self.link {
            Starter::Command(command) => {
                let _ = command.take().map(|command| command.send(&Started::Err(error.clone()), &[]));
            }
            Starter::Systemd(service) => service.failed(error),
        }
    }

    /// Whether exiting with status 133 starts us again, in a fresh unit.
    pub(super) fn restarts_us(&self) -> bool {
        matches!(self.link, Starter::Systemd(_))
    }
}
