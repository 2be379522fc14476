//! A datagram socket that answers from the address that was asked.
//!
//! One bound to all addresses of the host would answer from the one that routing prefers, and a
//! client that asked another throws the answer away (`IP_PKTINFO`, ip(7); RFC 3542, section 6).

use std::io::{Error, IoSlice, IoSliceMut, Result};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, sockopt};
use socket2::Socket;
use tokio::io::Interest;
use tokio::net::UdpSocket;

#[derive(Debug)]
pub(super) struct Datagrams(UdpSocket);

/// Who asked, and by which of the host's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DatagramClient {
    pub address: SocketAddr,
    asked: AskedAddress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum AskedAddress {
    V4(u32),
    /// With the interface of a link-local address, which is none without; else with 0, for any.
    V6(Ipv6Addr, u32),
}

impl Datagrams {
    pub(super) fn new(socket: Socket) -> Result<Self> {
        match socket.local_addr()?.is_ipv6() {
            true => nix::sys::socket::setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            false => nix::sys::socket::setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        }
        UdpSocket::from_std(socket.into()).map(Datagrams)
    }

    /// The next datagram's length and sender.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> Result<(usize, DatagramClient)> {
        self.0.async_io(Interest::READABLE, || receive(&self.0, buffer)).await
    }

    pub(super) async fn answer(&self, data: &[u8], to: DatagramClient) -> Result<()> {
        self.0.async_io(Interest::WRITABLE, || answer(&self.0, data, to)).await
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Result<(usize, DatagramClient)> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let asked = received.cmsgs()?.find_map(|message| match message {
        // For a broadcast it is the address of the interface that heard it.
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(AskedAddress::V4(info.ipi_spec_dst.s_addr)),
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            Some(AskedAddress::V6(address, if address.is_unicast_link_local() { info.ipi6_ifindex } else { 0 }))
        }
        _ => None,
    });
    let address = received.address.and_then(|address| match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::V4(SocketAddrV4::from(*v4))),
        (_, Some(v6)) => Some(SocketAddr::V6(SocketAddrV6::from(*v6))),
        _ => None,
    });
    let client = address.zip(asked).map(|(address, asked)| DatagramClient { address, asked });
    client.map(|client| (received.bytes, client)).ok_or_else(|| Error::other("a datagram without a sender"))
}

fn answer(socket: &UdpSocket, data: &[u8], to: DatagramClient) -> Result<()> {
    let address = SockaddrStorage::from(to.address);
    let send = |control: ControlMessage<'_>| {
        let parts = [IoSlice::new(data)];
        sendmsg(socket.as_raw_fd(), &parts, &[control], MsgFlags::MSG_NOSIGNAL, Some(&address)).map(drop)
    };
    let sent = match to.asked {
        AskedAddress::V4(from) => send(ControlMessage::Ipv4PacketInfo(&libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: from },
            ipi_addr: libc::in_addr { s_addr: 0 },
        })),
        AskedAddress::V6(from, interface) => send(ControlMessage::Ipv6PacketInfo(&libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
            ipi6_ifindex: interface,
        })),
    };
    Ok(sent?)
}
