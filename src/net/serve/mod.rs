//! The lease and name server of a bridge, `lxm network serve BRIDGE`: one small process each.

pub mod guests;

pub use guests::{GuestEntry, Guests, announce, retract, retract_all};
