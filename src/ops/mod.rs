//! What the verbs do, step by step, each step with its undo. No flags and no printing here.

pub mod mount;
pub mod fresh;
pub mod login;
mod schedule;
pub mod snapshot;
pub mod start;
mod still;
pub mod stop;
