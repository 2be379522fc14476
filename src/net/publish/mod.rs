//! Published ports of a guest: a process a container that has some, and its parent, which starts it again when it is
//! killed.
//!
//! It binds the ports, so that no other program can have them, and carries what this host and its guests send
//! to them. What comes from outside the kernel translates, once the guest has an address: the process listens
//! in the guest's network namespace for addresses, writes them down and has the rules made anew. It ends with
//! the guest.
//!
//! | file | idea |
//! |---|---|
//! | `bind` | the sockets, and which program has a port that is taken |
//! | `carry` | what arrives is carried to the guest and back |
//! | `guard` | the parent |
//! | `given` | which of the guest's addresses a port may lead to |
//! | `process` | its start, its life and its end |
//! | `record` | where the ports lead, on disk |
//! | `watch` | the guest's addresses, as they come and go |

mod bind;
mod carry;
mod datagrams;
mod given;
mod guard;
mod process;
mod record;
mod watch;

pub(crate) use bind::require_free;
pub(crate) use guard::run;
pub(crate) use process::{spawn, stop};
pub(crate) use record::{Published, all, is_carried};
