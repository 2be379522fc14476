//! What can be seen of a container, each fact read when it is asked for and not before: a `list`
//! of sixty must not read what it does not show.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use nix::unistd::Pid;

use super::boot_report;
use crate::cgroup::stats::{self, Stats};
use crate::cgroup::{ContainerCgroup, Hierarchies};
use crate::client;
use crate::config::{Config, IdMap, PublishedPort};
use crate::error::{Error, Result};
use crate::net::{self, Dropped, Drops, GuestAddresses, GuestRecord, Traffic};
use crate::proto::control::SupervisorStatus;
use crate::storage::{self, Usage};
use crate::store::{self, AliveLock, BootRecord, LastRun, Layout, Origin};
use crate::sys::process;
use crate::types::{ContainerName, IdRange, Mac};

/// A container's state, by the words that LXC has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ContainerState {
    Running,
    Frozen,
    Starting,
    Stopping,
    Stopped,
}

impl ContainerState {
    pub(crate) const ALL: [ContainerState; 5] = [
        ContainerState::Running,
        ContainerState::Frozen,
        ContainerState::Starting,
        ContainerState::Stopping,
        ContainerState::Stopped,
    ];

    /// As machines read it; people read it in capitals.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ContainerState::Running => "running",
            ContainerState::Frozen => "frozen",
            ContainerState::Starting => "starting",
            ContainerState::Stopping => "stopping",
            ContainerState::Stopped => "stopped",
        }
    }
}

impl fmt::Display for ContainerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name().to_uppercase())
    }
}

impl FromStr for ContainerState {
    type Err = Error;

    /// Accepts upper and lower case: LXC users write capitals.
    fn from_str(s: &str) -> Result<Self> {
        ContainerState::ALL.into_iter().find(|state| s.eq_ignore_ascii_case(state.name())).ok_or_else(|| {
            let known = ContainerState::ALL.map(|state| format!("`{}`", state.name())).join(", ");
            Error::usage(format!("`{s}` is not a state")).hint(format!("states are {known}"))
        })
    }
}

/// Looks at containers: what is the same for all of them, read once.
pub(crate) struct Observer<'a> {
    layout: &'a Layout,
    hierarchies: Hierarchies,
    boot: OnceCell<BTreeMap<ContainerName, boot_report::BootState>>,
    drops: OnceCell<Drops>,
}

impl<'a> Observer<'a> {
    pub(crate) fn new(layout: &'a Layout) -> Result<Self> {
        Ok(Observer { layout, hierarchies: Hierarchies::detect()?, boot: OnceCell::new(), drops: OnceCell::new() })
    }

    /// Looks at one; fails with `Kind::NotFound` where there is none.
    pub(crate) fn look(&self, name: &ContainerName) -> Result<Observation<'_>> {
        self.layout.require(name)?;
        let (state, record) = self.state(name)?;
        Ok(Observation {
            observer: self,
            name: name.clone(),
            state,
            record,
            origin: OnceCell::new(),
            config: OnceCell::new(),
            stats: OnceCell::new(),
            addresses: OnceCell::new(),
            links: OnceCell::new(),
            usage: OnceCell::new(),
        })
    }

    /// Looks at all, in the order of their names.
    pub(crate) fn all(&self) -> Result<Vec<Observation<'_>>> {
        let seen = self.layout.names()?.into_iter().map(|name| self.look(&name));
        // A container destroyed since its name was read is left out.
        seen.filter(|seen| seen.as_ref().err().is_none_or(|e| e.kind() != crate::error::Kind::NotFound)).collect()
    }

    /// One that has a running or frozen guest; fails with `Kind::Conflict` where there is none.
    pub(crate) fn running(&self, name: &ContainerName) -> Result<Guest> {
        self.layout.require(name)?;
        match self.state(name)? {
            (_, Some(record)) => Ok(self.guest(record)),
            (ContainerState::Stopped, None) => Err(self.layout.not_running(name)),
            (state, None) => Err(Error::conflict(format!("container `{name}` is {}", state.name()))),
        }
    }

    pub(crate) fn guest(&self, record: BootRecord) -> Guest {
        Guest { hierarchies: self.hierarchies.clone(), record }
    }

    /// The state, and the record of the boot while the guest has a leader.
    pub(crate) fn state(&self, name: &ContainerName) -> Result<(ContainerState, Option<BootRecord>)> {
        if !AliveLock::is_held(self.layout, name)? {
            return Ok((ContainerState::Stopped, None));
        }
        // A record of an earlier supervisor does not count.
        let Some(record) = BootRecord::read(self.layout, name)? else { return Ok((ContainerState::Starting, None)) };
        if !process::is_same(&record.leader) {
            let ends = process::is_same(&record.supervisor);
            return Ok((if ends { ContainerState::Stopping } else { ContainerState::Starting }, None));
        }
        let cgroup = ContainerCgroup::new(self.hierarchies.clone(), record.cgroup.as_str());
        let state = if cgroup.is_frozen()? { ContainerState::Frozen } else { ContainerState::Running };
        Ok((state, Some(record)))
    }
}

/// A guest that runs.
pub(crate) struct Guest {
    hierarchies: Hierarchies,
    pub record: BootRecord,
}

impl Guest {
    pub(crate) fn cgroup(&self) -> ContainerCgroup {
        ContainerCgroup::new(self.hierarchies.clone(), self.record.cgroup.as_str())
    }
}

/// What was observed of a container at one time.
pub(crate) struct Observation<'a> {
    observer: &'a Observer<'a>,
    pub name: ContainerName,
    pub state: ContainerState,
    /// What it was started with, while the guest runs.
    pub record: Option<BootRecord>,
    origin: OnceCell<Result<Origin>>,
    config: OnceCell<Result<Config>>,
    stats: OnceCell<Stats>,
    addresses: OnceCell<GuestAddresses>,
    links: OnceCell<Vec<SeenLink>>,
    usage: OnceCell<Result<Usage>>,
}

/// One link of a guest.
pub(crate) struct SeenLink {
    /// Its name in the guest.
    pub guest: String,
    /// Its other end on the host, where it has one.
    pub host: Option<String>,
    pub mac: Mac,
    pub traffic: Option<Traffic>,
    /// Ports of the host that lead to it.
    pub publish: Vec<PublishedPort>,
    /// Who configures it: `host`, or what in the guest does; empty where it was wired by an earlier lxm.
    pub manager: String,
}

impl Observation<'_> {
    pub(crate) fn origin(&self) -> Result<&Origin, &Error> {
        self.origin.get_or_init(|| Origin::read(self.observer.layout, &self.name)).as_ref()
    }

    pub(crate) fn config(&self) -> Result<&Config, &Error> {
        self.config.get_or_init(|| self.observer.layout.config(&self.name)).as_ref()
    }

    /// What it uses; of one that does not run all is unknown.
    pub(crate) fn stats(&self) -> &Stats {
        self.stats.get_or_init(|| match &self.record {
            Some(record) => stats::read(&self.observer.hierarchies, &record.cgroup),
            None => Stats::default(),
        })
    }

    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        match self.stats.get() {
            Some(stats) => stats.memory_bytes,
            None => stats::memory(&self.observer.hierarchies, &self.record.as_ref()?.cgroup),
        }
    }

    /// What the guest's init reports of its boot. A supervisor too busy to answer is not waited for.
    pub(crate) fn boot_status(&self) -> Option<SupervisorStatus> {
        let layout = self.observer.layout;
        // One that reboots again and again is starting, and its supervisor says so.
        let restarts = || self.state == ContainerState::Starting && layout.control_socket(&self.name).exists();
        if self.record.is_none() && !restarts() {
            return None;
        }
        client::status(layout, &self.name, Duration::from_secs(1)).ok()
    }

    /// The guest's addresses; none while it shares the host's, or does not run.
    pub(crate) fn addresses(&self) -> &GuestAddresses {
        self.addresses.get_or_init(|| self.leader().map(net::addresses).unwrap_or_default())
    }

    /// What of the guest's the rules of the firewall have dropped, because it was sent from an address that is not
    /// its own. Nothing where the firewall cannot be asked.
    pub(crate) fn dropped(&self) -> Dropped {
        if self.record.is_none() {
            return Dropped::default();
        }
        let drops = self.observer.drops.get_or_init(|| net::drops(self.observer.layout).unwrap_or_default());
        net::dropped(self.observer.layout, &self.name, drops)
    }

    /// Why the guest may get no address of its bridge's.
    pub(crate) fn without_address(&self) -> Option<String> {
        self.record.as_ref().and_then(|_| net::without_address(self.observer.layout, &self.name))
    }

    pub(crate) fn links(&self) -> &[SeenLink] {
        self.links.get_or_init(|| self.read_links())
    }

    fn read_links(&self) -> Vec<SeenLink> {
        let record = self.record.as_ref().and_then(|_| GuestRecord::read(self.observer.layout, &self.name).ok()?);
        let links = record.into_iter().flat_map(|record| record.links);
        let seen = links.map(|link| SeenLink {
            traffic: link.host.as_deref().and_then(net::traffic),
            guest: link.guest,
            host: link.host,
            mac: link.mac,
            publish: link.publish,
            manager: link.manager,
        });
        seen.collect()
    }

    /// What its files take up on the disk. Visits every file, so it is measured only on request.
    pub(crate) fn usage(&self) -> Result<&Usage, &Error> {
        let measure = || {
            let backend = storage::backend(self.observer.layout, &self.origin().map_err(Clone::clone)?.storage)?;
            backend.usage(&self.observer.layout.container(&self.name))
        };
        self.usage.get_or_init(measure).as_ref()
    }

    /// The same if it was requested.
    pub(crate) fn measured(&self) -> Option<&Usage> {
        self.usage.get()?.as_ref().ok()
    }

    /// The guest's PID 1 seen from the host.
    pub(crate) fn leader(&self) -> Option<Pid> {
        self.record.as_ref().map(|record| Pid::from_raw(record.leader.pid))
    }

    /// How long the guest has run, by a clock that cannot be set.
    pub(crate) fn uptime(&self) -> Option<Duration> {
        process::age(&self.record.as_ref()?.leader)
    }

    /// How its last boot ended, if one has.
    pub(crate) fn last_run(&self) -> Option<LastRun> {
        let layout = self.observer.layout;
        // It was written when the guest had booted, and goes when the end is written.
        if self.state == ContainerState::Stopped && layout.boot_record(&self.name).exists() {
            return Some(LastRun::lost());
        }
        LastRun::read(layout, &self.name)
    }

    /// Why its last start failed, of one that does not run.
    pub(crate) fn failure(&self) -> Option<Error> {
        (self.state == ContainerState::Stopped).then(|| store::read_failure(self.observer.layout, &self.name))?
    }

    /// As it runs, else as it would be started; `None` where its configuration cannot be read.
    pub(crate) fn privileged(&self) -> Option<bool> {
        match &self.record {
            Some(record) => Some(record.privileged),
            None => Some(self.config().ok()?.security.privileged),
        }
    }

    /// The host ids that the guest's are mapped to: of a privileged one, none.
    pub(crate) fn ids(&self) -> Option<IdRange> {
        match (&self.record, self.privileged()?) {
            (Some(record), _) => record.ids,
            (None, true) => None,
            (None, false) => match self.config().ok()?.security.idmap {
                IdMap::Auto => Some(self.origin().ok()?.range()),
                IdMap::Fixed(range) => Some(range),
            },
        }
    }

    /// How its start went when the host booted; `None` where it was not to be started.
    pub(crate) fn boot(&self) -> Option<boot_report::BootState> {
        if self.autostart() != Some(true) {
            return None;
        }
        let report = || {
            // Where it is not known, everything else is shown all the same.
            let entries = boot_report::report(self.observer.layout).unwrap_or_default();
            entries.into_iter().map(|entry| (entry.name, entry.state)).collect()
        };
        self.observer.boot.get_or_init(report).get(&self.name).copied()
    }

    /// Whether it is started when the host boots.
    pub(crate) fn autostart(&self) -> Option<bool> {
        Some(boot_report::is_enabled(self.observer.layout, &self.name, self.config().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_known_by_the_words_of_lxc() {
        for state in ContainerState::ALL {
            assert_eq!(state.name().parse::<ContainerState>().unwrap(), state);
            assert_eq!(state.to_string().parse::<ContainerState>().unwrap(), state);
        }
        assert_eq!("up".parse::<ContainerState>().unwrap_err().kind().exit_status(), 2);
    }

    #[test]
    fn running_means_the_lock_is_held_whatever_a_record_says() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let name: ContainerName = "web".parse().unwrap();
        std::fs::create_dir_all(layout.container(&name)).unwrap();
        std::fs::write(layout.origin_file(&name), "").unwrap();
        let observer = Observer::new(&layout).unwrap();
        let state = || observer.look(&name).unwrap().state;
        assert_eq!(state(), ContainerState::Stopped);
        let lock = AliveLock::take(&layout, &name).unwrap();
        assert_eq!(state(), ContainerState::Starting);
        let this = process::generation(nix::unistd::getpid()).unwrap();
        let gone = crate::types::Generation { pid: this.pid, start_time: this.start_time + 1 };
        let record = |supervisor, leader| BootRecord {
            supervisor,
            leader,
            started: String::new(),
            privileged: false,
            init: "/sbin/init".into(),
            init_type: String::new(),
            ids: None,
            cgroup: "lxm-no-such/web".into(),
            links: Vec::new(),
            stages: Vec::new(),
        };
        for (supervisor, leader, wanted) in [
            (gone, gone, ContainerState::Starting),
            (this, gone, ContainerState::Stopping),
            (this, this, ContainerState::Running),
        ] {
            record(supervisor, leader).write(&layout, &name).unwrap();
            assert_eq!(state(), wanted);
        }
        drop(lock);
        assert_eq!(state(), ContainerState::Stopped);
    }
}
