//! lxm: system containers on one Linux host. `docs/ARCHITECTURE.md` is the map and the invariants.

pub mod attach;
pub mod cgroup;
pub mod cli;
pub mod client;
pub mod config;
pub mod container;
pub mod distro;
pub mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod host;
pub mod identity;
pub mod image;
pub mod inside;
pub mod net;
pub mod netserver;
pub mod ops;
pub mod progress;
pub mod proto;
pub mod storage;
pub mod store;
pub mod supervisor;
pub mod sys;
pub mod systemd;
pub mod template;
pub mod terminal;
pub mod types;
