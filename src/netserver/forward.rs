//! Forwards queries for names of other domains to the upstream servers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::dns::{self, Question};

/// How long one server has to answer.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// How long one server has over TCP: connection, question and a long answer.
const TCP_TIMEOUT: Duration = Duration::from_secs(4);
/// How often the whole list is tried.
const ROUNDS: usize = 2;
const SERVER_FAILURE: u8 = 2;
const REFUSED: u8 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DnsTransport {
    Udp,
    Tcp,
}

/// An answer, and which server gave it.
pub(super) struct ServerReply {
    /// With the id of the query that it answers.
    pub message: Vec<u8>,
    pub server: SocketAddr,
}

/// Passes a query on to the servers in turn until one answers; `None` when none does.
///
/// The query goes out as it came but for its id: what the client says of EDNS and DNSSEC is
/// between it and the server. Each goes from a port of its own that the kernel picks at random.
pub(super) async fn ask(
    servers: &[SocketAddr],
    query: &[u8],
    question: &Question,
    transport: DnsTransport,
) -> Option<ServerReply> {
    let mut query_out = query.to_vec();
    let mut poor = None;
    for _ in 0..ROUNDS {
        for &server in servers {
            let id = dns::random_id();
            query_out.get_mut(..2)?.copy_from_slice(&id.to_be_bytes());
            let reply = match transport {
                DnsTransport::Udp => timeout(TIMEOUT, udp(server, &query_out, id, question)).await,
                DnsTransport::Tcp => timeout(TCP_TIMEOUT, tcp(server, &query_out, id, question)).await,
            };
            let Ok(Ok(mut message)) = reply else { continue };
            message[..2].copy_from_slice(&query[..2]);
            let reply = ServerReply { message, server };
            // Another server may know what this one could not or would not tell.
            if matches!(reply.message[3] & 0xf, SERVER_FAILURE | REFUSED) {
                poor.get_or_insert(reply);
            } else {
                return Some(reply);
            }
        }
        if poor.is_some() {
            break;
        }
    }
    poor
}

async fn udp(server: SocketAddr, query: &[u8], id: u16, question: &Question) -> std::io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    // Connected: only this server's datagrams arrive, and a closed port is seen at once.
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; 65535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if dns::answers(&buffer[..length], id, question) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn tcp(server: SocketAddr, query: &[u8], id: u16, question: &Question) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, query).await?;
    let reply = read_message(&mut stream).await?;
    match dns::answers(&reply, id, question) {
        true => Ok(reply),
        false => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

/// Reads a message with its length before it (RFC 1035, 4.2.2).
pub(super) async fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| std::io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat()).await
}
