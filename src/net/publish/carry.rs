//! What arrives at a published port is carried to the guest and back.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::bind::Bound;
use super::datagrams::{DatagramClient, Datagrams};
use super::watch::InterfaceAddresses;
use crate::config::PublishProtocol;

/// How long the guest may take to accept a connection.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Most connections at a time through one port.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client of a datagram port is remembered after its last datagram.
const UDP_MEMORY: Duration = Duration::from_secs(60);
/// Most clients of a datagram port at a time.
const MAX_CLIENTS: usize = 1024;

type Shared = Rc<RefCell<InterfaceAddresses>>;

/// Carries what arrives at a bound port to the guest and back, forever.
pub(super) async fn carry(port: Bound, addresses: Shared) {
    let Bound { publish, interface, socket } = port;
    let to = Rc::new(Destination { interface, port: publish.guest_port, addresses });
    match publish.protocol {
        PublishProtocol::Tcp => {
            if let Ok(listener) = TcpListener::from_std(socket.into()) {
                carry_streams(listener, to).await;
            }
        }
        PublishProtocol::Udp => {
            if let Ok(socket) = Datagrams::new(socket) {
                carry_datagrams(Rc::new(socket), to).await;
            }
        }
    }
}

struct Destination {
    interface: String,
    port: u16,
    addresses: Shared,
}

impl Destination {
    /// Where the guest can be reached now, in the client's family first.
    fn now(&self, client: IpAddr) -> Vec<SocketAddr> {
        let addresses = self.addresses.borrow().of(&self.interface, client);
        addresses.into_iter().map(|address| SocketAddr::new(address, self.port)).collect()
    }
}

async fn carry_streams(listener: TcpListener, to: Rc<Destination>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, from)) => {
                let to = to.clone();
                spawn_local(async move {
                    connect(client, from.ip(), &to).await;
                    drop(permit);
                });
            }
            // The client gave up, or descriptors are short, which passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Carries one connection. A client whose guest does not answer is refused by the end of its own.
async fn connect(mut client: TcpStream, from: IpAddr, to: &Destination) {
    for address in to.now(from) {
        if let Ok(Ok(mut guest)) = timeout(CONNECT_TIME, TcpStream::connect(address)).await {
            let _ = (client.set_nodelay(true), guest.set_nodelay(true));
            let _ = copy_bidirectional(&mut client, &mut guest).await;
            return;
        }
    }
    // A reset, as the guest itself would have sent.
    let _ = client.set_zero_linger();
}

/// A client of a datagram port, and the socket that sends to the guest for it.
struct Conversation {
    guest: Rc<UdpSocket>,
    last: Rc<RefCell<Instant>>,
}

async fn carry_datagrams(host: Rc<Datagrams>, to: Rc<Destination>) {
    let mut clients: HashMap<DatagramClient, Conversation> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((length, from)) = host.receive(&mut buffer).await else { continue };
        clients.retain(|_, conversation| conversation.last.borrow().elapsed() < UDP_MEMORY);
        if !clients.contains_key(&from) {
            if clients.len() >= MAX_CLIENTS {
                continue;
            }
            let Some(conversation) = converse(&host, from, &to).await else { continue };
            clients.insert(from, conversation);
        }
        if let Some(conversation) = clients.get(&from) {
            *conversation.last.borrow_mut() = Instant::now();
            // A datagram may be lost; the guest's refusal comes as an error that means nothing more.
            let _ = conversation.guest.send(&buffer[..length]).await;
        }
    }
}

async fn converse(host: &Rc<Datagrams>, from: DatagramClient, to: &Destination) -> Option<Conversation> {
    let address = to.now(from.address.ip()).into_iter().next()?;
    let any: SocketAddr = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().ok()?;
    let guest = Rc::new(UdpSocket::bind(any).await.ok()?);
    guest.connect(address).await.ok()?;
    let last = Rc::new(RefCell::new(Instant::now()));
    let conversation = Conversation { guest: guest.clone(), last: last.clone() };
    let host = host.clone();
    spawn_local(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            match timeout(UDP_MEMORY, guest.recv(&mut buffer)).await {
                Ok(Ok(length)) => {
                    *last.borrow_mut() = Instant::now();
                    let _ = host.answer(&buffer[..length], from).await;
                }
                // Nothing listens on the guest's port: the client retries or not.
                Ok(Err(_)) => {}
                Err(_) if last.borrow().elapsed() >= UDP_MEMORY => return,
                Err(_) => {}
            }
        }
    });
    Some(conversation)
}
