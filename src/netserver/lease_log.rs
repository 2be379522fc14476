//! The lease file: a line for every change, rewritten whole when most lines are old.
//!
//! A line reads `EXPIRES MAC ADDRESS`, the first in seconds since 1970; a later line of a MAC replaces an
//! earlier one, and `0 MAC -` forgets it. A change is written before its client is answered, so that a killed
//! server has lost nothing. It is not synced each time: what a crash of the host loses is at most seconds
//! old, and of guests that the crash ended.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, fsync, openat, renameat};

use super::lease::{Lease, Leases};
use crate::error::{Context, Error, Result};
use crate::types::Mac;

const NAME: &str = "leases";
const NEW_NAME: &str = "leases.new";
/// More than the leases of a /12 take.
const MAX_SIZE: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Journal {
    dir: OwnedFd,
    file: File,
    lines: usize,
    /// The last write failed, perhaps in mid-line.
    broken: bool,
}

impl Journal {
    /// Opens the lease file in `dir`, or begins one, and reads what it holds into leases.
    pub(super) fn open(dir: OwnedFd) -> Result<(Self, Leases)> {
        let open = || -> Result<(Self, Leases)> {
            let leases = match openat(&dir, NAME, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                Ok(fd) => read(File::from(fd))?,
                Err(rustix::io::Errno::NOENT) => Leases::default(),
                Err(e) => return Err(e.into()),
            };
            // Always rewritten: a torn last line must not swallow the first new one.
            let file = rewrite(&dir, &leases)?;
            Ok((Journal { lines: leases.len(), dir, file, broken: false }, leases))
        };
        open().context(|| "open the lease file")
    }

    /// Writes the present lease of each of the `changed` clients.
    pub(super) fn record(&mut self, leases: &Leases, changed: &[Mac]) -> Result<()> {
        if changed.is_empty() {
            return Ok(());
        }
        if self.broken || self.lines > 1024 + 2 * leases.len() {
            self.file = rewrite(&self.dir, leases).context(|| "rewrite the lease file")?;
            self.lines = leases.len();
            self.broken = false;
            return Ok(());
        }
        let text: String = changed.iter().map(|&mac| line(mac, leases.get(mac))).collect();
        self.lines += changed.len();
        let written = self.file.write_all(text.as_bytes());
        self.broken = written.is_err();
        written.context(|| "write to the lease file")
    }
}

fn line(mac: Mac, lease: Option<&Lease>) -> String {
    match lease.filter(|lease| !lease.offered) {
        Some(lease) => format!("{} {mac} {}\n", lease.expires, lease.address),
        None => format!("0 {mac} -\n"),
    }
}

fn rewrite(dir: &OwnedFd, leases: &Leases) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(dir, NEW_NAME, flags, Mode::from_raw_mode(0o644))?);
    let kept = leases.iter().filter(|lease| !lease.offered);
    let text: String = kept.map(|lease| line(lease.mac, Some(lease))).collect();
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    renameat(dir, NEW_NAME, dir, NAME)?;
    fsync(dir)?;
    Ok(file)
}

fn read(file: File) -> Result<Leases> {
    let mut text = Vec::new();
    let size = file.take(MAX_SIZE + 1).read_to_end(&mut text)? as u64;
    if size > MAX_SIZE {
        return Err(Error::failed("it is larger than any lease file can be"));
    }
    Ok(parse(&text))
}

/// Reads what can be read: a crash may have torn the end, and nothing in it is worth no leases.
pub(super) fn parse(text: &[u8]) -> Leases {
    let mut leases = Leases::default();
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    for line in String::from_utf8_lossy(&text[..whole]).lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [expires, mac, address] = fields[..] else { continue };
        let (Ok(expires), Ok(mac)) = (expires.parse(), mac.parse::<Mac>()) else { continue };
        if address == "-" {
            leases.remove(mac);
        } else if let Ok(address) = address.parse::<Ipv4Addr>() {
            leases.set(Lease { mac, address, expires, offered: false });
        }
    }
    leases.take_changed();
    leases
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(dir: &tempfile::TempDir) -> (Journal, Leases) {
        Journal::open(File::open(dir.path()).unwrap().into()).unwrap()
    }

    fn lease(last: u8, expires: u64) -> Lease {
        let (mac, address) = (Mac([2, 0, 0, 0, 0, last]), Ipv4Addr::new(10, 0, 3, last));
        Lease { mac, address, expires, offered: false }
    }

    fn sorted(leases: &Leases) -> Vec<Lease> {
        let mut all: Vec<Lease> = leases.iter().copied().collect();
        all.sort_by_key(|lease| lease.address);
        all
    }

    #[test]
    fn what_was_recorded_is_there_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, mut leases) = open(&dir);
        for round in 1..2000u64 {
            leases.set(lease((round % 7) as u8 + 1, round));
            let changed = leases.take_changed();
            journal.record(&leases, &changed).unwrap();
        }
        leases.remove(lease(3, 0).mac);
        journal.record(&leases, &[lease(3, 0).mac]).unwrap();
        let (_, read) = open(&dir);
        assert_eq!(sorted(&read), sorted(&leases));
        assert_eq!(read.len(), 6);
        let size = std::fs::metadata(dir.path().join(NAME)).unwrap().len();
        assert!(size < 1000, "{size} bytes for 6 leases");
    }

    #[test]
    fn a_torn_end_and_lines_of_nonsense_cost_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let text =
            "9 02:00:00:00:00:01 10.0.3.1\nnonsense\n\n9 02:00:00:00:00:02 10.0.3.2\n\0\0\n9 02:00:00:00:00:03 10.0";
        std::fs::write(dir.path().join(NAME), text).unwrap();
        let (mut journal, mut leases) = open(&dir);
        assert_eq!(sorted(&leases), [lease(1, 9), lease(2, 9)]);
        leases.set(lease(4, 9));
        journal.record(&leases, &[lease(4, 9).mac]).unwrap();
        assert_eq!(sorted(&open(&dir).1), [lease(1, 9), lease(2, 9), lease(4, 9)]);
    }

    #[test]
    fn a_link_in_place_of_the_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join(NAME)).unwrap();
        assert!(Journal::open(File::open(dir.path()).unwrap().into()).is_err());
    }

    proptest! {
        #[test]
        fn no_file_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            parse(&bytes);
        }
    }
}
