//! The control socket of a supervisor (`/run/lxm/NAME/control.sock`, `SOCK_SEQPACKET`).
//!
//! A client sends one [`Request`] per connection, with the descriptors its documentation names,
//! and reads [`Reply`]s until the one that ends it. Only root can connect (mode 0600).

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::types::Signal;

/// Exit statuses of an attached command for what is not its own, as env(1) and docker have them: lxm failed …
pub(crate) const OUR_FAILURE: u8 = 125;

/// … the command cannot be executed …
pub(crate) const NOT_EXECUTABLE: u8 = 126;

/// … there is no such command.
pub(crate) const NOT_FOUND: u8 = 127;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// One [`Reply::Status`].
    Status,
    /// Stops the container. [`Reply::StopStage`] for each escalation, then [`Reply::Stopped`].
    Stop(StopRequest),
    /// Shuts the guest down in its own way and boots it again, as `reboot` in the guest does.
    /// [`Reply::StopStage`]s, then [`Reply::Rebooted`].
    Reboot(StopRequest),
    /// Runs a command in the guest. Descriptors: standard input, output and error, unless `tty`.
    /// [`Reply::Terminal`] first where `tty`, then [`Reply::Exited`], or [`Reply::NotRun`].
    Attach(AttachRequest),
    /// To the command of this connection's [`Request::Attach`]; no reply.
    Signal(Signal),
    /// Joins the console. Descriptor: one end of a stream socket that will carry it both ways.
    /// [`Reply::Console`]; the socket lives on without the connection.
    Console { rows: u16, cols: u16 },
    /// Sets the console's window size. One [`Reply::Done`].
    Resize { rows: u16, cols: u16 },
    /// [`Reply::Status`] at once and at each change, until the container stops (end of file).
    Watch,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct StopRequest {
    /// How long the guest may take to shut down in order; 0 kills it at once.
    pub timeout_ms: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct AttachRequest {
    /// Program and arguments; empty means the user's login shell.
    pub command: Vec<String>,
    /// `NAME`, `NAME:GROUP` or numbers; unset means root.
    pub user: Option<String>,
    pub cwd: Option<String>,
    /// `K=V`, in force over everything else.
    pub env: Vec<String>,
    /// Start from an empty environment rather than the guest's default one.
    pub clear_env: bool,
    pub tty: bool,
    /// Window size where `tty`.
    pub rows: u16,
    pub cols: u16,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Reply {
    Status(SupervisorStatus),
    /// The name that supervisors started by an older lxm use.
    #[serde(rename = "rung")]
    StopStage(StopStage),
    Stopped(StopStage),
    Rebooted(StopStage),
    /// Descriptor: the master side of a terminal in the guest's own devpts.
    Terminal,
    Exited(Exit),
    /// The command was found but not executable, or not found, or something of ours failed.
    NotRun {
        /// [`OUR_FAILURE`], [`NOT_EXECUTABLE`] or [`NOT_FOUND`].
        status: u8,
        error: Error,
    },
    /// The console log holds what this boot wrote before the socket came: bytes `from..to` of it,
    /// or where it was `rotated` from `from` of the rotated file on and then up to `to`.
    Console {
        from: u64,
        to: u64,
        rotated: bool,
    },
    Done,
    Failed(Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum GuestState {
    Starting,
    Running,
    Stopping,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct SupervisorStatus {
    pub state: GuestState,
    pub leader: i32,
    /// The guest has said `READY=1`; `None` for an init that does not say it.
    pub ready: Option<bool>,
    /// The last `STATUS=` of the guest's init.
    pub text: String,
    /// Microseconds that the guest took from the execution of init to `READY=1`.
    pub boot_us: Option<u64>,
    pub boots: u32,
}

/// What it took to stop a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StopStage {
    /// It ended by itself.
    Exited,
    /// It shut down in order after its init's own signal.
    Signalled(Signal),
    /// It shut down in order after its init's own command was run in it.
    Commanded,
    /// It was killed.
    Killed,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Exit {
    Code(u8),
    Signal(i32),
}

/// What [`crate::fuzz`] gives to both sides.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(input: &[u8]) {
    let _ = serde_json::from_slice::<Request>(input);
    let _ = serde_json::from_slice::<Reply>(input);
}

impl Exit {
    /// The status a shell would give: the code, or 128 plus the signal's number.
    pub(crate) fn status(self) -> u8 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => (128 + signal).clamp(0, 255) as u8,
        }
    }
}
