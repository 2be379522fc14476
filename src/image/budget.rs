//! How much an archive may become: a megabyte of zeros, packed, is a full disk unpacked.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use super::measure::Measured;
use crate::error::{Error, Result};
use crate::types::Size;

/// What an archive may become however small it is.
const ALWAYS: u64 = 1 << 30;

/// How many times its packed size it may become beyond that. Whole systems become five to twenty
/// times as large; what is made to fill a disk, a thousand times and more.
const TIMES: u64 = 64;

/// What an entry costs beside its contents: an inode and a directory's block, roughly.
const ENTRY: u64 = 4096;

/// What one import, or one build of an image, may unpack: all of its archives together.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Unset: by how large it is packed.
    most: Option<Size>,
    read: AtomicU64,
    spent: AtomicU64,
}

impl Budget {
    /// At most `most` bytes; unset means 1 GiB or 64 times the packed size, whichever is more.
    pub(crate) fn new(most: Option<Size>) -> Self {
        Budget { most, ..Budget::default() }
    }

    /// The packed archive, whose size counts as it is read: of a stream it is not known before.
    pub(crate) fn counted<R>(&self, packed: R) -> CountedArchive<'_, R> {
        CountedArchive { packed, read: &self.read }
    }

    /// Takes `bytes` of an unpacked archive into account.
    pub(crate) fn spend(&self, bytes: u64) -> Result<()> {
        let spent = self.spent.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let by_size = ALWAYS.max(self.read.load(Ordering::Relaxed).saturating_mul(TIMES));
        let most = self.most.map_or(by_size, Size::bytes);
        if spent <= most {
            return Ok(());
        }
        let said = match self.most {
            Some(most) => format!("it would become larger than {most}"),
            None => format!("it would become more than {TIMES} times as large as it is packed, and more than 1 GiB"),
        };
        let hint =
            "`--max-size SIZE` of `lxm import` and of the template `archive` allows more, if you trust its maker";
        Err(Error::failed(said).hint(hint))
    }

    /// Takes a packed file of `bytes` into account that is read by another program.
    pub(crate) fn packed(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes an entry into account, beside its contents.
    pub(crate) fn spend_entry(&self) -> Result<()> {
        self.spend(ENTRY)
    }

    /// Takes a whole tree into account.
    pub(crate) fn spend_tree(&self, tree: &Measured) -> Result<()> {
        self.spend(tree.bytes.saturating_add(tree.entries.saturating_mul(ENTRY)))
    }
}

/// A packed archive being read.
#[derive(Debug)]
pub(crate) struct CountedArchive<'a, R> {
    packed: R,
    read: &'a AtomicU64,
}

impl<R: Read> Read for CountedArchive<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.packed.read(buffer)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Keeps some of a file system free while an archive is unpacked onto it: the host lives there too.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Bytes that may be written before it is looked at again.
    bytes: u64,
    entries: u64,
}

impl Room {
    /// To be called before `bytes` are written below `dir`.
    pub(crate) fn take(&mut self, dir: impl AsFd, bytes: u64) -> Result<()> {
        if bytes > self.bytes {
            self.bytes = left(dir)?;
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        Ok(())
    }

    /// To be called for each entry; the first call looks before anything is written.
    pub(crate) fn take_entry(&mut self, dir: impl AsFd) -> Result<()> {
        self.entries += 1;
        if self.entries % 1024 == 1 { left(dir).map(drop) } else { Ok(()) }
    }
}

/// How much may be written below `dir` before it is looked at again: others write there too.
fn left(dir: impl AsFd) -> Result<u64> {
    let stat = rustix::fs::fstatvfs(dir)?;
    let kept = (stat.f_blocks / 50 * stat.f_frsize).min(1 << 30);
    match stat.f_bavail.saturating_mul(stat.f_frsize).checked_sub(kept) {
        Some(left) => Ok((left / 2).clamp(1 << 16, 32 << 20)),
        None => Err(Error::from(Errno::NOSPC)
            .step(format!("{} MiB of the file system are kept free for the host", kept >> 20))
            .hint("make room, or keep the container elsewhere with `-P DIR`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_packed_may_become_larger() {
        let budget = Budget::new(None);
        budget.spend(ALWAYS).unwrap();
        assert!(budget.spend(1).is_err());
        io::copy(&mut budget.counted(io::repeat(0).take(32 << 20)), &mut io::sink()).unwrap();
        budget.spend(ALWAYS - 1).unwrap();
        assert!(budget.spend(1).is_err());
    }

    #[test]
    fn a_limit_that_was_named_is_the_limit() {
        let budget = Budget::new(Some(Size::from_bytes(2 * ENTRY)));
        budget.spend_entry().unwrap();
        budget.spend_entry().unwrap();
        assert!(budget.spend_entry().unwrap_err().to_string().contains("8KiB"));
        assert!(Budget::new(None).spend(u64::MAX).is_err());
    }
}
