//! Why a command was not executed.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::supervisor::setup::Setup;

/// Why a command was not executed, and the exit status that says so (`proto::control`).
pub(super) type Failure = (u8, Error);

/// The news of a failure.
#[derive(Serialize, Deserialize)]
pub(super) struct News {
    pub status: u8,
    pub error: Error,
}

/// Why there is no process for the command: most often the guest has all that it may have.
pub(super) fn no_process(setup: &Setup, e: Error) -> Error {
    let is_full = e.errno() == Some(libc::EAGAIN);
    let e = e.step(format!("start a process in `{}`", setup.name));
    if !is_full {
        return e;
    }
    let set = setup.layout.command(format_args!("config set {} limits.pids NUMBER", setup.name));
    e.hint(format!("it has as many processes as `limits.pids` allows; `{set}` changes that while it runs"))
}
