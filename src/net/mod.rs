//! The network of guests: links, bridges, addresses, rules of the firewall, published ports.
//!
//! All functions block. Those that make or delete links are called in short-lived processes: they
//! build a runtime, and the supervisor must not have one. [`connect()`] runs between the clone of a
//! guest's leader and the execution of its init.
//!
//! It may name `netserver`, `systemd` and what stands below them. Start reading at `connect`.

mod addresses;
mod allow;
mod announce;
pub(crate) mod bridge;
mod check;
mod connect;
mod disconnect;
mod exhausted;
mod firewall;
mod foreign;
mod groups;
pub(crate) mod lease;
mod limit;
mod link;
pub(crate) mod names;
mod neighbours;
mod netlink;
mod observe;
pub(crate) mod owner;
mod plan;
pub(crate) mod preview;
pub(crate) mod publish;
pub(crate) mod reach;
mod reallow;
mod record;
mod repair;
mod resolved;
pub(crate) mod rules;
pub(crate) mod server;
mod sysctl;

pub(crate) use addresses::{check_addresses, check_plan, is_own_bridge};
pub(crate) use check::Finding;
pub use check::check;
pub use connect::{GuestLink, GuestSide, connect};
pub use disconnect::{disconnect, hold, is_wired, sweep};
pub(crate) use exhausted::without_address;
pub(crate) use foreign::dropped;
pub(crate) use observe::{GuestAddresses, Traffic, addresses, traffic};
pub(crate) use plan::mac_of;
pub(crate) use reallow::reallow;
pub(crate) use record::GuestRecord;
pub(crate) use repair::link_faults;
pub(crate) use rules::{Dropped, Drops, drops};
