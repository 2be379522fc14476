//! Whom the kernel kills when memory runs out: `oom_score_adj` (proc_pid_oom_score_adj(5)).

use std::fs;
use std::sync::OnceLock;

use nix::unistd::Pid;

use crate::error::{Context, Result};

/// The last to be chosen, but not never (-1000): a process that cannot be killed and whose group has too little
/// memory for itself alone repeats its page fault forever.
const LAST: &str = "-999";

/// What this process had before it was made the last.
static ORDINARY: OnceLock<String> = OnceLock::new();

/// Makes this process the last to be killed. Its children are it, too, until they are [made ordinary](make_ordinary).
///
/// A supervisor is in the group that its guest's limits are set on, and often the largest process there: any user
/// of the guest who fills its memory would end the guest. Where we may not change it, it stays.
pub(crate) fn be_last() {
    let file = "/proc/self/oom_score_adj";
    let Ok(ordinary) = fs::read_to_string(file) else { return };
    if fs::write(file, LAST).is_ok() {
        let _ = ORDINARY.set(ordinary);
    }
}

/// Gives process `pid`, a child of one that is the last, what that had before.
///
/// To be done before the child is in a user namespace of its guest's, or from outside: what is written with
/// CAP_SYS_RESOURCE over the host is also the least that the process may give itself later
/// (`__set_oom_adj()` in fs/proc/base.c). Else the guest's root could exempt what it likes.
pub(crate) fn make_ordinary(pid: Pid) -> Result<()> {
    let Some(ordinary) = ORDINARY.get() else { return Ok(()) };
    let file = format!("/proc/{pid}/oom_score_adj");
    fs::write(&file, ordinary.trim()).context(|| format!("write `{file}`"))
}
