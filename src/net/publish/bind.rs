//! The sockets of published ports, and which program has a port that is taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{PublishProtocol, PublishedPort};
use crate::error::{Context, Error, Kind, Result};
use crate::net::record::GuestRecord;
use crate::store::{AliveLock, Layout};
use crate::sys::ports::{self, Transport};
use crate::types::ContainerName;

/// A published port that is bound on one address of the host.
#[derive(Debug)]
pub(super) struct Bound {
    pub publish: PublishedPort,
    /// The interface of the guest that it leads to.
    pub interface: String,
    pub socket: Socket,
}

impl Bound {
    pub(super) fn try_clone(&self) -> Result<Self> {
        let socket = self.socket.try_clone().context(|| "duplicate a socket")?;
        Ok(Bound { publish: self.publish, interface: self.interface.clone(), socket })
    }
}

/// Binds a port on the address it is published on: on all of IPv4 and of IPv6 where it names none.
///
/// Fails with `Kind::Conflict` where another program or container has it.
pub(super) fn bind(
    layout: &Layout,
    name: &ContainerName,
    interface: &str,
    publish: PublishedPort,
) -> Result<Vec<Bound>> {
    let everywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let addresses = match publish.listen {
        Some(address) => vec![address],
        None => everywhere.into_iter().filter(|address| address.is_ipv4() || crate::net::sysctl::has_ipv6()).collect(),
    };
    let bound = addresses.into_iter().map(|address| {
        let at = SocketAddr::new(address, publish.host_port);
        let socket = open(at, publish.protocol).map_err(|e| explain(layout, name, publish, at, &e))?;
        Ok(Bound { publish, interface: interface.to_owned(), socket })
    });
    bound.collect()
}

/// Fails with `Kind::Conflict` where a port is taken that [`bind`] would bind.
pub(crate) fn require_free(
    layout: &Layout,
    name: &ContainerName,
    interface: &str,
    publish: PublishedPort,
) -> Result<()> {
    bind(layout, name, interface, publish).map(drop)
}

fn open(at: SocketAddr, protocol: PublishProtocol) -> std::io::Result<Socket> {
    let (kind, number) = match protocol {
        PublishProtocol::Tcp => (Type::STREAM, Protocol::TCP),
        PublishProtocol::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(at), kind.nonblocking().cloexec(), Some(number))?;
    if at.is_ipv6() {
        // IPv4 has a socket of its own.
        socket.set_only_v6(true)?;
    }
    if protocol == PublishProtocol::Tcp {
        // A connection of the container's last run may still be in its last minute.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&at.into())?;
    if protocol == PublishProtocol::Tcp {
        socket.listen(1024)?;
    }
    Ok(socket)
}

fn explain(layout: &Layout, name: &ContainerName, publish: PublishedPort, at: SocketAddr, e: &std::io::Error) -> Error {
    match e.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            let step = format!("publish `{publish}`: port {} of {} is taken", at.port(), at.ip());
            let by = match other_container(layout, name, publish) {
                Some(other) => format!("{step} by container `{other}`"),
                None => match ports::owner(transport(publish.protocol), at) {
                    Some(program) => format!("{step} by {program}"),
                    None => step,
                },
            };
            Error::conflict(by).hint("publish another port, or stop the program that uses it")
        }
        Some(libc::EADDRNOTAVAIL) => {
            Error::config(format!("publish `{publish}`: this host has no address {}", at.ip()))
        }
        _ => Error::from(std::io::Error::from_raw_os_error(e.raw_os_error().unwrap_or(libc::EIO)))
            .step(format!("publish `{publish}`"))
            .with_kind(Kind::Failed),
    }
}

fn transport(protocol: PublishProtocol) -> Transport {
    match protocol {
        PublishProtocol::Tcp => Transport::Tcp,
        PublishProtocol::Udp => Transport::Udp,
    }
}

/// The other running container that publishes the port.
fn other_container(layout: &Layout, name: &ContainerName, publish: PublishedPort) -> Option<ContainerName> {
    let same = |other: &PublishedPort| (other.host_port, other.protocol) == (publish.host_port, publish.protocol);
    let publishes = |record: &GuestRecord| record.links.iter().flat_map(|link| &link.publish).any(same);
    let own = layout.run_dir(name);
    let mut others = GuestRecord::of_all_directories(layout).into_iter().filter(|(dir, _)| *dir != own);
    let runs = |dir: &Path| AliveLock::is_held_in(dir).unwrap_or(false);
    let (dir, _) = others.find(|(dir, record)| publishes(record) && runs(dir))?;
    dir.file_name()?.to_str()?.parse().ok()
}
