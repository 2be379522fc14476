//! Facts about processes from /proc.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::types::Generation;

/// When `pid` started, in clock ticks since boot: with the pid, its identity.
pub(crate) fn generation(pid: Pid) -> Result<Generation> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .context(|| format!("read the start time of process {pid}"))?;
    // The name may hold spaces and parentheses; the last `)` ends it (proc_pid_stat(5)).
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let start_time = fields.split(' ').nth(19).and_then(|field| field.parse().ok());
    let start_time =
        start_time.ok_or_else(|| Error::failed(format!("/proc/{pid}/stat is not as proc_pid_stat(5) says")))?;
    Ok(Generation { pid: pid.as_raw(), start_time })
}

/// How long ago a process started, by a clock that cannot be set.
pub(crate) fn age(process: &Generation) -> Option<Duration> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    let started = Duration::from_secs_f64(process.start_time as f64 / ticks as f64);
    let since_boot = std::fs::read_to_string("/proc/uptime").ok()?;
    let now = Duration::from_secs_f64(since_boot.split(' ').next()?.parse().ok()?);
    Some(now.saturating_sub(started))
}

/// Whether the process that a record speaks of is still that process.
pub(crate) fn is_same(generation_then: &Generation) -> bool {
    generation(Pid::from_raw(generation_then.pid)).is_ok_and(|now| now == *generation_then)
}

/// Whether a process takes `signal`: it catches it, blocks it, or waits for it.
///
/// systemd blocks what it reads from a signalfd. busybox's init waits in sigtimedwait(2), during
/// which the kernel unblocks what is waited for and no mask shows it.
pub(crate) fn takes_signal(pid: Pid, signal: crate::types::Signal) -> Result<bool> {
    if is_in_mask(pid, &["SigCgt:", "SigBlk:"], signal)? {
        return Ok(true);
    }
    let waits_in = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    Ok(waits_in.contains("sigtimedwait"))
}

/// Whether `signal` was sent to a process that has not taken it yet.
pub(crate) fn has_pending(pid: Pid, signal: crate::types::Signal) -> Result<bool> {
    is_in_mask(pid, &["SigPnd:", "ShdPnd:"], signal)
}

/// Whether `signal` is in one of the masks of a process that proc_pid_status(5) has by these names.
fn is_in_mask(pid: Pid, names: &[&str], signal: crate::types::Signal) -> Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .context(|| format!("read the signals of process {pid}"))?;
    let mask = |name: &&str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    };
    Ok(names.iter().map(mask).any(|mask| mask & (1 << (signal.number() - 1)) != 0))
}

/// Has `command` signalled when this process dies, however it dies: nothing is left to wait for it.
///
/// To be called in the thread that spawns it and stays: the kernel watches the thread
/// (PR_SET_PDEATHSIG, prctl(2)).
pub(crate) fn end_with_parent(command: &mut Command, signal: Signal) {
    let parent = nix::unistd::getpid();
    // SAFETY: what runs between fork and exec makes two system calls and touches no lock or heap.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(signal)?;
            // It may have died before the call, and then nothing would be sent.
            if nix::unistd::getppid() != parent {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}
