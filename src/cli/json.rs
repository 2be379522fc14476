//! A container's facts in the machine's form: `info` prints one, `list` a list of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::container::boot_report::BootState;
use crate::container::status::{Observation, SeenLink};
use crate::ops::confined::Confined;
use crate::store::{LastRun, RunEnd, StageTime};
use crate::types::Signal;

/// Unknown facts are `null`: the container does not run, or the host does not account for it.
#[derive(Debug, Serialize)]
pub(super) struct ContainerFacts {
    pub name: String,
    /// `running`, `frozen`, `starting`, `stopping` or `stopped`.
    pub state: &'static str,
    /// The guest's PID 1 seen from the host.
    pub pid: Option<i32>,
    pub supervisor_pid: Option<i32>,
    pub uptime_s: Option<f64>,
    pub ipv4: Vec<Ipv4Addr>,
    pub ipv6: Vec<Ipv6Addr>,
    /// Packets from addresses that are not its own, which were dropped within the last hour.
    pub blocked_packets: u64,
    /// Such addresses of the last minutes.
    pub blocked_addresses: Vec<IpAddr>,
    pub links: Vec<LinkFacts>,
    pub memory_bytes: Option<u64>,
    pub kmem_bytes: Option<u64>,
    pub cpu_s: Option<f64>,
    pub io_bytes: Option<u64>,
    pub processes: Option<u64>,
    pub autostart: Option<bool>,
    /// How its start with the host went: `started`, `slow`, `starting`, `failed`, `skipped` or `stopped`.
    pub boot: Option<&'static str>,
    pub privileged: Option<bool>,
    /// Host ids that the guest's are mapped to, `FIRST:COUNT`.
    pub ids: Option<String>,
    pub description: Option<String>,
    pub uuid: Option<String>,
    pub template: Option<String>,
    pub release: Option<String>,
    pub arch: Option<String>,
    pub image: Option<String>,
    pub storage: Option<String>,
    /// On disk, of it alone: what removing its files frees. Measured by `info`, and by a `list`
    /// that is asked for the column.
    pub size_bytes: Option<u64>,
    /// On disk, in common with images, snapshots and other containers.
    pub shared_bytes: Option<u64>,
    /// RFC 3339, UTC.
    pub created: Option<String>,
    /// RFC 3339, UTC.
    pub started: Option<String>,
    pub init: Option<String>,
    /// How its last boot ended, and that of which time.
    pub last_end: Option<EndFacts>,
    /// Why its last start failed, of one that does not run.
    pub failure: Option<String>,
    /// What kind of init it is, as `boot.init-type` writes it.
    pub init_type: Option<String>,
    /// Below each hierarchy's mount point.
    pub cgroup: Option<String>,
    /// What it is confined by.
    pub confinement: Option<ConfinementFacts>,
    /// Where the time of the start went.
    pub stages: Vec<StageTime>,
}

/// How a boot ended.
#[derive(Debug, Serialize)]
pub(super) struct EndFacts {
    /// RFC 3339, UTC.
    pub ended: String,
    /// `exited`, `signalled`, `powered-off`, `rebooted`, `shut-down`, `killed`, `timed-out` or `lost`.
    pub end: &'static str,
    /// Of its init, where that exited by itself.
    pub status: Option<i32>,
    /// That its init was killed by.
    pub signal: Option<String>,
    /// How long it was given to shut down, where that was not enough.
    pub timeout_s: Option<f64>,
    pub ran_s: f64,
    pub oom_kills: u64,
    /// The same in words.
    pub text: String,
    pub console: Vec<String>,
}

impl From<LastRun> for EndFacts {
    fn from(run: LastRun) -> Self {
        let seconds = |ms: u64| ms as f64 / 1e3;
        let (mut status, mut signal, mut timeout_s) = (None, None, None);
        match run.end {
            RunEnd::Exited(number) => status = Some(number),
            RunEnd::Signalled(number) => signal = Signal::from_number(number).map(|signal| signal.to_string()),
            RunEnd::TimedOut(ms) => timeout_s = Some(seconds(ms)),
            _ => {}
        }
        EndFacts {
            end: run.end.name(),
            status,
            signal,
            timeout_s,
            ran_s: seconds(run.lived_ms),
            oom_kills: run.oom_kills,
            text: run.to_string(),
            ended: run.ended,
            console: run.console,
        }
    }
}

/// What a guest is confined by; of one that does not run the settings alone are known.
#[derive(Debug, Serialize)]
pub(super) struct ConfinementFacts {
    pub user_namespace: bool,
    pub nesting: bool,
    /// As `security.capabilities-add` and `security.capabilities-drop` say.
    pub capabilities_added: Vec<String>,
    pub capabilities_dropped: Vec<String>,
    /// Of its init's bounding set, without `CAP_`.
    pub capabilities: Option<Vec<String>>,
    pub no_new_privs: Option<bool>,
    /// `default`, `reduced` or `off`.
    pub syscalls: &'static str,
    /// Groups of calls that are refused, by their names in `security.syscalls-allow`.
    pub refused_calls: Vec<&'static str>,
    pub seccomp_filters: Option<u64>,
    /// Kinds of sockets that can be made, as in `security.address-families`.
    pub address_families: Vec<String>,
    /// The label of its init.
    pub apparmor: Option<String>,
    /// The label of its init.
    pub selinux: Option<String>,
    /// Paths of /proc and /sys that are hidden from it, and read-only ones.
    pub masked: Option<Vec<String>>,
    pub read_only: Option<Vec<String>>,
    /// Devices beyond those that every guest has.
    pub devices: Vec<String>,
}

impl From<Confined> for ConfinementFacts {
    fn from(confined: Confined) -> Self {
        let running = confined.running.as_ref();
        ConfinementFacts {
            user_namespace: confined.user_namespace,
            nesting: confined.nesting,
            masked: running.map(|running| running.covers.masked.clone()),
            read_only: running.map(|running| running.covers.read_only.clone()),
            capabilities: running.map(|running| running.capabilities.clone()),
            no_new_privs: running.map(|running| running.no_new_privs),
            capabilities_added: confined.capabilities_added,
            capabilities_dropped: confined.capabilities_dropped,
            syscalls: confined.syscalls,
            refused_calls: confined.refused_calls,
            seccomp_filters: running.map(|running| running.seccomp_filters),
            address_families: confined.address_families,
            apparmor: running.and_then(|running| running.apparmor.clone()),
            selinux: running.and_then(|running| running.selinux.clone()),
            devices: confined.devices,
        }
    }
}

/// One link of a guest; its traffic as the guest sees it.
#[derive(Debug, Serialize)]
pub(super) struct LinkFacts {
    /// Its name in the guest.
    pub guest: String,
    /// Its other end on the host.
    pub host: Option<String>,
    pub mac: String,
    pub tx_bytes: Option<u64>,
    pub rx_bytes: Option<u64>,
    /// Ports of the host that lead to it, as `publish` has them.
    pub publish: Vec<String>,
    /// Who configures it: `host`, or the program in the guest that does.
    pub managed_by: Option<String>,
}

impl LinkFacts {
    fn of(link: &SeenLink) -> Self {
        LinkFacts {
            guest: link.guest.clone(),
            host: link.host.clone(),
            mac: link.mac.to_string(),
            tx_bytes: link.traffic.map(|traffic| traffic.sent),
            rx_bytes: link.traffic.map(|traffic| traffic.received),
            publish: link.publish.iter().map(ToString::to_string).collect(),
            managed_by: Some(link.manager.clone()).filter(|manager| !manager.is_empty()),
        }
    }
}

impl ContainerFacts {
    pub(super) fn of(seen: &Observation) -> Self {
        let (record, stats) = (seen.record.as_ref(), seen.stats());
        let (origin, config) = (seen.origin().ok(), seen.config().ok());
        let addresses = seen.addresses();
        let dropped = seen.dropped();
        ContainerFacts {
            blocked_packets: dropped.packets,
            blocked_addresses: dropped.addresses,
            name: seen.name.to_string(),
            state: seen.state.name(),
            pid: record.map(|record| record.leader.pid),
            supervisor_pid: record.map(|record| record.supervisor.pid),
            uptime_s: seen.uptime().map(|uptime| uptime.as_secs_f64()),
            ipv4: addresses.ipv4.clone(),
            ipv6: addresses.all_ipv6(),
            links: seen.links().iter().map(LinkFacts::of).collect(),
            memory_bytes: stats.memory_bytes,
            kmem_bytes: stats.kmem_bytes,
            cpu_s: stats.cpu_ns.map(|ns| ns as f64 / 1e9),
            io_bytes: stats.io_bytes,
            processes: stats.pids,
            autostart: seen.autostart(),
            boot: seen.boot().map(BootState::name),
            privileged: seen.privileged(),
            ids: seen.ids().map(|range| range.to_string()),
            description: config.map(|config| config.description.clone()),
            uuid: config.map(|config| config.uuid.clone()),
            template: origin.map(|origin| origin.template.clone()),
            release: origin.map(|origin| origin.release.clone()),
            arch: origin.map(|origin| origin.arch.to_string()),
            image: origin.map(|origin| origin.image.clone()),
            storage: origin.map(|origin| origin.storage.clone()),
            size_bytes: seen.measured().map(|usage| usage.own),
            shared_bytes: seen.measured().map(|usage| usage.shared),
            created: origin.map(|origin| origin.created.clone()),
            started: record.map(|record| record.started.clone()),
            init: record.map(|record| record.init.clone()),
            last_end: seen.last_run().map(EndFacts::from),
            failure: seen.failure().map(|failure| failure.to_string()),
            init_type: record.map(|record| record.init_type.clone()).filter(|kind| !kind.is_empty()),
            cgroup: record.map(|record| record.cgroup.clone()),
            confinement: Confined::of(seen).map(ConfinementFacts::from),
            stages: record.map(|record| record.stages.clone()).unwrap_or_default(),
        }
    }
}

/// A quantity of bytes as `lxc-info` writes it: strictly above a unit that unit is used.
pub(super) fn bytes(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes > 1 << shift) {
        Some((unit, shift)) => format!("{:.2} {unit}", bytes as f64 / f64::from(1u32 << shift)),
        None => format!("{bytes} bytes"),
    }
}

/// A length of time in its two largest units: `3d 4h`, `12m 5s`, `7s`.
pub(super) fn duration(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    let parts = [(seconds / 86400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = parts.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    let shown: Vec<String> = parts[first..].iter().take(2).map(|(n, unit)| format!("{n}{unit}")).collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_lxc_info_writes_them() {
        for (n, text) in [
            (0, "0 bytes"),
            (1024, "1024 bytes"),
            (1025, "1.00 KiB"),
            (1536 << 10, "1.50 MiB"),
            (1 << 30, "1024.00 MiB"),
            (5 << 30, "5.00 GiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn a_duration_has_its_two_largest_units() {
        for (s, text) in [(0, "0s"), (7, "7s"), (60, "1m 0s"), (725, "12m 5s"), (3600 * 76 + 59, "3d 4h")] {
            assert_eq!(duration(std::time::Duration::from_secs(s)), text);
        }
    }
}
