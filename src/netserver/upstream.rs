//! The upstream DNS servers: the configured ones, else the host's own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::rebind;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where systemd-resolved keeps the servers that are behind its own 127.0.0.53.
const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";
const PORT: u16 = 53;
/// How long the host's file is believed unchanged.
const RECHECK: Duration = Duration::from_secs(1);

/// The servers to ask, re-read when the host's file changes.
#[derive(Debug)]
pub(super) struct Upstreams {
    configured: Vec<SocketAddr>,
    /// Our own addresses: a host that asks us must not be asked by us.
    own: Vec<IpAddr>,
    path: PathBuf,
    read: Option<(SystemTime, u64)>,
    checked: Option<Instant>,
    servers: Vec<SocketAddr>,
}

impl Upstreams {
    pub(super) fn new(configured: &[IpAddr], own: Vec<IpAddr>) -> Self {
        let configured = configured.iter().map(|&address| SocketAddr::new(address, PORT)).collect();
        let path = PathBuf::from(RESOLV_CONF);
        Upstreams { configured, own, path, read: None, checked: None, servers: Vec::new() }
    }

    /// The servers, the best first; none where the host has none.
    pub(super) fn servers(&mut self) -> &[SocketAddr] {
        if !self.configured.is_empty() {
            return &self.configured;
        }
        if self.checked.is_none_or(|at| at.elapsed() >= RECHECK) {
            self.checked = Some(Instant::now());
            let meta = std::fs::metadata(&self.path).ok();
            let version = meta.and_then(|meta| Some((meta.modified().ok()?, meta.len())));
            if version.is_none() || version != self.read {
                self.read = version;
                self.servers = read(&self.path, &self.own);
            }
        }
        &self.servers
    }

    /// The domains that the host believes its own.
    pub(super) fn own_domains(&self) -> Vec<String> {
        rebind::own_domains(&std::fs::read_to_string(&self.path).unwrap_or_default())
    }

    /// Moves a server that did not answer behind the others.
    pub(super) fn demote(&mut self, server: SocketAddr) {
        let list = if self.configured.is_empty() { &mut self.servers } else { &mut self.configured };
        if list.first() == Some(&server) {
            list.rotate_left(1);
        }
    }

    /// Servers that guests can ask themselves, for when we cannot serve names: a loopback address
    /// is the host's own affair.
    pub(super) fn for_guests(&mut self) -> Vec<Ipv4Addr> {
        let mut servers = self.servers().to_vec();
        if servers.iter().all(|server| server.ip().is_loopback()) {
            servers = read(Path::new(RESOLVED_CONF), &self.own);
        }
        let usable = |server: SocketAddr| match server.ip() {
            IpAddr::V4(address) if !address.is_loopback() => Some(address),
            _ => None,
        };
        servers.into_iter().filter_map(usable).take(3).collect()
    }
}

fn read(path: &Path, own: &[IpAddr]) -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    parse(&text, own, |name| nix::net::if_::if_nametoindex(name).ok())
}

/// The `nameserver` lines of a resolv.conf(5), without our own addresses.
fn parse(text: &str, own: &[IpAddr], index: impl Fn(&str) -> Option<u32>) -> Vec<SocketAddr> {
    let server = |line: &str| -> Option<SocketAddr> {
        let address = line.trim_start().strip_prefix("nameserver")?;
        let address = address.strip_prefix([' ', '\t'])?.split_whitespace().next()?;
        let (address, scope) = address.split_once('%').map_or((address, None), |(a, s)| (a, Some(s)));
        match address.parse().ok()? {
            IpAddr::V6(address) => {
                let scope = scope.map_or(Some(0), |scope| scope.parse().ok().or_else(|| index(scope)))?;
                Some(SocketAddrV6::new(address, PORT, 0, scope).into())
            }
            address => Some(SocketAddr::new(address, PORT)),
        }
    };
    let mut servers: Vec<SocketAddr> = Vec::new();
    for server in text.lines().filter_map(server) {
        if !own.contains(&server.ip()) && !server.ip().is_unspecified() && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_servers_are_asked_but_never_ourselves() {
        let own = ["10.0.3.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let text = "# x\nsearch lxm\n nameserver 10.0.3.1\nnameserver\t127.0.0.53 # stub\nnameserver fe80::1%eth7\n\
                    nameserver fd00::1\nnameserver 0.0.0.0\nnameserver nonsense\nnameservers 1.1.1.1\nnameserver 127.0.0.53\n";
        let index = |name: &str| (name == "eth7").then_some(7);
        let servers: Vec<String> = parse(text, &own, index).iter().map(|s| s.to_string()).collect();
        assert_eq!(servers, ["127.0.0.53:53", "[fe80::1%7]:53"]);
    }

    #[test]
    fn a_changed_file_is_reread_and_a_silent_server_goes_last() {
        let dir = tempfile::tempdir().unwrap();
        let mut upstreams = Upstreams::new(&[], Vec::new());
        upstreams.path = dir.path().join("resolv.conf");
        assert_eq!(upstreams.servers(), []);
        std::fs::write(&upstreams.path, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n").unwrap();
        upstreams.checked = None;
        let first: SocketAddr = "192.0.2.1:53".parse().unwrap();
        assert_eq!(upstreams.servers()[0], first);
        upstreams.demote(first);
        assert_eq!(upstreams.servers()[1], first);
        assert_eq!(upstreams.for_guests().len(), 2);
        let mut configured = Upstreams::new(&["192.0.2.9".parse().unwrap()], Vec::new());
        assert_eq!(configured.servers(), ["192.0.2.9:53".parse().unwrap()]);
    }
}
