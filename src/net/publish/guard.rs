//! The parent of the process that carries a container's published ports: starts it again when it is killed.

use std::fs::File;
use std::time::{Duration, Instant};

use caps::Capability;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use super::process;
use super::record::record_file;
use crate::error::{Context, Error, Result};
use crate::net::record::GuestRecord;
use crate::store::Layout;
use crate::sys;
use crate::sys::clone::{SingleThreaded, clone};
use crate::sys::{helper, pidfd, privileges};
use crate::types::ContainerName;

/// How long a killed carrier stays away, and how much longer each time that it is killed again, or cannot be started.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_AT_MOST: Duration = Duration::from_secs(30);
/// One that has lived so long is started again at once.
const LONG_LIFE: Duration = Duration::from_secs(60);

/// What a carrier needs to begin; it gives up the most of it.
const CAPABILITIES: [Capability; 6] = [
    // The rules of the firewall, and the ports below 1024.
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    // To listen in the guest's network namespace, and to name the program that has a port.
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_SETPCAP,
];

/// Is the process that was started for a container: the parent of its carrier, until the guest has ended.
pub(crate) fn run(layout: &Layout, name: &ContainerName) -> Result<()> {
    let prepared = prepare(layout, name).inspect_err(|e| drop(helper::report(Some(e))))?;
    let mut pause = PAUSE_FIRST;
    loop {
        let begun = Instant::now();
        let carrier = clone(SingleThreaded::check()?, 0, None, || u8::from(process::run(layout, name).is_err()));
        let carrier = carrier.context(|| "start the carrier of published ports")?;
        // Who has started us waits for the carrier's word.
        let null = File::options().write(true).open("/dev/null").context(|| "open `/dev/null`")?;
        nix::unistd::dup2_stdout(&null).context(|| "close standard output")?;
        match pidfd::reap(&carrier.pidfd)? {
            WaitStatus::Exited(_, 0) => return Ok(()),
            // It has said why.
            WaitStatus::Exited(..) if !record_file(layout, name).exists() => return Ok(()),
            _ => {}
        }
        if begun.elapsed() >= LONG_LIFE {
            pause = PAUSE_FIRST;
        }
        // Whoever ends it on purpose takes its record away meanwhile.
        if pidfd::wait_exit(&prepared, pause)? || !record_file(layout, name).exists() {
            return Ok(());
        }
        pause = (pause * 2).min(PAUSE_AT_MOST);
    }
}

/// The guest's leader, with whose end there is nothing to carry any more.
fn prepare(layout: &Layout, name: &ContainerName) -> Result<std::os::fd::OwnedFd> {
    sys::birth::as_a_daemon()?;
    // Whoever started the container may end, and its terminal be closed.
    let _ = nix::unistd::setsid();
    let record = GuestRecord::read(layout, name)?.ok_or_else(|| Error::failed(format!("`{name}` has no network")))?;
    let leader = pidfd::open(Pid::from_raw(record.leader))?;
    privileges::bound(&CAPABILITIES)?;
    privileges::keep(&CAPABILITIES)?;
    Ok(leader)
}
