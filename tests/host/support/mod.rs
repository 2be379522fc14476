//! The harness of the privileged suite.
//!
//! A trial is a function that is given a [`Sandbox`]. It runs in a process of its own
//! ([`isolate`]), on a bare host of its own: private network, mount, pid, ipc, uts and cgroup
//! namespaces and a private `LXM_ROOT`. When it returns, [`leaks`] looks for what it left.

pub mod command;
pub mod guest;
pub mod isolate;
pub mod leaks;
pub mod pace;
pub mod pty;
pub mod sandbox;
pub mod trial;

pub use command::{Outcome, run};
pub use guest::Guest;
pub use sandbox::{Sandbox, eventually};
pub use trial::{Need, Trial};
