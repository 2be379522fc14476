//! What the verbs do, step by step, each step with its undo. No flags and no printing here.

pub mod autostart;
pub mod copy;
pub mod create;
pub mod fresh;
pub mod guest_tree;
pub mod image;
pub mod login;
pub mod look;
pub mod mount;
mod renew;
mod schedule;
pub mod snapshot;
pub mod start;
mod still;
pub mod stop;
pub mod transfer;
