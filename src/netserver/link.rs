//! What a server has open on its bridge.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::frame;
use crate::config::bridge::BridgeSettings;
use crate::error::{Context, Result};
use crate::sys::packet::PacketSocket;

const DHCP_PORT: u16 = 67;
const ETH_IPV4: u16 = 0x0800;
const ETH_ARP: u16 = 0x0806;
const ETH_IPV6: u16 = 0x86dd;
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Room for a whole batch of guests that start at once.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The bridge, by the index that it has as long as it lives.
#[derive(Debug)]
pub(super) struct BridgeLink {
    pub name: String,
    pub index: u32,
    /// Requests for leases; with the next one, `None` on a bridge without IPv4.
    pub dhcp: Option<PacketSocket>,
    pub arp: Option<PacketSocket>,
    /// Router and neighbour solicitations; `None` on a bridge without IPv6.
    pub solicitations: Option<PacketSocket>,
    /// Held, not read: without them the kernel would refuse or not deliver what the others receive.
    _held: Vec<Socket>,
}

impl BridgeLink {
    /// Opens the sockets; needs root.
    pub(super) fn open(name: &str, settings: &BridgeSettings) -> Result<Self> {
        let open = || -> Result<Self> {
            let index = nix::net::if_::if_nametoindex(name)?;
            let mut held = Vec::new();
            let (mut dhcp, mut arp, mut solicitations) = (None, None, None);
            if settings.ipv4.is_some() {
                let socket = PacketSocket::open(index, ETH_IPV4, &frame::udp_filter(DHCP_PORT))?;
                socket.set_receive_buffer(RECEIVE_BUFFER)?;
                dhcp = Some(socket);
                arp = Some(PacketSocket::open(index, ETH_ARP, &[])?);
                held.extend(hold_dhcp_port(name).ok());
            }
            if settings.ipv6.is_some() {
                solicitations = Some(PacketSocket::open(index, ETH_IPV6, &frame::solicitation_filter())?);
                held.push(join_routers(index)?);
            }
            Ok(BridgeLink { name: name.to_owned(), index, dhcp, arp, solicitations, _held: held })
        };
        open().context(|| format!("listen on bridge `{name}`"))
    }

    /// Whether the bridge is still the one that the sockets are on.
    pub(super) fn exists(&self) -> bool {
        nix::net::if_::if_nametoindex(self.name.as_str()).is_ok_and(|index| index == self.index)
    }

    /// The bridge's link-local address, once it has one.
    pub(super) fn link_local(&self) -> Option<Ipv6Addr> {
        link_local(&std::fs::read_to_string("/proc/self/net/if_inet6").ok()?, self.index)
    }
}

/// A socket on the DHCP port that takes nothing: renewals come by unicast, and without a socket on the port
/// the kernel would answer "port unreachable". Another server may have the port; it does the same.
fn hold_dhcp_port(bridge: &str) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    const NOTHING: SockFilter = SockFilter::new(0x06, 0, 0, 0);
    socket.attach_filter(&[NOTHING])?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(bridge.as_bytes()))?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, DHCP_PORT).into())?;
    Ok(socket)
}

/// Makes the bridge deliver what is sent to all routers.
fn join_routers(index: u32) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    socket.join_multicast_v6(&ALL_ROUTERS, index).context(|| "join the group of all routers")?;
    Ok(socket)
}

/// Finds it in the text of /proc/net/if_inet6: address, index, prefix length, scope, flags, name.
fn link_local(table: &str, index: u32) -> Option<Ipv6Addr> {
    const LINK_SCOPE: &str = "20";
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, link, _, LINK_SCOPE, ..] = fields[..] else { return None };
        let own = u32::from_str_radix(link, 16).ok()? == index;
        own.then(|| u128::from_str_radix(address, 16).ok().map(Ipv6Addr::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_local_address_is_that_of_the_link() {
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe800000000000000000000000000009 02 40 20 80     eth0\n\
                     fd000000000000000000000000000001 1f 40 00 80     lxmbr0\n\
                     fe800000000000001266006afffe0001 1f 40 20 c0     lxmbr0\n";
        assert_eq!(link_local(table, 0x1f), Some("fe80::1266:6a:fffe:1".parse().unwrap()));
        assert_eq!(link_local(table, 3), None);
    }
}
