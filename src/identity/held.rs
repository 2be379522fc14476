//! What a running container holds: locks on its ids, MAC addresses and uuid, and on the directories
//! that it writes to. They end with its supervisor, however that ends, and are taken whatever was
//! copied, restored or edited by hand.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::claims::Claim;
use super::{Clash, claims, home, table};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::store::{DirectoryLock, Home, Layout, Origin, RangeLocks};
use crate::sys::fork;
use crate::types::ContainerName;

/// The locks of one running container.
#[derive(Debug)]
pub(crate) struct ClaimLocks {
    numbers: RangeLocks,
    directories: Vec<(PathBuf, DirectoryLock)>,
}

impl ClaimLocks {
    pub(crate) fn new(layout: &Layout) -> Result<Self> {
        let numbers = RangeLocks::open(&layout.lock_dir().join(".identities"))?;
        Ok(ClaimLocks { numbers, directories: Vec::new() })
    }

    /// Takes the locks for a boot with this configuration, and gives up those that only an earlier boot
    /// needed. Fails with `Kind::Conflict`, naming the holder and what it holds.
    pub(crate) fn take(
        &mut self,
        layout: &Layout,
        name: &ContainerName,
        config: &Config,
        origin: &Origin,
    ) -> Result<()> {
        // To name another holder all containers are read: in a child, so that this process does not keep the memory.
        if !Home::is_here(layout, name)? {
            fork::run(|| home::require_own(layout, name))?;
        }
        let claims = claims::of(layout, name, config, origin)?;
        let mut wanted = Vec::new();
        for claim in &claims {
            let Some((start, length)) = number(claim) else { continue };
            let mut try_lock = || Ok(self.numbers.try_lock(start, length)?.then_some(()));
            // Looked for in a child, too: the table names the holder.
            let holder = || fork::run(|| Ok(taken(layout, name, config, std::slice::from_ref(claim)))).ok().flatten();
            retry(&mut try_lock, holder)?
                .ok_or_else(|| Error::conflict(format!("another running container has {claim}")))?;
            wanted.push((start, length));
        }
        self.numbers.keep(&wanted)?;
        let upper = claims.into_iter().filter_map(|claim| match claim {
            Claim::Upper(dir) => Some(dir),
            _ => None,
        });
        self.lock_directories(layout, name, std::iter::once(layout.container(name)).chain(upper).collect())
    }

    /// The tree itself, by whatever path or state directory (`LXM_ROOT`) another supervisor reaches it.
    fn lock_directories(&mut self, layout: &Layout, name: &ContainerName, wanted: Vec<PathBuf>) -> Result<()> {
        self.directories.retain(|(dir, _)| wanted.contains(dir));
        for dir in wanted {
            if self.directories.iter().any(|(held, _)| *held == dir) {
                continue;
            }
            let lock = retry(&mut || DirectoryLock::try_acquire(&dir), || None)?;
            let lock = lock.ok_or_else(|| in_use(layout, name, &dir))?;
            self.directories.push((dir, lock));
        }
        Ok(())
    }
}

/// Fails as [`ClaimLocks::take`] would for what another running container has, and takes nothing: for a guest
/// that runs and is to be booted with another configuration.
pub(crate) fn require_unheld(layout: &Layout, name: &ContainerName, config: &Config, origin: &Origin) -> Result<()> {
    home::require_own(layout, name)?;
    let claims = claims::of(layout, name, config, origin)?;
    match taken(layout, name, config, &claims) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// How long what a killed supervisor has left may take to end: its children have its locks.
const PREDECESSOR: Duration = Duration::from_secs(2);

/// Takes a lock, waiting for a moment; fails at once where `holder` finds the holder.
fn retry<T>(try_lock: &mut dyn FnMut() -> Result<Option<T>>, holder: impl Fn() -> Option<Error>) -> Result<Option<T>> {
    let deadline = Instant::now() + PREDECESSOR;
    let mut pauses = 0;
    loop {
        if let Some(lock) = try_lock()? {
            return Ok(Some(lock));
        }
        if pauses == TRIES_BEFORE_LOOKUP
            && let Some(error) = holder()
        {
            return Err(error);
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        pauses += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// After so many tries the holder is looked up: it is no dying child.
const TRIES_BEFORE_LOOKUP: u32 = 10;

fn in_use(layout: &Layout, name: &ContainerName, dir: &Path) -> Error {
    Error::conflict(format!("another process writes to the files of `{name}`, in `{}`", dir.display())).hint(format!(
        "`fuser -v {}` shows which; if it is a container that this one is a copy of, `{}`",
        dir.display(),
        layout.adopt_command(name)
    ))
}

/// The refusal that names the holder of one of these claims; `None` where no running container is known to have it.
fn taken(layout: &Layout, name: &ContainerName, config: &Config, claims: &[Claim]) -> Option<Error> {
    let clashes = table::clashes(layout, name, claims).unwrap_or_default();
    let runs = |clash: &Clash| crate::store::AliveLock::is_held(&clash.holder.layout, &clash.holder.name);
    let clash = clashes.into_iter().find(|clash| runs(clash).unwrap_or(false))?;
    let holder = clash.holder.seen_from(layout);
    let error = Error::conflict(format!("the running container {holder} has {}", clash.claim));
    Some(error.hint(clash.claim.remedy(layout, name, config, &clash.holder.name)))
}

/// A claim as a range of numbers below 2^63, kinds apart; the kernel finds those that overlap.
fn number(claim: &Claim) -> Option<(u64, u64)> {
    let kind = |kind: u64, number: u64| kind << 60 | number;
    match claim {
        Claim::Ids(range) => Some((kind(0, range.base.into()), range.len.into())),
        Claim::Mac(mac) => {
            let [a, b, c, d, e, f] = mac.0;
            Some((kind(1, u64::from_be_bytes([0, 0, a, b, c, d, e, f])), 1))
        }
        Claim::Uuid(uuid) => {
            use sha2::{Digest, Sha256};
            let digest = Sha256::digest(uuid);
            let first: [u8; 8] = digest[..8].try_into().expect("a digest has 32 bytes");
            Some((kind(2, u64::from_be_bytes(first) >> 4), 1))
        }
        // Addresses are the bridge's server's to give, ports are bound, layers are locked themselves.
        Claim::Address { .. } | Claim::Allowed { .. } | Claim::Port(_) | Claim::Upper(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_do_not_overlap_and_all_fit_an_offset() {
        let all = [
            Claim::Ids("2147418112:65536".parse().unwrap()),
            Claim::Mac("fe:ff:ff:ff:ff:ff".parse().unwrap()),
            Claim::Uuid("ffffffff".into()),
        ];
        for (nth, claim) in all.iter().enumerate() {
            let (start, length) = number(claim).unwrap();
            assert_eq!((start >> 60, (start + length - 1) >> 60), (nth as u64, nth as u64));
            assert!(i64::try_from(start + length).is_ok());
        }
    }
}
