//! Which sockets may be made: the rules of socket(2), socketpair(2) and the 32-bit socketcall(2).

use std::collections::BTreeSet;

use crate::sys::seccomp::{ArgumentChoice, Verdict};
use crate::types::{SELDOM_PROTOCOLS, SocketKind};

/// As if the family were not there, which programs take as an answer.
const NO_FAMILY: Verdict = Verdict::Refuse(libc::EAFNOSUPPORT);
/// As if the family did not have the protocol.
const NO_PROTOCOL: Verdict = Verdict::Refuse(libc::EPROTONOSUPPORT);

// socket(2): the family, the kind with flags in its high bits, the protocol.
const FAMILY: u8 = 0;
const KIND: u8 = 1;
const PROTOCOL: u8 = 2;
/// The low four bits; above are SOCK_CLOEXEC and SOCK_NONBLOCK (SOCK_TYPE_MASK of linux/net.h).
const KIND_MASK: u32 = 0xf;

/// What becomes of socket(2) and socketpair(2) where `allowed` may be made.
pub(super) fn sockets(allowed: &BTreeSet<SocketKind>) -> Verdict {
    let ip = [libc::AF_INET as u32, libc::AF_INET6 as u32];
    let families = |of: &dyn Fn(u32) -> bool| numbers(allowed, family).filter(|number| of(*number)).collect();
    let cases: Vec<(Vec<u32>, Verdict)> = vec![
        (families(&|number| ip.contains(&number)), internet(allowed)),
        (families(&|number| number == libc::AF_NETLINK as u32), netlink(allowed)),
        (families(&|_| true), Verdict::Allow),
    ];
    by(FAMILY, cases, NO_FAMILY)
}

/// What becomes of the call that takes all its arguments but the first from memory, where no filter sees them:
/// refused is what makes sockets; SYS_SOCKET and SYS_SOCKETPAIR of linux/net.h.
pub(super) fn socketcall() -> Verdict {
    by(0, vec![(vec![1, 8], NO_FAMILY)], Verdict::Allow)
}

fn netlink(allowed: &BTreeSet<SocketKind>) -> Verdict {
    // Programs that audit take this as "no audit here" rather than failing (as in nspawn).
    let audit = (vec![libc::NETLINK_AUDIT as u32], NO_FAMILY);
    by(PROTOCOL, vec![(numbers(allowed, netlink_protocol).collect(), Verdict::Allow), audit], NO_PROTOCOL)
}

/// IPv4 and IPv6.
fn internet(allowed: &BTreeSet<SocketKind>) -> Verdict {
    let is_refused = |number: &u16| !allowed.contains(&SocketKind::Protocol(*number));
    let refused = SELDOM_PROTOCOLS.iter().map(|(_, number)| *number).filter(is_refused).map(u32::from).collect();
    // A raw socket of any protocol is IP's own and loads nothing (inet_create).
    let loading = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET, libc::SOCK_DCCP];
    let loads = ArgumentChoice {
        argument: KIND,
        mask: KIND_MASK,
        cases: vec![(loading.map(|kind| kind as u32).to_vec(), NO_PROTOCOL)],
        otherwise: Verdict::Allow,
    };
    by(PROTOCOL, vec![(refused, Verdict::Depends(loads.into()))], Verdict::Allow)
}

fn by(argument: u8, mut cases: Vec<(Vec<u32>, Verdict)>, otherwise: Verdict) -> Verdict {
    cases.retain(|(values, _)| !values.is_empty());
    match cases.is_empty() {
        true => otherwise,
        false => Verdict::Depends(ArgumentChoice { argument, mask: u32::MAX, cases, otherwise }.into()),
    }
}

fn numbers(allowed: &BTreeSet<SocketKind>, pick: fn(&SocketKind) -> Option<u16>) -> impl Iterator<Item = u32> {
    allowed.iter().filter_map(pick).map(u32::from)
}

fn family(kind: &SocketKind) -> Option<u16> {
    if let SocketKind::Family(number) = kind { Some(*number) } else { None }
}

fn netlink_protocol(kind: &SocketKind) -> Option<u16> {
    if let SocketKind::Netlink(number) = kind { Some(*number) } else { None }
}
