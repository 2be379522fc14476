//! What the verbs do, step by step, each step with its undo. No flags and no printing here.
//!
//! It may name everything but `cli`. Start reading at `start`.

pub mod adopt;
pub mod autostart;
pub mod check;
pub mod config;
pub mod confined;
pub mod copy;
pub mod create;
pub mod destroy;
pub mod diff;
pub mod export;
pub mod fits;
pub mod freeze;
pub mod gc;
pub mod image;
pub mod import;
pub mod kill;
pub mod login;
pub mod logs;
pub mod mount;
pub mod network;
pub mod publish;
pub mod rename;
mod schedule;
pub mod snapshot;
pub mod ssh;
pub mod start;
pub mod stop;
pub mod transfer;
mod trust;
pub mod wait;
