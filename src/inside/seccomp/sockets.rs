//! Which sockets may be made: rules of socket(2) and socketpair(2).

use std::collections::BTreeSet;

use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{SeccompCondition, SeccompRule};

use super::tables::Table;
use super::{Rules, rule, when};
use crate::error::Result;
use crate::types::{SELDOM_PROTOCOLS, SocketKind};

/// The kinds of sockets that a guest may make, by what the kernel looks at.
pub struct Sockets {
    families: Vec<u64>,
    netlink: Vec<u64>,
    /// Protocols of IPv4 and IPv6 that are *not* allowed.
    refused: Vec<u64>,
    socketcall: bool,
}

impl Sockets {
    pub fn of(allowed: &BTreeSet<SocketKind>) -> Self {
        let numbers = |pick: fn(&SocketKind) -> Option<u16>| allowed.iter().filter_map(pick).map(u64::from).collect();
        let is_refused = |number: &u16| !allowed.contains(&SocketKind::Protocol(*number));
        Sockets {
            families: numbers(|kind| if let SocketKind::Family(number) = kind { Some(*number) } else { None }),
            netlink: numbers(|kind| if let SocketKind::Netlink(number) = kind { Some(*number) } else { None }),
            refused: SELDOM_PROTOCOLS.iter().map(|(_, number)| *number).filter(is_refused).map(u64::from).collect(),
            socketcall: allowed.contains(&SocketKind::SocketCall),
        }
    }

    /// What is refused as if the family were not there, which programs take as an answer.
    pub fn families(&self, table: &Table) -> Result<Rules> {
        let mut refused = Vec::new();
        let none_of = self.families.iter().map(|family| when(0, Ne, *family)).collect::<Result<Vec<_>>>()?;
        // Without a condition the calls are refused whatever their arguments: no family at all.
        if !none_of.is_empty() {
            refused.push(rule(none_of)?);
            // Programs that audit take this as "no audit here" rather than failing (as in nspawn).
            if !self.netlink.contains(&(libc::NETLINK_AUDIT as u64)) {
                refused.push(netlink(vec![when(2, Eq, libc::NETLINK_AUDIT as u64)?])?);
            }
        }
        let mut rules: Rules = table.sockets.into_iter().map(|call| (call, refused.clone())).collect();
        if let Some(socketcall) = table.socketcall.filter(|_| !self.socketcall) {
            // Only what makes sockets; SYS_SOCKET and SYS_SOCKETPAIR of linux/net.h.
            let makes = [1, 8].into_iter().map(|call| rule(vec![when(0, Eq, call)?]));
            rules.insert(socketcall, makes.collect::<Result<_>>()?);
        }
        Ok(rules)
    }

    /// What is refused as if the family did not have the protocol.
    pub fn protocols(&self, table: &Table) -> Result<Rules> {
        let mut refused = Vec::new();
        if !self.netlink.is_empty() {
            // The audit system has an answer of its own.
            let others = self.netlink.iter().copied().chain([libc::NETLINK_AUDIT as u64]);
            refused.push(netlink(others.map(|protocol| when(2, Ne, protocol)).collect::<Result<_>>()?)?);
        }
        for protocol in &self.refused {
            for family in [libc::AF_INET, libc::AF_INET6] {
                // A raw socket of any protocol is IP's own and loads nothing (inet_create).
                for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET, libc::SOCK_DCCP] {
                    // The low four bits; above are SOCK_CLOEXEC and SOCK_NONBLOCK (SOCK_TYPE_MASK).
                    let conditions = vec![
                        when(0, Eq, family as u64)?,
                        when(1, MaskedEq(0xf), kind as u64)?,
                        when(2, Eq, *protocol)?,
                    ];
                    refused.push(rule(conditions)?);
                }
            }
        }
        match refused.is_empty() {
            true => Ok(Rules::new()),
            false => Ok(table.sockets.into_iter().map(|call| (call, refused.clone())).collect()),
        }
    }
}

/// A rule of netlink sockets.
fn netlink(mut conditions: Vec<SeccompCondition>) -> Result<SeccompRule> {
    conditions.push(when(0, Eq, libc::AF_NETLINK as u64)?);
    rule(conditions)
}
