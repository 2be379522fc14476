//! Leases of guests in which nothing asks for one: one process a container that has such interfaces.
//!
//! An image of an application, or a small root file system, has no DHCP client. Its lease is then kept from
//! outside: a client of ours sits in the guest's network namespace, on its interface, so that it works on every
//! bridge and link that a client in the guest would. It sets address and routes before init runs, renews the
//! lease, and gives it back when the guest ends.
//!
//! | file | idea |
//! |---|---|
//! | `message` | what a client sends, and what of an answer it uses |
//! | `client` | the states of RFC 2131, without input or output |
//! | `apply` | the lease becomes addresses and routes |
//! | `resolv` | the guest's `/etc/resolv.conf` |
//! | `link` | one interface: its socket, its client, what is to be done |
//! | `process` | its start, its life and its end |

mod apply;
mod client;
mod link;
mod message;
mod process;
pub(super) mod resolv;

pub(crate) use process::{run, spawn, stop};
