//! Who has a port: the program behind "address already in use".

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::unistd::Pid;

/// A program that has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortOwner {
    pub pid: Pid,
    pub name: String,
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (process {})", self.name, self.pid)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// Finds the program whose socket keeps us from binding `address`, in this network namespace.
///
/// `None` where no program has it, or where the owner cannot be seen: it lives in another process namespace,
/// or is the kernel itself. Needs the rights to see other users' descriptors.
pub(crate) fn owner(transport: Transport, address: SocketAddr) -> Option<PortOwner> {
    let tables = match transport {
        Transport::Tcp => ["tcp", "tcp6"],
        Transport::Udp => ["udp", "udp6"],
    };
    let read = |table: &str| std::fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
    let inode = tables.iter().find_map(|table| inode_of(&read(table), transport, address))?;
    process_of(inode)
}

/// The socket of a table of /proc/net that is bound to `address` or to all addresses.
fn inode_of(table: &str, transport: Transport, address: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, port) = fields.get(1)?.split_once(':')?;
        // A listening socket is in state 10; connections of others on the port are not in the way.
        let listens = transport == Transport::Udp || *fields.get(3)? == "0A";
        let same_port = u16::from_str_radix(port, 16).ok()? == address.port();
        (listens && same_port && conflicts(parse_address(local)?, address.ip())).then_some(())?;
        fields.get(9)?.parse().ok()
    })
}

/// Whether a socket bound to `bound` excludes one bound to `wanted`.
fn conflicts(bound: IpAddr, wanted: IpAddr) -> bool {
    match (bound.to_canonical(), wanted.to_canonical()) {
        (bound, wanted) if bound == wanted => true,
        // The IPv6 wildcard takes IPv4 too, unless IPV6_V6ONLY is set, which the table does not show.
        (IpAddr::V6(bound), _) if bound.is_unspecified() => true,
        (IpAddr::V4(bound), IpAddr::V4(wanted)) => bound.is_unspecified() || wanted.is_unspecified(),
        (IpAddr::V6(_), IpAddr::V6(wanted)) => wanted.is_unspecified(),
        _ => false,
    }
}

/// An address of /proc/net: hexadecimal words, each in the host's byte order.
fn parse_address(text: &str) -> Option<IpAddr> {
    let words: Option<Vec<[u8; 4]>> = (0..text.len() / 8)
        .map(|n| u32::from_str_radix(text.get(n * 8..n * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect();
    match words?.as_slice() {
        [word] => Some(Ipv4Addr::from(*word).into()),
        words @ [_, _, _, _] => Some(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).into()),
        _ => None,
    }
}

/// The process that has the socket with this inode open.
fn process_of(inode: u64) -> Option<PortOwner> {
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    processes.filter_map(|name| name.parse::<i32>().ok()).find_map(|pid| {
        let mut descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let has = descriptors.any(|fd| fd.is_ok_and(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == *wanted)));
        let name = || std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        has.then(name)?.map(|name| PortOwner { pid: Pid::from_raw(pid), name: name.trim_end().to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn the_program_that_has_a_port_is_found_by_any_address() {
        let us = Pid::this();
        for bind in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let udp = UdpSocket::bind(bind).unwrap();
            let wanted = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), udp.local_addr().unwrap().port());
            assert_eq!(owner(Transport::Udp, wanted).unwrap().pid, us, "{bind}");
            assert_eq!(owner(Transport::Tcp, wanted), None);
            let tcp = TcpListener::bind(bind).unwrap();
            let wanted = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), tcp.local_addr().unwrap().port());
            assert_eq!(owner(Transport::Tcp, wanted).unwrap().pid, us, "{bind}");
        }
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let other = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), udp.local_addr().unwrap().port());
        assert_eq!(owner(Transport::Udp, other), None, "bound to another address");
    }

    #[test]
    fn addresses_of_the_tables_are_words_in_host_order() {
        assert_eq!(parse_address("0100007F"), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(parse_address("00000000000000000000000001000000"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(parse_address("01"), None);
    }
}
