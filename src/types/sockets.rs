//! Families and protocols of sockets, as `security.sockets` names them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// Address families by the number that socket(2) takes (include/linux/socket.h).
const FAMILIES: [(&str, u16); 43] = [
    ("UNIX", 1),
    ("INET", 2),
    ("AX25", 3),
    ("IPX", 4),
    ("APPLETALK", 5),
    ("NETROM", 6),
    ("BRIDGE", 7),
    ("ATMPVC", 8),
    ("X25", 9),
    ("INET6", 10),
    ("ROSE", 11),
    ("DECNET", 12),
    ("NETBEUI", 13),
    ("SECURITY", 14),
    ("KEY", 15),
    ("NETLINK", 16),
    ("PACKET", 17),
    ("ASH", 18),
    ("ECONET", 19),
    ("ATMSVC", 20),
    ("RDS", 21),
    ("IRDA", 23),
    ("PPPOX", 24),
    ("WANPIPE", 25),
    ("LLC", 26),
    ("IB", 27),
    ("MPLS", 28),
    ("CAN", 29),
    ("TIPC", 30),
    ("BLUETOOTH", 31),
    ("IUCV", 32),
    ("RXRPC", 33),
    ("ISDN", 34),
    ("PHONET", 35),
    ("IEEE802154", 36),
    ("CAIF", 37),
    ("ALG", 38),
    ("NFC", 39),
    ("VSOCK", 40),
    ("KCM", 41),
    ("QIPCRTR", 42),
    ("SMC", 43),
    ("XDP", 44),
];

/// Netlink protocols (include/uapi/linux/netlink.h) that the kernel still has.
const NETLINK: [(&str, u16); 16] = [
    ("ROUTE", 0),
    ("USERSOCK", 2),
    ("SOCK_DIAG", 4),
    ("XFRM", 6),
    ("SELINUX", 7),
    ("ISCSI", 8),
    ("AUDIT", 9),
    ("FIB_LOOKUP", 10),
    ("CONNECTOR", 11),
    ("NETFILTER", 12),
    ("KOBJECT_UEVENT", 15),
    ("GENERIC", 16),
    ("SCSITRANSPORT", 18),
    ("RDMA", 20),
    ("CRYPTO", 21),
    ("SMC", 22),
];

/// Transport protocols of IPv4 and IPv6 that are refused unless they are named: each is a module that
/// socket(2) loads for any user, and seldom used (CVE-2026-64564 is of SCTP, CVE-2017-6074 of DCCP).
pub(crate) const SELDOM: [(&str, u16); 5] =
    [("DCCP", 33), ("L2TP", 115), ("SCTP", 132), ("UDPLITE", 136), ("SMC", 256)];

/// What Debian, Fedora, Alpine and docker in them use, as docker's own default list.
const DEFAULT_FAMILIES: [&str; 5] = ["UNIX", "INET", "INET6", "NETLINK", "PACKET"];

/// Not here: AUDIT, which is the host's own log; XFRM (CVE-2026-43284), CRYPTO, RDMA, ISCSI,
/// SCSITRANSPORT and SMC, which load modules and configure what few guests have.
const DEFAULT_NETLINK: [&str; 9] =
    ["ROUTE", "USERSOCK", "SOCK_DIAG", "SELINUX", "FIB_LOOKUP", "CONNECTOR", "NETFILTER", "KOBJECT_UEVENT", "GENERIC"];

/// `security.address-families`: which sockets a guest's programs can make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AddressFamilies(Vec<SocketKind>);

impl Default for AddressFamilies {
    fn default() -> Self {
        AddressFamilies(vec![SocketKind::Default])
    }
}

/// One word of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SocketKind {
    /// `default`: what a container has where nothing is set.
    Default,
    /// `all`: no filter.
    All,
    /// `UNIX`, `AF_UNIX`.
    Family(u16),
    /// `NETLINK_XFRM`.
    Netlink(u16),
    /// `IPPROTO_SCTP`.
    Protocol(u16),
    /// `SOCKETCALL`: the 32-bit call whose arguments no filter sees.
    SocketCall,
}

impl FromStr for SocketKind {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let upper = s.to_ascii_uppercase();
        let in_table = |table: &[(&str, u16)], name: &str| {
            table.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
        };
        let found = match upper.as_str() {
            "DEFAULT" => Some(SocketKind::Default),
            "ALL" => Some(SocketKind::All),
            "SOCKETCALL" => Some(SocketKind::SocketCall),
            name => None
                .or_else(|| in_table(&NETLINK, name.strip_prefix("NETLINK_")?).map(SocketKind::Netlink))
                .or_else(|| in_table(&SELDOM, name.strip_prefix("IPPROTO_")?).map(SocketKind::Protocol))
                .or_else(|| in_table(&FAMILIES, name.strip_prefix("AF_").unwrap_or(name)).map(SocketKind::Family)),
        };
        found.ok_or_else(|| {
            Error::new(Kind::Config, format!("`{}` is not an address family", s.escape_default()))
                .hint("names are those of address_families(7): `[\"default\", \"CAN\"]`; also `NETLINK_XFRM`, `IPPROTO_SCTP`, `SOCKETCALL`, `all`")
        })
    }
}

impl fmt::Display for SocketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |table: &[(&'static str, u16)], number: u16| {
            table.iter().find(|(_, known)| *known == number).map_or("?", |(name, _)| *name)
        };
        match *self {
            SocketKind::Default => f.write_str("default"),
            SocketKind::All => f.write_str("all"),
            SocketKind::SocketCall => f.write_str("SOCKETCALL"),
            SocketKind::Family(number) => f.write_str(name(&FAMILIES, number)),
            SocketKind::Netlink(number) => write!(f, "NETLINK_{}", name(&NETLINK, number)),
            SocketKind::Protocol(number) => write!(f, "IPPROTO_{}", name(&SELDOM, number)),
        }
    }
}

super::serde_as_text!(SocketKind);

impl AddressFamilies {
    /// The list with `default` spelt out; `None` where everything is allowed.
    pub fn allowed(&self) -> Option<BTreeSet<SocketKind>> {
        let mut allowed = BTreeSet::new();
        for kind in &self.0 {
            match kind {
                SocketKind::All => return None,
                SocketKind::Default => allowed.extend(default_kinds()),
                kind => drop(allowed.insert(*kind)),
            }
        }
        // A protocol of netlink is of no use without its family, and netlink without any of its own.
        if allowed.iter().any(|kind| matches!(kind, SocketKind::Netlink(_))) {
            allowed.insert(SocketKind::Family(libc::AF_NETLINK as u16));
        } else if allowed.contains(&SocketKind::Family(libc::AF_NETLINK as u16)) {
            allowed.extend(default_netlink());
        }
        Some(allowed)
    }

    /// What this list allows and `base` does not, by name.
    pub fn beyond(&self, base: &Self) -> Vec<String> {
        match (self.allowed(), base.allowed()) {
            (_, None) => Vec::new(),
            (None, Some(_)) => vec![SocketKind::All.to_string()],
            (Some(allowed), Some(base)) => allowed.difference(&base).map(ToString::to_string).collect(),
        }
    }
}

fn default_kinds() -> impl Iterator<Item = SocketKind> {
    let families = FAMILIES.iter().filter(|(name, _)| DEFAULT_FAMILIES.contains(name));
    families.map(|(_, number)| SocketKind::Family(*number)).chain(default_netlink())
}

fn default_netlink() -> impl Iterator<Item = SocketKind> {
    NETLINK.iter().filter(|(name, _)| DEFAULT_NETLINK.contains(name)).map(|(_, number)| SocketKind::Netlink(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(words: &[&str]) -> Option<Vec<String>> {
        let list = AddressFamilies(words.iter().map(|word| word.parse().unwrap()).collect());
        Some(list.allowed()?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_default_has_what_distributions_use_and_nothing_else() {
        let all = allowed(&["default"]).unwrap();
        assert_eq!(all[..5], ["UNIX", "INET", "INET6", "NETLINK", "PACKET"]);
        assert!(all.contains(&"NETLINK_ROUTE".to_owned()) && !all.contains(&"NETLINK_AUDIT".to_owned()), "{all:?}");
    }

    #[test]
    fn a_list_adds_to_the_default_or_stands_for_itself() {
        assert!(allowed(&["default", "af_can"]).unwrap().contains(&"CAN".to_owned()));
        assert_eq!(allowed(&["unix", "IPPROTO_SCTP"]).unwrap(), ["UNIX", "IPPROTO_SCTP"]);
        assert_eq!(allowed(&["NETLINK_XFRM"]).unwrap(), ["NETLINK", "NETLINK_XFRM"]);
        assert!(allowed(&["NETLINK"]).unwrap().contains(&"NETLINK_ROUTE".to_owned()));
        assert_eq!(allowed(&["all", "UNIX"]), None);
        assert_eq!(allowed(&[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_a_list_adds_to_another_is_named() {
        let list = |words: &[&str]| AddressFamilies(words.iter().map(|word| word.parse().unwrap()).collect());
        assert_eq!(list(&["default", "CAN"]).beyond(&list(&["default"])), ["CAN"]);
        assert_eq!(list(&["all"]).beyond(&list(&["default"])), ["all"]);
        assert!(list(&["UNIX"]).beyond(&list(&["default"])).is_empty());
        assert!(list(&["all"]).beyond(&list(&["all"])).is_empty());
    }

    #[test]
    fn a_word_that_is_none_is_refused() {
        for word in ["", "AF_", "INET7", "NETLINK_FAST", "IPPROTO_TCP"] {
            assert_eq!(word.parse::<SocketKind>().unwrap_err().kind(), Kind::Config, "{word}");
        }
    }
}
