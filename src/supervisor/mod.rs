//! A container's supervisor, `lxm supervise NAME`: the parent of its init, and all that lxm needs
//! to stay alive for it.
//!
//! One process, one thread, no runtime: it boots the guest, then waits in poll(2). Running means
//! that it holds the alive lock; when it dies the guest dies with it, and nothing is left but what
//! the next start sweeps: its mounts were in a mount namespace of its own.
//!
//! It may name `identity` and what stands below it. Start reading at `run`, then `boot` and `event_loop`.

pub(crate) mod answer;
mod attach;
mod awaited;
mod bind;
mod boot;
mod clients;
mod console;
mod dev;
mod ending;
mod enter;
mod event_loop;
mod execute;
mod manager;
mod mount_ids;
mod not_run;
mod notify;
mod pause;
mod policy;
mod poll_set;
mod rights;
mod run;
mod service;
mod setup;
mod stage;
mod startable;
mod stop;
mod unattended;
mod user;

pub(crate) use awaited::{PAUSE, absent, await_host};
pub(crate) use manager::{Manager, Started};
pub(crate) use run::run;
pub use stage::Stage;
pub(crate) use startable::require_startable;
