//! The status of a bridge's server, for `lxm network show`, `info` and `list`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat, renameat};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::types::{ContainerName, Mac};

const NAME: &str = "status.json";
const NEW_NAME: &str = "status.json.new";
/// The server has no rights: what it writes is read as any user's file is, a bounded part of it.
const MAX_SIZE: u64 = 16 << 20;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// `None` while names are served, else why they are not.
    pub names_fault: Option<String>,
    /// Addresses that leases are given from.
    pub pool_size: u32,
    /// How many of them are leased now.
    pub leased: usize,
    /// Why the last client that got no address got none, until one gets one again.
    pub exhausted: Option<String>,
    pub guests: Vec<GuestStatus>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuestStatus {
    pub name: ContainerName,
    pub mac: Mac,
    /// The address of its lease.
    pub leased: Option<Ipv4Addr>,
    /// When the lease ends, in seconds since 1970.
    pub expires: Option<u64>,
    /// Every address that its name is answered with.
    pub addresses: Vec<IpAddr>,
}

impl ServerStatus {
    /// Replaces the file in `dir`.
    pub fn write(&self, dir: &OwnedFd) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| Error::failed(e.to_string()))?;
        let write = || -> Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            File::from(openat(dir, NEW_NAME, flags, Mode::from_raw_mode(0o644))?).write_all(&text)?;
            renameat(dir, NEW_NAME, dir, NAME)?;
            Ok(())
        };
        write().context(|| "write the status")
    }

    /// Reads the file in the directory `dir`; `None` where there is none.
    pub fn read(dir: &OwnedFd) -> Result<Option<Self>> {
        let read = || -> Result<Option<Self>> {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = match openat(dir, NAME, flags, Mode::empty()) {
                Ok(fd) => File::from(fd),
                Err(rustix::io::Errno::NOENT) => return Ok(None),
                Err(e) => return Err(e.into()),
            };
            let mut text = Vec::new();
            file.take(MAX_SIZE).read_to_end(&mut text)?;
            serde_json::from_slice(&text).map(Some).map_err(|e| Error::failed(e.to_string()))
        };
        read().context(|| "read the status of the lease server")
    }
}
