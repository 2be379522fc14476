//! The network of containers: bridges, links, rules, leases and names.

pub mod serve;
pub mod settings;
