//! What became of a command: its exit status, or why it did not run.

use crate::client::unexpected;
use crate::error::Result;
use crate::proto::control::{OUR_FAILURE, Reply};
use crate::terminal::say;

/// The answer that ends it: an exit status.
pub(super) fn finish(answer: Reply) -> Result<u8> {
    match answer {
        Reply::Exited(exit) => Ok(exit.status()),
        Reply::NotRun { status: OUR_FAILURE, error } => Err(error),
        Reply::NotRun { status, error } => {
            say(format_args!("error: {error}"));
            Ok(status)
        }
        other => Err(unexpected(&other)),
    }
}
