//! What the verbs do, step by step, each step with its undo. No flags and no printing here.

pub mod autostart;
pub mod copy;
pub mod create;
pub mod destroy;
pub mod export;
pub mod freeze;
pub mod fresh;
pub mod gc;
pub mod guest_tree;
pub mod image;
pub mod import;
pub mod kill;
pub mod login;
pub mod logs;
pub mod look;
pub mod mount;
pub mod reading;
pub mod rename;
mod renew;
mod schedule;
pub mod snapshot;
pub mod start;
mod still;
pub mod stop;
pub mod sweep;
pub mod transfer;
pub mod wait;
