//! The supervisor as a service of systemd: readiness, status, watchdog, the register of machines.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::notify::Notification;
use super::setup::Setup;
use crate::config::{Init, ReadyCondition};
use crate::error::{Error, Result};
use crate::store::Layout;
use crate::sys::clone::Child;
use crate::systemd::dropin;
use crate::systemd::journal_link::JournalLink;
use crate::systemd::machined::{self, Machine};
use crate::systemd::notify::{Notifier, passed_on};
use crate::systemd::unit;
use crate::types::ContainerName;

/// How long a guest may take to say that it is ready before the unit is active without it: what
/// waits for it at boot must not wait forever, and a slow guest is not killed for it.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// What a start takes once all that it needs is there (`TimeoutStartSec=` of the unit).
const START: Duration = Duration::from_secs(180);

/// What stopping takes beside the guest's own shutdown.
const CLEANUP: Duration = Duration::from_secs(20);

/// How long after a registration that failed the next one is tried, doubled each time to an hour at
/// most: a bus or a machined that has been restarted too often for systemd comes back by itself.
const REGISTER_AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Service {
    notifier: Notifier,
    /// Whether readiness was reported to systemd.
    ready: bool,
    watched: Instant,
    registered: Registered,
    /// Indices of the host's ends of the guest's links.
    links: Vec<i32>,
    /// The guest's root as the host can open it. The tree that is mounted for it is in our mount
    /// namespace alone.
    root: PathBuf,
    journal: Option<JournalLink>,
}

/// Whether machined knows the guest.
#[derive(Debug)]
enum Registered {
    Yes,
    No,
    /// It could not be registered, and is tried again.
    Later {
        at: Instant,
        pause: Duration,
    },
}

impl Service {
    /// Fails with `Kind::Usage` when no service manager listens.
    pub(super) fn from_env() -> Result<Self> {
        let notifier = Notifier::from_env()?.ok_or_else(|| {
            Error::usage("`lxm supervise` is for the unit lxm@.service").hint("`lxm start NAME` starts a container")
        })?;
        Ok(Service {
            notifier,
            ready: false,
            watched: Instant::now(),
            registered: Registered::No,
            links: Vec::new(),
            root: PathBuf::new(),
            journal: None,
        })
    }

    /// Sets the limits of our unit, before there is a guest to be limited.
    pub(super) fn prepare(&self, setup: &Setup) -> Result<()> {
        let Setup { layout, name, config, .. } = setup;
        if dropin::has_limits(layout, name, config)? {
            return Ok(());
        }
        // The configuration was changed without lxm. In a child: there must be no runtime in this process when it
        // clones the guest.
        crate::sys::fork::run(|| dropin::write(layout, name, config))
    }

    /// The start waits for what is missing, for `left` at most.
    pub(super) fn awaits(&self, missing: &Error, left: Duration) {
        let more = left.saturating_add(START).as_micros();
        let missing = missing.to_string().replace('\n', ", ");
        self.notifier.tell(&format!("EXTEND_TIMEOUT_USEC={more}\nSTATUS=Waits: {missing}"));
    }

    /// Init has been executed.
    pub(super) fn started(&mut self, setup: &Setup, leader: &Child, links: &[String]) {
        self.root = PathBuf::from(format!("/proc/{}/root", leader.pid));
        self.links = links
            .iter()
            .filter_map(|link| nix::net::if_::if_nametoindex(link.as_str()).ok())
            .map(|index| index as i32)
            .collect();
        // The guest runs whether or not the host's tools know of it.
        self.registered = match self.register(setup, leader, machined::TIMEOUT) {
            Ok(()) => Registered::Yes,
            Err(e) => {
                crate::sys::log::line(&format!("warning: {e}"));
                Registered::Later { at: Instant::now() + REGISTER_AGAIN, pause: REGISTER_AGAIN }
            }
        };
        let says_ready = setup.config.boot.ready == ReadyCondition::Booted && setup.guest.init == Init::Systemd;
        if says_ready {
            self.notifier.tell("STATUS=Guest is booting");
        } else {
            self.become_ready("STATUS=Guest is running");
        }
    }

    fn register(&self, setup: &Setup, leader: &Child, timeout: Duration) -> Result<()> {
        let machine = Machine {
            name: &setup.layout.name_on_host(&setup.name),
            uuid: &setup.config.uuid,
            leader: leader.pid,
            pidfd: leader.pidfd.as_fd(),
            root: self.root.clone(),
            links: self.links.clone(),
        };
        machined::register(&machine, timeout)
    }

    /// Tries again what failed at the start, when it is due; returns how long until it is.
    fn register_again(&mut self, setup: &Setup, leader: &Child) -> Duration {
        let Registered::Later { at, pause } = self.registered else { return Duration::MAX };
        let left = at.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return left;
        }
        // Clients wait meanwhile. A machined that is being started is up the next time.
        if self.register(setup, leader, Duration::from_secs(1)).is_ok() {
            crate::sys::log::line("registered with systemd-machined at last");
            self.registered = Registered::Yes;
            return Duration::MAX;
        }
        let pause = (pause * 2).min(Duration::from_secs(3600));
        self.registered = Registered::Later { at: Instant::now() + pause, pause };
        pause
    }

    /// The guest's init has sent a message.
    pub(super) fn notified(&mut self, setup: &Setup, message: &Notification) {
        let passed = passed_on(&message.text);
        if message.ready {
            // By now it writes its journal where it is kept.
            match self.link_journal(setup) {
                Ok(link) => self.journal = link,
                Err(e) => crate::sys::log::line(&format!("warning: link the guest's journal: {e}")),
            }
            self.become_ready(&passed);
        } else if !passed.is_empty() {
            self.notifier.tell(&passed);
        }
    }

    fn link_journal(&self, setup: &Setup) -> Result<Option<JournalLink>> {
        let tree = setup.backend.tree(&setup.layout.container(&setup.name))?;
        JournalLink::make(&self.root, tree.as_deref())
    }

    fn become_ready(&mut self, more: &str) {
        self.ready = true;
        self.notifier.tell(&format!("READY=1\n{more}"));
    }

    /// Does what is due `booted` after the guest's boot; returns when to be called again at the latest.
    pub(super) fn tick(&mut self, setup: &Setup, leader: &Child, booted: Duration) -> Duration {
        let register = self.register_again(setup, leader);
        if !self.ready && booted >= READY_TIMEOUT {
            self.become_ready("STATUS=Guest has not said that it is ready");
        }
        let ready = if self.ready { Duration::MAX } else { READY_TIMEOUT - booted };
        let due = ready.min(register);
        let Some(interval) = self.notifier.watchdog() else { return due };
        if self.watched.elapsed() >= interval {
            self.notifier.tell("WATCHDOG=1");
            self.watched = Instant::now();
        }
        due.min(interval.saturating_sub(self.watched.elapsed()))
    }

    /// systemd has asked us to stop: says how long the guest may take, `left` being what an
    /// earlier request has left it.
    pub(super) fn asked_to_stop(&self, setup: &Setup, left: Option<Duration>) -> Duration {
        let limit = left.unwrap_or(setup.config.boot.stop_timeout.get());
        let budget = setup.host.shutdown_budget();
        let limit = match shutdown_began(&setup.layout) {
            Some(began) => limit.min(budget.saturating_sub(began)),
            None => limit,
        };
        let more = (limit + CLEANUP).as_micros();
        self.notifier.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={more}\nSTATUS=Guest is shutting down"));
        limit
    }

    /// The guest has ended: its name is free for its next boot.
    pub(super) fn ended(&mut self, name: &ContainerName) {
        let status = "STATUS=Guest has ended";
        // A service that ends before it was ready has failed, says systemd; this one did what its
        // guest wanted.
        if self.ready {
            self.notifier.tell(status)
        } else {
            self.become_ready(status)
        }
        if let Some(link) = self.journal.take() {
            link.leave();
        }
        if let Registered::Yes = std::mem::replace(&mut self.registered, Registered::No)
            && let Err(e) = machined::unregister(name)
        {
            crate::sys::log::line(&format!("warning: {e}"));
        }
    }

    pub(super) fn failed(&self, error: &Error) {
        // One line: a status has no more.
        self.notifier.tell(&format!("STATUS={}", error.to_string().replace('\n', ", ")));
    }
}

/// How long ago the host began to shut down; `None` when it does not.
///
/// The first supervisor that is asked writes the time down for the others.
fn shutdown_began(layout: &Layout) -> Option<Duration> {
    let booted = unit::stopping_since_boot().ok()??;
    let mark = layout.run().join(".shutdown");
    let marked = || mark.metadata().and_then(|meta| meta.modified()).ok().filter(|marked| *marked >= booted);
    if marked().is_none() {
        let _ = std::fs::File::create(&mark);
    }
    Some(SystemTime::now().duration_since(marked()?).unwrap_or_default())
}
