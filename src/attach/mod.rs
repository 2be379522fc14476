//! The command line's side of `attach` and `console`: asks the supervisor, then relays between the
//! streams here and those there.
//!
//! A guest never gets an open file of the host: its side is a pipe of ours or a terminal of its own,
//! and the relay carries the bytes between. It would otherwise read what is typed next on the admin's
//! terminal, or what else is in the files and directories behind the descriptors.
//!
//! It may name `host` and what stands below it. Start reading at `command`.

mod command;
mod console;
mod ends;
mod escape;
mod flow;
mod outcome;
mod pipes;
mod relay;
mod stream;
mod terminal;

pub(crate) use crate::proto::control::OUR_FAILURE;
pub(crate) use command::{Command, TerminalMode, run};
pub(crate) use console::{Until, console};
pub(crate) use stream::join;
