//! What a process of ours starts with, whatever its caller has.
//!
//! Everything here is inherited over fork(2) and execve(2): a caller's `umask 077`, `ulimit -n 128`,
//! `nice`, `taskset`, `setarch -R` or `trap '' CHLD` would be the supervisor's, and then the guest's.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use crate::error::{Context, Result};

/// What systemd gives services (`DefaultLimitNOFILE=`): select(2) takes no more than the first, and a program
/// that wants more raises it to the second.
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// The rest as the kernel gives it to the first process (INIT_RLIMITS), with the sizes of today:
/// soft and hard.
const LIMITS: [(Resource, u64, u64); 13] = [
    (Resource::RLIMIT_CPU, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_DATA, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_STACK, 8 << 20, RLIM_INFINITY),
    (Resource::RLIMIT_CORE, 0, RLIM_INFINITY),
    (Resource::RLIMIT_RSS, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_MEMLOCK, 8 << 20, 8 << 20),
    (Resource::RLIMIT_AS, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_LOCKS, RLIM_INFINITY, RLIM_INFINITY),
    (Resource::RLIMIT_MSGQUEUE, 819_200, 819_200),
    (Resource::RLIMIT_NICE, 0, 0),
    (Resource::RLIMIT_RTPRIO, 0, 0),
    (Resource::RLIMIT_RTTIME, RLIM_INFINITY, RLIM_INFINITY),
];

/// Lets children be waited for whoever started us: what ignores SIGCHLD has none to wait for (waitpid(2)).
pub(crate) fn wait_for_children() {
    // SAFETY: the default action is no handler of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Known values for a process that only we configure: one cloned by a command line, which has taken [a
/// umask](super::umask) of its own. What a service manager has started has its unit's values, which are the
/// admin's.
pub(crate) fn as_a_daemon() -> Result<()> {
    super::signals::reset().context(|| "reset the signals")?;
    ignore_broken_pipes();
    for (resource, soft, hard) in LIMITS {
        set_limit(resource, soft, hard);
    }
    // Those of the first process depend on the host's memory, and it has them.
    for resource in [Resource::RLIMIT_NPROC, Resource::RLIMIT_SIGPENDING] {
        if let Some((soft, hard)) = limit_of_the_first(resource) {
            set_limit(resource, soft, hard);
        }
    }
    neutral_scheduling();
    neutral_attributes();
    Ok(())
}

/// Gives this process as many descriptors as it may have. Guests get [`guest_limits`].
pub(crate) fn many_descriptors() {
    set_limit(Resource::RLIMIT_NOFILE, OPEN_FILES.1, OPEN_FILES.1);
}

/// What a guest's processes begin with where ours have more.
pub(crate) fn guest_limits() {
    set_limit(Resource::RLIMIT_NOFILE, OPEN_FILES.0, OPEN_FILES.1);
}

/// Sets a limit; where we may not raise the hard one it stays, and the soft one is no higher.
fn set_limit(resource: Resource, soft: u64, hard: u64) {
    let Ok(now) = getrlimit(resource) else { return };
    if now != (soft, hard) && setrlimit(resource, soft, hard).is_err() {
        let _ = setrlimit(resource, soft.min(now.1), hard.min(now.1));
    }
}

fn limit_of_the_first(resource: Resource) -> Option<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit, which outlives the call; nothing is set.
    let result = unsafe { libc::prlimit(1, resource as _, std::ptr::null(), &raw mut limit) };
    (result == 0).then_some((limit.rlim_cur, limit.rlim_max))
}

/// A write to a closed pipe is an error, not the end; so Rust starts every program.
fn ignore_broken_pipes() {
    // SAFETY: to ignore a signal is no handler of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Ordinary scheduling on all processors. What we may not change stays as it is.
fn neutral_scheduling() {
    const ALL: [u64; 128] = [u64::MAX; 128];
    const IOPRIO_WHO_PROCESS: i32 = 1;
    let ordinary = libc::sched_param { sched_priority: 0 };
    // SAFETY: each takes integers, or memory that outlives the call and whose true size is given; none
    // of them changes memory of ours. A null mask asks set_mempolicy(2) for the default policy.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const ordinary);
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0);
        libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&ALL), ALL.as_ptr());
        libc::syscall(libc::SYS_set_mempolicy, libc::MPOL_DEFAULT, std::ptr::null::<u64>(), 0);
        libc::prctl(libc::PR_SET_TIMERSLACK, 50_000, 0, 0, 0);
    }
}

/// Pages shared with those of others, and what only a disk's own daemon wants: libc has neither.
const PR_SET_MEMORY_MERGE: i32 = 67;
const PR_SET_IO_FLUSHER: i32 = 57;

/// What our caller has that no process can give up again, and what a guest would miss.
pub(crate) fn for_good() -> Option<&'static str> {
    const PR_GET_MDWE: i32 = 66;
    // SAFETY: take integers only, and change nothing.
    let (no_new_privs, no_new_code) =
        unsafe { (libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), libc::prctl(PR_GET_MDWE, 0, 0, 0, 0)) };
    match () {
        () if no_new_privs == 1 => Some("no_new_privs: sudo, su and ping of users do not work"),
        () if no_new_code > 0 => Some("memory-deny-write-execute: programs that compile while they run do not work"),
        () => None,
    }
}

/// No personality, no special treatment by the kernel. What we may not change stays as it is.
fn neutral_attributes() {
    // SAFETY: take integers only.
    unsafe {
        libc::personality(0);
        libc::prctl(libc::PR_SET_SECUREBITS, 0, 0, 0, 0);
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0);
        libc::prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0);
        libc::prctl(libc::PR_MCE_KILL, libc::PR_MCE_KILL_CLEAR, 0, 0, 0);
        libc::prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0);
    }
    // A login's audit id is the admin's: what the guest does is not his doing (audit(7)).
    for (file, value) in [("oom_score_adj", "0"), ("coredump_filter", "0x33"), ("loginuid", "4294967295")] {
        let _ = std::fs::write(format!("/proc/self/{file}"), value);
    }
}
