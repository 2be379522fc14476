//! The lease and name server of a bridge, `lxm network serve BRIDGE`: one small process each.
//!
//! It gives leases (DHCPv4), advertises the IPv6 prefix, and answers for the guests' names. It sees
//! requests for leases and solicitations through packet sockets, so that no firewall of the host
//! stands between, and gives up root before it reads the first of them.
//!
//! | file | idea |
//! |---|---|
//! | `guests` | which containers run on the bridge: a file each, written when they are wired |
//! | `frame`, `request`, `reply` | packets and messages, parsed and built |
//! | `dhcp4`, `lease`, `holders`, `lease_log` | who gets which address; how that is remembered |
//! | `ra` | router advertisements |
//! | `names`, `dns` | the guests' names; what a query is answered |
//! | `upstream`, `forward`, `rebind` | names of others, and which of them are not believed |
//! | `resolver`, `share` | the name server's sockets, and how much of it one guest may have |
//! | `link`, `privileges`, `state`, `status`, `server` | the process |
//! | `serve`, `running` | the process from its start; whether it runs, and its status |
//! | `watchdog` | its messages to the process that keeps the rules and starts it again |
//!
//! It may name `store` and what stands below it. Start reading at `serve`.

#[cfg(test)]
mod corpus;
mod dhcp4;
mod dns;
mod forward;
pub(crate) mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod guests;
mod holders;
mod lease;
mod lease_log;
mod link;
mod names;
mod privileges;
mod ra;
mod rebind;
mod reply;
mod request;
mod resolver;
mod running;
mod serve;
mod server;
mod share;
mod state;
mod status;
mod upstream;
pub(crate) mod watchdog;

pub(crate) use guests::how_many as how_many_guests;
pub(crate) use guests::read as guests_of;
pub use guests::{GuestEntry, announce, retract};
pub(crate) use running::process_file;
pub use running::{is_running, status};
pub(crate) use serve::serve;
pub use status::{GuestStatus, ServerStatus};
pub(crate) use watchdog::Watchdog;
