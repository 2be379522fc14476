//! What runs in the container before its init: from the clone to the exec.
//!
//! This code runs in a child of the supervisor that has not executed anything yet. It never
//! returns into the supervisor's code: [`boot`] ends in `execve` or gives the status to exit with.
//! What it needs was computed before the clone ([`BootPlan`]); what only the host can make
//! (mounts, device nodes) comes as descriptors over the boot socket. It names neither the network
//! nor the host's service manager, and starts no runtime and no thread.
//!
//! ```text
//! supervisor                       child
//! clone3 ------------------------>
//! write id maps
//! Root {rootfs, dev} ------------> pivot_root, /proc, /sys, /dev, /run
//! Bind {mount} … ----------------> console pty, notify socket
//! Complete ----------------------> the locked copy of it all ([`lock_mounts`])
//! wire the network
//!                <---------------- Prepared {console, notify}
//! Release ------------------------> drop capabilities, seccomp, execve
//!                <---------------- end of file: init is running; or Failed(error)
//! ```
//!
//! It may name `sys`, `config`, `proto` and what stands below them. Start reading at `init`.

mod capabilities;
mod confine;
mod init;
mod lock;
pub(crate) mod lsm;
mod mounts;
mod places;
mod plan;
mod run_host;
pub(crate) mod seccomp;

pub(crate) use capabilities::{CapabilitySet, is_kept_by_default};
pub(crate) use confine::{Confinement, confine};
pub(crate) use init::{boot, refuse};
pub(crate) use lock::lock_mounts;
pub(crate) use mounts::DEV_DIRECTORIES;
pub(crate) use plan::{BootPlan, FromChild, NetworkView, ToChild};
