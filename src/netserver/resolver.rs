//! The name server's sockets: queries in, answers out, everything that waits in a task of its own.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::dns::{self, QueryVerdict, Question, Zone};
use super::forward::{self, DnsTransport};
use super::rebind::{self, Allowed};
use super::share::{Counts, Requester};
use super::state::{self, ServerState};
use super::upstream::Upstreams;
use crate::error::{Error, Result};
use crate::sys::ports;

pub(super) const PORT: u16 = 53;
/// Forwarded queries that may wait at a time: in all, and of one client.
const MAX_FORWARDED: usize = 512;
const MAX_FORWARDED_EACH: usize = 64;
/// The same question from the host itself so often at a time means that it asks us what we ask it.
const MAX_LOOPED: usize = 3;
/// Connections at a time: in all, and of one client.
const MAX_CONNECTIONS: usize = 128;
const MAX_CONNECTIONS_EACH: usize = 16;
const IDLE: Duration = Duration::from_secs(10);
/// How often a dropped answer is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The bound sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Binds port 53 of every address or of none; fails naming the program that has it.
    pub(super) fn bind(addresses: &[IpAddr]) -> Result<Self> {
        let mut sockets = Sockets { udp: Vec::new(), tcp: Vec::new() };
        for &address in addresses {
            let address = SocketAddr::new(address, PORT);
            let udp = bind(address, Type::DGRAM).map_err(|e| explain(e, ports::Transport::Udp, address))?;
            let tcp = bind(address, Type::STREAM).map_err(|e| explain(e, ports::Transport::Tcp, address))?;
            sockets.udp.push(udp.into());
            sockets.tcp.push(tcp.into());
        }
        Ok(sockets)
    }
}

fn bind(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking().cloexec(), Some(protocol))?;
    // The bridge's address may be tentative still.
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_freebind_v6(true)?;
            socket.set_only_v6(true)?;
        }
    }
    if kind == Type::STREAM {
        // Connections of an earlier server in TIME_WAIT are not in the way; another listener is.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    if kind == Type::STREAM {
        socket.listen(64)?;
    }
    Ok(socket)
}

fn explain(e: io::Error, transport: ports::Transport, address: SocketAddr) -> Error {
    if e.kind() != io::ErrorKind::AddrInUse {
        return Error::from(e).step(format!("bind port {PORT} of {}", address.ip()));
    }
    let who = ports::owner(transport, address).map_or("another program".to_owned(), |program| program.to_string());
    Error::conflict(format!("port {PORT} of {} is taken by {who}", address.ip()))
}

#[derive(Debug)]
pub(super) struct Resolver {
    zone: Zone,
    /// The bridge's own addresses, which the host asks from.
    own: Vec<IpAddr>,
    state: Rc<RefCell<ServerState>>,
    pub upstreams: RefCell<Upstreams>,
    /// Which names of others may stand for private addresses.
    private_names: Vec<String>,
    logged_at: Cell<Option<Instant>>,
    forwarded: Rc<Counts<Requester>>,
    looped: Rc<Counts<Question>>,
    connections: Rc<Counts<Requester>>,
}

impl Resolver {
    pub(super) fn new(
        zone: Zone,
        own: Vec<IpAddr>,
        state: Rc<RefCell<ServerState>>,
        upstreams: Upstreams,
        private_names: Vec<String>,
    ) -> Self {
        Resolver {
            zone,
            own,
            state,
            upstreams: RefCell::new(upstreams),
            private_names,
            logged_at: Cell::new(None),
            forwarded: Counts::new(MAX_FORWARDED, MAX_FORWARDED_EACH),
            looped: Counts::new(usize::MAX, MAX_LOOPED),
            connections: Counts::new(MAX_CONNECTIONS, MAX_CONNECTIONS_EACH),
        }
    }

    /// Serves on the sockets, from within a `LocalSet`, for as long as that runs.
    pub(super) fn serve(self: Rc<Self>, sockets: Sockets) -> Result<()> {
        for socket in sockets.udp {
            spawn_local(self.clone().serve_udp(Rc::new(tokio::net::UdpSocket::from_std(socket)?)));
        }
        for listener in sockets.tcp {
            spawn_local(self.clone().serve_tcp(tokio::net::TcpListener::from_std(listener)?));
        }
        Ok(())
    }

    /// Whether `client` is one that we serve: of this bridge, or the host itself. Bound to the
    /// bridge's address, the sockets can be reached through other links too.
    fn serves(&self, client: IpAddr) -> bool {
        let link_local = matches!(client, IpAddr::V6(address) if address.is_unicast_link_local());
        self.zone.covers(client) || client.is_loopback() || link_local
    }

    async fn serve_udp(self: Rc<Self>, socket: Rc<tokio::net::UdpSocket>) {
        let mut buffer = vec![0; 4096];
        loop {
            // An error is one about an earlier answer: its client has gone.
            let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            if !self.serves(client.ip()) {
                continue;
            }
            match self.consider(&buffer[..length]) {
                QueryVerdict::Drop => {}
                QueryVerdict::Answer(reply) => {
                    let _ = socket.try_send_to(&reply, client);
                }
                QueryVerdict::Forward(question) => {
                    let (resolver, socket, query) = (self.clone(), socket.clone(), buffer[..length].to_vec());
                    spawn_local(async move {
                        if let Some(reply) = resolver.forward(&query, question, client.ip(), DnsTransport::Udp).await {
                            let _ = socket.send_to(&reply, client).await;
                        }
                    });
                }
            }
        }
    }

    async fn serve_tcp(self: Rc<Self>, listener: tokio::net::TcpListener) {
        loop {
            let Ok((stream, client)) = listener.accept().await else {
                // Out of descriptors, most likely: a moment later some are free again.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let client = client.ip();
            if self.serves(client)
                && let Some(ticket) = self.connections.enter(self.who(client))
            {
                let resolver = self.clone();
                spawn_local(async move {
                    let _ = resolver.converse(stream, client).await;
                    drop(ticket);
                });
            }
        }
    }

    /// Answers one query after the other until the client hangs up or falls silent.
    async fn converse(&self, mut stream: TcpStream, client: IpAddr) -> io::Result<()> {
        loop {
            let query = timeout(IDLE, forward::read_message(&mut stream)).await??;
            let reply = match self.consider(&query) {
                QueryVerdict::Drop => None,
                QueryVerdict::Answer(reply) => Some(reply),
                QueryVerdict::Forward(question) => self.forward(&query, question, client, DnsTransport::Tcp).await,
            };
            let Some(reply) = reply else { return Ok(()) };
            timeout(IDLE, forward::write_message(&mut stream, &reply)).await??;
        }
    }

    fn consider(&self, message: &[u8]) -> QueryVerdict {
        self.zone.consider(message, &self.state.borrow().names, state::now())
    }

    fn who(&self, client: IpAddr) -> Requester {
        if self.own.contains(&client) || client.is_loopback() {
            return Requester::Host;
        }
        self.state.borrow().mac_of(client).map_or(Requester::Unknown, Requester::Guest)
    }

    /// Passes a query on; SERVFAIL where no server answers or too many queries wait.
    async fn forward(
        &self,
        query: &[u8],
        question: Question,
        client: IpAddr,
        transport: DnsTransport,
    ) -> Option<Vec<u8>> {
        let who = self.who(client);
        let ticket = self.forwarded.enter(who);
        let looped = if who == Requester::Host { self.looped.enter(question.clone()).map(Some) } else { Some(None) };
        let servers = self.upstreams.borrow_mut().servers().to_vec();
        let reply = match (&ticket, &looped) {
            (Some(_), Some(_)) => forward::ask(&servers, query, &question, transport).await,
            _ => None,
        };
        match reply {
            Some(reply) => {
                // The servers before the one that answered did not answer.
                let before = servers.iter().take_while(|server| **server != reply.server);
                before.for_each(|server| self.upstreams.borrow_mut().demote(*server));
                self.without_rebinding(query, &question, reply.message)
            }
            None => dns::failure(query, ResponseCode::ServFail),
        }
    }

    /// The answer that a client is given: none with private addresses under a name of others.
    fn without_rebinding(&self, query: &[u8], question: &Question, reply: Vec<u8>) -> Option<Vec<u8>> {
        let address = match rebind::private_address(&reply) {
            Ok(None) => return Some(reply),
            Ok(Some(address)) => address,
            Err(_) => return dns::failure(query, ResponseCode::ServFail),
        };
        let name = question.name();
        if Allowed::new(&self.private_names, self.upstreams.borrow().own_domains()).covers(&name) {
            return Some(reply);
        }
        if self.logged_at.get().is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            self.logged_at.set(Some(Instant::now()));
            let name = name.escape_default();
            crate::sys::log::line(&format!(
                "the answer for `{name}` was dropped: {address} is private; \
                 `private-names` of the bridge lets its domain through"
            ));
        }
        // There is such a name, and it has no address.
        dns::failure(query, ResponseCode::NoError)
    }
}
