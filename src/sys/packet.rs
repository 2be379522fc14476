//! Packet sockets: frames of one link as the link layer sees them (packet(7)).
//!
//! What arrives here has passed no firewall, and what is sent needs no address, route or
//! neighbour: that is what a server of addresses needs.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};

use crate::error::{Context, Error, Result};
use crate::types::Mac;

/// A socket for the packets of one protocol on one link, without their Ethernet headers.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
    link: u32,
    protocol: u16,
}

/// What the link layer said about a received packet.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Bytes in the buffer; a longer packet was cut.
    pub length: usize,
    /// Who sent the frame; `None` where the link has no Ethernet addresses.
    pub source: Option<Mac>,
}

impl PacketSocket {
    /// Opens a non-blocking one for the Ethernet protocol `protocol` (host order, `ETH_P_*`) on
    /// the link with the index `link`. Only packets that `filter`, a classic BPF program over the
    /// packet without Ethernet header, lets pass arrive; an empty one lets all pass.
    ///
    /// Needs CAP_NET_RAW, the use afterwards does not.
    pub fn open(link: u32, protocol: u16, filter: &[SockFilter]) -> Result<Self> {
        let open = || -> io::Result<Self> {
            // Protocol 0 receives nothing: no packet slips in before filter and link are set.
            let socket = Socket::new_raw(Domain::PACKET, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::from(0)))?;
            if !filter.is_empty() {
                socket.attach_filter(filter)?;
            }
            let packets = PacketSocket { socket, link, protocol };
            packets.socket.bind(&packets.address(Mac([0; 6])))?;
            Ok(packets)
        };
        open().map_err(Error::from).context(|| format!("open a packet socket for protocol {protocol:#06x}"))
    }

    fn address(&self, mac: Mac) -> SockAddr {
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: sockaddr_ll is one of the address types that sockaddr_storage has room and
        // alignment for, and any bytes are a valid value of it.
        let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
        link.sll_family = libc::AF_PACKET as u16;
        link.sll_protocol = self.protocol.to_be();
        link.sll_ifindex = self.link as i32;
        link.sll_halen = 6;
        link.sll_addr[..6].copy_from_slice(&mac.0);
        // SAFETY: the storage was zeroed and holds a whole sockaddr_ll, whose true size this is.
        unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
    }

    /// The next packet that waits; `WouldBlock` when there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        // SAFETY: all zeros is a valid sockaddr_ll.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut from_length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: pointers and lengths are those of a live, writable buffer and address.
        let length = unsafe {
            libc::recvfrom(
                self.socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
                (&raw mut from).cast(),
                &mut from_length,
            )
        };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        let [a, b, c, d, e, f, ..] = from.sll_addr;
        let source = (from.sll_halen == 6).then_some(Mac([a, b, c, d, e, f]));
        Ok(Received { length, source })
    }

    /// Sends a packet to a neighbour; the kernel adds the Ethernet header.
    pub fn send(&self, packet: &[u8], to: Mac) -> io::Result<()> {
        self.socket.send_to(packet, &self.address(to)).map(drop)
    }

    /// The link's own address now: a bridge without a fixed one changes it with its ports.
    pub fn own_mac(&self) -> io::Result<Mac> {
        let address = self.socket.local_addr()?;
        if address.len() < size_of::<libc::sockaddr_ll>() as libc::socklen_t - 2 {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        // SAFETY: a packet socket's name is a sockaddr_ll (packet(7)), and the storage behind the
        // pointer has the size and alignment of any socket address.
        let link = unsafe { &*address.as_ptr().cast::<libc::sockaddr_ll>() };
        let [a, b, c, d, e, f, ..] = link.sll_addr;
        Ok(Mac([a, b, c, d, e, f]))
    }

    /// Asks for room for `bytes` of packets that wait to be received: past the usual limit, but in a container,
    /// where that takes CAP_NET_ADMIN over the host (socket(7), SO_RCVBUFFORCE), up to it.
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<()> {
        use nix::sys::socket::{setsockopt, sockopt};
        match setsockopt(&self.socket, sockopt::RcvBufForce, &bytes) {
            Err(nix::errno::Errno::EPERM) => setsockopt(&self.socket, sockopt::RcvBuf, &bytes),
            other => other,
        }
        .context(|| "enlarge the buffer of a packet socket")
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}
