//! Bridges: lxm's own, made on first use, and the host's, used as they are.
//!
//! | file | idea |
//! |---|---|
//! | `link` | the link in the kernel |
//! | `subnet` | free networks for a new one |
//! | `port` | what a guest's port finds |
//! | `raise` | made in the kernel from its settings, with the ports of guests that run |
//! | `lifecycle` | make, bring up, take down |

pub(crate) mod lifecycle;
pub(crate) mod link;
pub(crate) mod port;
pub(crate) mod raise;
pub(crate) mod subnet;

pub(crate) use lifecycle::{add, default_name, default_of, down, ensure, is_none, missing, up};
pub(crate) use link::{exists, is_bridge, is_up, mac};
pub(crate) use port::Bridge;
pub(crate) use subnet::{gateway4, gateway6, taken};
