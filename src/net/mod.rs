//! The network of guests: links, bridges, addresses, rules of the firewall, published ports.
//!
//! All functions block. Those that make or delete links are called in short-lived processes: they
//! build a runtime, and the supervisor must not have one. [`connect()`] runs between the clone of a
//! guest's leader and the execution of its init.
//!
//! It may name `netserver`, `systemd` and what stands below them. Start reading at `connect`.

mod addresses;
mod announce;
pub mod bridge;
mod check;
mod connect;
mod disconnect;
mod firewall;
mod groups;
mod limit;
mod link;
pub mod names;
mod neighbours;
mod netlink;
mod observe;
pub mod owner;
mod plan;
pub mod publish;
mod rate;
pub mod reach;
mod record;
mod resolved;
pub mod rules;
pub mod server;
mod sysctl;

pub use addresses::check_addresses;
pub use check::{Finding, check};
pub use connect::{GuestLink, connect};
pub use disconnect::{disconnect, hold, is_wired, sweep};
pub use observe::{Addresses, Traffic, addresses, traffic};
pub use plan::mac_of;
pub use record::{GuestRecord, LinkRecord};
