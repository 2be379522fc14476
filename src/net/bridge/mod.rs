//! Bridges: lxm's own, made on first use, and the host's, used as they are.
//!
//! | file | idea |
//! |---|---|
//! | `link` | the link in the kernel |
//! | `subnet` | free networks for a new one |
//! | `port` | what a guest's port finds |
//! | `lifecycle` | make, bring up, take down |

pub mod lifecycle;
pub mod link;
pub mod port;
pub mod subnet;

pub use lifecycle::{add, default_name, down, ensure, up};
pub use link::{exists, is_up, mac};
pub use port::Bridge;
pub use subnet::{gateway4, gateway6, taken};
