//! What is known of distributions: what a root file system holds, and the edits that make it a guest.
//!
//! All edits are computed by pure functions of a read-only [`View`] and applied by [`edit::apply`],
//! so they can be looked at, tested as values, and applied twice with the result of once.
//!
//! It may name `config`, `sys` and what stands below them. Start reading at `prepare`.

mod accounts;
mod alpine;
pub(crate) mod compat;
mod configurator;
pub(crate) mod edit;
mod identity;
pub(crate) mod init;
mod inspect;
mod network;
pub(crate) mod packages;
mod prepare;
mod systemd;
mod sysv;
mod units;
mod view;

pub use accounts::Login;
pub(crate) use configurator::configurator;
pub(crate) use edit::Edit;
pub use identity::{HostKeys, Identity};
pub(crate) use inspect::{GuestSystem, inspect};
pub(crate) use packages::{Packages, packages};
pub use prepare::{Extras, REVISION, customize, prepare};
pub(crate) use view::View;
