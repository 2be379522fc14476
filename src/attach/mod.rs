//! The command line's side of `attach` and `console`: asks the supervisor, then relays between the
//! terminal here and the one there.

mod command;
mod console;
pub mod control;
mod escape;
mod relay;

pub use command::{Command, OUR_FAILURE, Terminal, run};
pub use console::{Until, console};
