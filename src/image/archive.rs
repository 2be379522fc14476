//! Reading a tar archive entry by entry, decompressed ahead by a thread of its own.
//!
//! `tar-core` takes the format apart. Here is what it leaves open: negative and fractional times,
//! access control lists, GNU tar's escapes in attribute names, and what to refuse.

mod pax;
mod source;

use std::io::Read;

use rustix::fs::Timespec;
use tar_core::parse::{Limits, ParseError, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, HEADER_SIZE};

use self::pax::{check_global, id, read_pax};
use self::source::ArchiveStream;
use super::acl::AclKind;
use super::attributes::FileAttributes;
use super::budget::Budget;
use super::inode_flags::FileFlags;
use super::{LARGEST_SPARSE, MOST_METADATA, MOST_PARTS, shown};
use crate::error::{Context, Error, Result};

/// One entry of an archive.
#[derive(Debug)]
pub(super) struct ArchiveEntry {
    /// As it stands in the archive.
    pub path: Vec<u8>,
    pub kind: EntryKind,
    pub attributes: FileAttributes,
    /// Access control lists in text form; those in binary form are among the extended attributes.
    pub acls: Vec<(AclKind, Vec<u8>)>,
}

#[derive(Debug)]
pub(super) enum EntryKind {
    File,
    Sparse {
        size: u64,
        /// Offset and length of the parts that hold data, in ascending order.
        data: Vec<(u64, u64)>,
    },
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
    /// How overlayfs marks a file of a lower layer as removed: a character device 0:0, which is none.
    Whiteout,
    /// A block or character device.
    Device,
    /// A volume label.
    Label,
}

/// More than the parser's own limits let an entry's headers be, in case it miscounts: what it asks
/// for is held in memory.
const MOST_BUFFERED: usize = 128 << 20;

/// An archive being read; made by [`read`].
pub(super) struct Archive<'b> {
    source: ArchiveStream<'b>,
    parser: Parser,
    /// Bytes of the present entry's contents that have not been taken.
    content_left: u64,
    padding_left: u64,
    /// Records for all entries that follow, which their own override (POSIX.1, pax, typeflag `g`).
    globals: Vec<u8>,
    /// For messages: where in the archive something is wrong.
    last_path: Option<Vec<u8>>,
}

/// Decompresses `reader` in a thread of its own and has `consume` read the archive in it.
///
/// All of the stream is read, also what follows the archive: its checksum comes last. `read_bytes` is called
/// with how much of `reader` has been read. What comes out of it is spent of `budget`.
///
/// Returns whether there is more than zeros behind the archive's end: another one, which GNU tar reads with
/// `--ignore-zeros` alone.
pub(super) fn read(
    reader: impl Read + Send,
    budget: &Budget,
    read_bytes: impl Fn(u64) + Send,
    consume: impl FnOnce(&mut Archive<'_>) -> Result<()>,
) -> Result<bool> {
    std::thread::scope(|scope| {
        let (source, read_ahead) = ArchiveStream::new(reader, budget, read_bytes);
        scope.spawn(read_ahead);
        // Dropped at the end of this closure, failed or not, which ends the thread.
        let mut archive = Archive {
            source,
            parser: parser(),
            content_left: 0,
            padding_left: 0,
            globals: Vec::new(),
            last_path: None,
        };
        consume(&mut archive)?;
        archive.source.drain()
    })
}

fn parser() -> Parser {
    let most_path = Some(super::MOST_PATH as u32);
    let limits = Limits { max_metadata_size: MOST_METADATA as u32, max_path_len: most_path, ..Limits::default() };
    let mut parser = Parser::new(Limits { max_sparse_entries: MOST_PARTS, ..limits });
    // It would refuse times before 1970; `check_numbers` is as strict on the rest.
    parser.set_ignore_pax_errors(true);
    parser
}

/// They are read again for every entry. Those of git have one record.
const MOST_GLOBALS: usize = 64 << 10;

impl Archive<'_> {
    /// The next entry, `None` at the archive's end. Contents not taken are skipped.
    pub(super) fn next(&mut self) -> Result<Option<ArchiveEntry>> {
        self.skip_content()?;
        loop {
            // A borrow of the buffer cannot outlive the match, so the entry is made in it.
            let wanted = match self.parser.parse(self.source.buffered()) {
                // tar-core may name no more than it has been given, and would be asked forever: where the
                // map of a sparse file has a line of more than a block.
                Ok(ParseEvent::NeedData { min_bytes }) => min_bytes.max(self.source.buffered().len() + 1),
                Ok(ParseEvent::End { consumed }) => {
                    self.source.advance(consumed);
                    return Ok(None);
                }
                Ok(ParseEvent::GlobalExtensions { consumed, pax_data }) => {
                    check_global(pax_data)?;
                    if self.globals.len() + pax_data.len() > MOST_GLOBALS {
                        return Err(Error::failed("the archive's global headers are larger than 64 KiB"));
                    }
                    self.globals.extend_from_slice(pax_data);
                    self.source.advance(consumed);
                    continue;
                }
                Ok(ParseEvent::Entry { consumed, entry }) => {
                    let size = entry.size;
                    let made = make_entry(&entry, None, &self.globals);
                    return self.begin(consumed, size, made);
                }
                Ok(ParseEvent::SparseEntry { consumed, entry, sparse_map, real_size }) => {
                    let map: Vec<_> = sparse_map.iter().map(|part| (part.offset, part.length)).collect();
                    let made = make_entry(&entry, Some((real_size, map)), &self.globals);
                    // Not `entry.size`, from which tar-core does not take off the map where the
                    // size stands in a PAX record.
                    let size = sparse_map.iter().try_fold(0u64, |sum, part| sum.checked_add(part.length));
                    return self.begin(consumed, size.unwrap_or(u64::MAX), made);
                }
                Err(e) => return Err(self.damaged(&e)),
            };
            if wanted > MOST_BUFFERED {
                return Err(self.damaged(&ParseError::InvalidSize(wanted as u64)));
            }
            if !self.source.fill(wanted)? {
                let rest = self.source.buffered();
                // One block of zeros and nothing more is how some programs end an archive.
                if self.last_path.is_some() && rest.len() >= HEADER_SIZE && rest.iter().all(|&byte| byte == 0) {
                    return Ok(None);
                }
                return Err(self.truncated());
            }
        }
    }

    fn begin(&mut self, consumed: usize, size: u64, entry: Result<ArchiveEntry>) -> Result<Option<ArchiveEntry>> {
        let entry = entry?;
        self.source.advance(consumed);
        // A hard link has a size in some archives, but never contents (GNU tar's `read_header`).
        self.content_left = if matches!(entry.kind, EntryKind::HardLink(_)) { 0 } else { size };
        self.padding_left = (HEADER_SIZE as u64 - self.content_left % HEADER_SIZE as u64) % HEADER_SIZE as u64;
        self.last_path = Some(entry.path.clone());
        self.source.budget().spend_entry()?;
        Ok(Some(entry))
    }

    /// The next piece of the present entry's contents, at most `limit` bytes; empty at their end.
    pub(super) fn content(&mut self, limit: u64) -> Result<&[u8]> {
        let limit = limit.min(self.content_left);
        if limit == 0 {
            return Ok(&[]);
        }
        if self.source.buffered().is_empty() && !self.source.fill(1)? {
            return Err(Error::failed("the archive ends in the middle of it: it is truncated"));
        }
        let length = (self.source.buffered().len() as u64).min(limit) as usize;
        self.content_left -= length as u64;
        Ok(self.source.take(length))
    }

    fn skip_content(&mut self) -> Result<()> {
        self.content_left = self.content_left.checked_add(self.padding_left).ok_or_else(|| self.truncated())?;
        self.padding_left = 0;
        while self.content_left > 0 {
            if let Err(e) = self.content(u64::MAX) {
                let of = self.last_path.as_deref().unwrap_or_default();
                return Err(e.step(format!("read the contents of `{}`", shown(of))));
            }
        }
        Ok(())
    }

    fn damaged(&self, cause: &ParseError) -> Error {
        let at = self.source.position();
        match &self.last_path {
            None if matches!(cause, ParseError::Header(_)) => {
                Error::failed(format!("this is not a tar archive ({cause})"))
                    .hint("tar archives are understood plain and compressed with gzip, bzip2, xz, lzma, lzip or zstd")
            }
            None => Error::failed(format!("the archive's first entry is damaged ({cause})")),
            Some(path) => {
                Error::failed(format!("the archive is damaged at byte {at}, after `{}` ({cause})", shown(path)))
            }
        }
    }

    fn truncated(&self) -> Error {
        let at = self.source.position() + self.source.buffered().len() as u64;
        match &self.last_path {
            None if at == 0 => Error::failed("the archive is empty"),
            None => Error::failed("this is not a tar archive, or only the beginning of one"),
            Some(path) => {
                Error::failed(format!("the archive is truncated: it ends at byte {at}, after `{}`", shown(path)))
            }
        }
    }
}

fn make_entry(parsed: &ParsedEntry, sparse: Option<(u64, Vec<(u64, u64)>)>, globals: &[u8]) -> Result<ArchiveEntry> {
    let path = parsed.path.to_vec();
    let target = || {
        let target = parsed.link_target.as_ref().map(|target| target.to_vec());
        target.ok_or_else(|| Error::failed("a link without a target"))
    };
    let build = || -> Result<ArchiveEntry> {
        let mut attributes = FileAttributes {
            mode: parsed.mode & 0o7777,
            uid: id(parsed.uid)?,
            gid: id(parsed.gid)?,
            // Two's complement: before 1970 in GNU tar's base-256 form.
            mtime: Timespec { tv_sec: parsed.mtime as i64, tv_nsec: 0 },
            xattrs: Vec::new(),
            flags: FileFlags::default(),
        };
        let mut acls = Vec::new();
        read_pax(globals, &mut attributes, &mut acls)?;
        if let Some(pax) = parsed.pax {
            read_pax(pax, &mut attributes, &mut acls)?;
        }
        let kind = match (parsed.entry_type, sparse) {
            (_, Some((size, data))) => sparse_kind(size, data)?,
            // Before POSIX a directory was a file whose name ends in a slash.
            (EntryType::Regular | EntryType::Continuous, None) if path.ends_with(b"/") => EntryKind::Directory,
            (EntryType::Regular | EntryType::Continuous, None) => EntryKind::File,
            // `D`: a directory with a listing as its contents, of GNU tar's incremental dumps.
            (EntryType::Directory | EntryType::Other(b'D'), None) => EntryKind::Directory,
            (EntryType::Symlink, None) => EntryKind::Symlink(target()?),
            (EntryType::Link, None) => EntryKind::HardLink(target()?),
            (EntryType::Fifo, None) => EntryKind::Fifo,
            (EntryType::Char, None) if (parsed.dev_major, parsed.dev_minor) == (Some(0), Some(0)) => {
                EntryKind::Whiteout
            }
            (EntryType::Char | EntryType::Block, None) => EntryKind::Device,
            (EntryType::Other(b'V'), None) => EntryKind::Label,
            (other, None) => {
                let letter = char::from(other.to_byte()).escape_default();
                return Err(Error::failed(format!("entries of type `{letter}` are not supported")));
            }
        };
        Ok(ArchiveEntry { path: path.clone(), kind, attributes, acls })
    };
    build().context(|| format!("read `{}`", shown(&path)))
}

fn sparse_kind(size: u64, data: Vec<(u64, u64)>) -> Result<EntryKind> {
    if size > LARGEST_SPARSE {
        return Err(Error::failed("it claims to be larger than 16 TiB"));
    }
    let mut end = 0;
    for &(offset, length) in &data {
        let next = offset.checked_add(length).filter(|&next| offset >= end && next <= size);
        end = next.ok_or_else(|| Error::failed("the map of a sparse file contradicts itself"))?;
    }
    Ok(EntryKind::Sparse { size, data })
}
