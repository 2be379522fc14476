//! Commands run in the guest for `lxm attach`: children of the supervisor.
//!
//! They are cloned here rather than by the command line because here they are born in the guest's
//! groups: a process that joins them later waits for an RCU grace period in every v1 hierarchy.
//!
//! Two processes bring a command in ([`super::enter`]), because a guest may freeze, stop and trace what it
//! sees, and a privileged one may then look into it (/proc/PID/root, fd, mem). The *helper* enters everything
//! but the guest's pid namespace: no guest sees it. When nothing of the host is left to it, neither rights
//! nor open files, it clones the command's process, which is born in the guest's pid namespace and has
//! nothing to do but to execute the command. The supervisor waits for neither: end of file of a pipe tells it
//! that the command has been executed.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};

use super::enter;
use super::not_run::{Failure, News, no_process};
use super::setup::Setup;
use crate::error::{Context, Error, Result};
use crate::proto::control::{AttachRequest, OUR_FAILURE};
use crate::sys::clone::{Child, SiblingPid, SingleThreaded, clone};
use crate::sys::pidfd;
use crate::sys::socket::Packets;
use crate::types::Signal;

/// More than any failure is long. What is in the pipe may be the guest's.
const LONGEST_REPORT: usize = 64 << 10;

/// How long a command may be on its way in before it is looked whether the guest holds it up.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The same, whatever holds it up: a file system that does not answer, for one.
const LIMIT: Duration = Duration::from_secs(60);

/// A command on its way into the guest.
pub(super) struct Entering {
    helper: Child,
    /// Written by neither process unless it fails; ends when the command is executed.
    report: File,
    text: Vec<u8>,
    pid: SiblingPid,
    since: Instant,
    /// The client that asked for it has gone.
    abandoned: bool,
}

/// What became of it.
pub(super) enum Entered {
    /// It has been executed.
    Running(Child),
    NotRun(Failure),
}

/// Begins to bring `request` into the guest of `leader`; a terminal of its own goes to `client`.
///
/// `fds` are pipes: the standard streams, or the standard error beside a terminal.
pub(super) fn spawn(
    setup: &Setup,
    leader: &OwnedFd,
    request: &AttachRequest,
    client: Option<&Packets>,
    fds: Vec<OwnedFd>,
) -> Result<Entering> {
    fds.iter().try_for_each(require_pipe)?;
    let group = setup.cgroup.open_attach(setup.ids)?;
    let (report, told) = pipe_with(PipeFlags::CLOEXEC).context(|| "make a pipe")?;
    rustix::io::ioctl_fionbio(&report, true).context(|| "set up a pipe")?;
    let pid = SiblingPid::new()?;
    let witness = SingleThreaded::check()?;
    let childs = witness.of_child();
    let order = enter::EnterRequest { setup, leader, request, client, fds, told: told.as_fd(), pid: &pid };
    let helper = clone(witness, 0, Some(group.as_fd()), || enter::run(order, childs));
    let helper = helper.map_err(|e| no_process(setup, e))?;
    let report = File::from(report);
    Ok(Entering { helper, report, text: Vec::new(), pid, since: Instant::now(), abandoned: false })
}

/// A client is root's and believed in much, but a guest gets pipes and nothing else.
fn require_pipe(fd: &OwnedFd) -> Result<()> {
    const PIPEFS_MAGIC: u64 = 0x5049_5045;
    let is_pipe = rustix::fs::fstatfs(fd).is_ok_and(|stat| stat.f_type as u64 == PIPEFS_MAGIC);
    if is_pipe {
        return Ok(());
    }
    Err(Error::failed("the streams of a command in a guest must be pipes")
        .hint("the running supervisor may be of another version of lxm: restart the container"))
}

impl Entering {
    pub(super) fn report(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }

    /// Reads its report; `None` while it is still under way.
    pub(super) fn look(&mut self) -> Option<Entered> {
        let mut buffer = [0; 4096];
        loop {
            match self.report.read(&mut buffer) {
                Ok(0) => return Some(self.outcome()),
                Ok(length) if self.text.len() + length <= LONGEST_REPORT => self.text.extend(&buffer[..length]),
                Ok(_) => return Some(not_run(Error::failed("the command was tampered with"))),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return None,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Some(not_run(e.into())),
            }
        }
    }

    /// Nothing in here is an error of the supervisor's: the guest runs on, whatever became of a command.
    fn outcome(&self) -> Entered {
        if !self.text.is_empty() {
            return match serde_json::from_slice(&self.text) {
                Ok(News { status, error }) => Entered::NotRun((status, error)),
                Err(e) => not_run(Error::failed(format!("malformed message of the command's process: {e}"))),
            };
        }
        match self.child() {
            Ok(Some(child)) => Entered::Running(child),
            Ok(None) => not_run(Error::failed("the process that was to run the command was killed")),
            Err(e) => {
                // Our own child, not reaped: the pid is not used again.
                self.pid.get().map(|pid| nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL));
                not_run(e)
            }
        }
    }

    /// The command's process, if there is one yet. It may have executed the command already: the end of
    /// file that says so comes only when the helper has ended, too.
    pub(super) fn child(&self) -> Result<Option<Child>> {
        self.pid.get().map(|pid| Ok(Child { pid, pidfd: pidfd::open(pid)? })).transpose()
    }

    /// Kills it: its client has gone, or was told that it takes too long.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
        let _ = pidfd::send_signal(&self.helper.pidfd, Signal::KILL);
        if let Ok(Some(child)) = self.child() {
            let _ = pidfd::send_signal(&child.pidfd, Signal::KILL);
        }
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// When to look at it next, if no report comes.
    pub(super) fn due(&self) -> Duration {
        if self.abandoned { Duration::MAX } else { TIMEOUT.saturating_sub(self.since.elapsed()).max(POLL_INTERVAL) }
    }

    /// Why it is not waited for any longer, if it is not.
    pub(super) fn is_late(&self, setup: &Setup) -> Option<Error> {
        let name = &setup.name;
        let waited = self.since.elapsed();
        if self.abandoned || waited < TIMEOUT {
            return None;
        }
        if setup.cgroup.is_attach_frozen() {
            let error = Error::timed_out(format!("`{name}` has frozen the cgroup of the command"));
            return Some(error.hint(thaw(setup)));
        }
        (waited >= LIMIT).then(|| Error::timed_out(format!("the command was not started in `{name}` in time")))
    }

    /// The processes that are to be reaped when it has come to its end, but for a command that runs.
    pub(super) fn into_processes(self, outcome: &Entered) -> Vec<Child> {
        let mut left = Vec::new();
        if let (Entered::NotRun(_), Ok(Some(child))) = (outcome, self.child()) {
            left.push(child);
        }
        left.push(self.helper);
        left
    }

    /// Ends and reaps all of it: the guest is dead. The helper is in none of its namespaces of pids.
    pub(super) fn reap(mut self) {
        self.abandon();
        let child = self.child().ok().flatten();
        for process in child.iter().chain([&self.helper]) {
            let _ = pidfd::wait_exit(&process.pidfd, Duration::from_secs(5));
            let _ = pidfd::try_reap(&process.pidfd);
        }
    }
}

fn not_run(error: Error) -> Entered {
    Entered::NotRun((OUR_FAILURE, error))
}

/// How often to look at a command that is late.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

fn thaw(setup: &Setup) -> String {
    let restart = setup.layout.command(format_args!("restart {}", setup.name));
    format!(
        "the guest has frozen its group `/sys/fs/cgroup/.lxm`: writing 0 to `cgroup.freeze` there, or \
         `{restart}`, lets commands run again"
    )
}
