//! What the verbs do, step by step, each step with its undo. No flags and no printing here.
//!
//! It may name everything but `cli`. Start reading at `start`.

pub(crate) mod adopt;
pub(crate) mod autostart;
pub(crate) mod beside_unit;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod confined;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod dependants;
pub(crate) mod destroy;
pub(crate) mod diff;
pub(crate) mod export;
pub(crate) mod fits;
pub(crate) mod freeze;
pub(crate) mod gc;
pub(crate) mod image;
pub(crate) mod import;
pub(crate) mod kill;
pub(crate) mod login;
pub(crate) mod logs;
mod meaning;
pub(crate) mod mount;
pub(crate) mod network;
mod on_host;
pub(crate) mod publish;
pub(crate) mod rename;
mod schedule;
pub(crate) mod snapshot;
pub(crate) mod ssh;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod transfer;
mod trust;
pub(crate) mod wait;
