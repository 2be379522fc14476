//! Probes that wait for an answer.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::netserver::request::DhcpRequest;
use crate::types::Mac;

/// A probe under way.
#[derive(Debug)]
pub(super) struct Probe {
    /// Who the address is for.
    pub(super) owner: Mac,
    /// What waits for the outcome, each with the sender of its frame.
    pub(super) requests: Vec<(DhcpRequest, Mac)>,
}

/// A guest that has its lease and was not heard at its address yet.
#[derive(Debug)]
pub(super) struct PendingProbe {
    pub(super) mac: Mac,
    pub(super) address: Ipv4Addr,
    pub(super) asked_at: Instant,
    pub(super) wait: Duration,
}
