//! Reading a tar archive entry by entry, decompressed ahead by a thread of its own.
//!
//! `tar-core` takes the format apart. Here is what it leaves open: negative and fractional times,
//! access control lists, GNU tar's escapes in attribute names, and what to refuse.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use rustix::fs::Timespec;
use tar_core::parse::{Limits, ParseError, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, HEADER_SIZE, PaxExtensions};

use super::acl::List;
use super::attributes::Attributes;
use super::shown;
use crate::error::{Context, Error, Result};

/// One entry of an archive.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it stands in the archive.
    pub path: Vec<u8>,
    pub kind: EntryKind,
    pub attributes: Attributes,
    /// Access control lists in text form; those in binary form are among the extended attributes.
    pub acls: Vec<(List, Vec<u8>)>,
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
    /// A block or character device.
    Device,
    /// A volume label.
    Label,
}

/// An archive being read; made by [`read`].
pub(super) struct Archive {
    source: Source,
    parser: Parser,
    /// Bytes of the present entry's contents that have not been taken.
    content_left: u64,
    padding_left: u64,
    /// For messages: where in the archive something is wrong.
    last_path: Option<Vec<u8>>,
}

/// Decompresses `reader` in a thread of its own and has `consume` read the archive in it.
///
/// All of the stream is read, also what follows the archive: its checksum comes last. `read_bytes`
/// is told how much of `reader` has been read.
pub(super) fn read<T>(
    reader: impl Read + Send,
    read_bytes: impl Fn(u64) + Send,
    consume: impl FnOnce(&mut Archive) -> Result<T>,
) -> Result<T> {
    std::thread::scope(|scope| {
        let (chunks_out, chunks) = sync_channel(CHUNKS_AHEAD);
        let (spare, spare_in) = channel();
        scope.spawn(move || read_ahead(Counted { reader, read_bytes }, &chunks_out, &spare_in));
        // Dropped at the end of this closure, failed or not, which ends the thread.
        let mut archive = Archive {
            source: Source { chunks, spare, chunk: Vec::new(), start: 0, position: 0 },
            parser: parser(),
            content_left: 0,
            padding_left: 0,
            last_path: None,
        };
        let result = consume(&mut archive)?;
        archive.source.drain()?;
        Ok(result)
    })
}

fn parser() -> Parser {
    // The kernel's own limits, with room: 64 KiB for a value and for all names, 4096 for a path.
    let limits = Limits { max_metadata_size: 8 << 20, max_path_len: Some(4096), ..Limits::default() };
    let mut parser = Parser::new(Limits { max_sparse_entries: 1_000_000, ..limits });
    // It would refuse times before 1970; `check_numbers` is as strict on the rest.
    parser.set_ignore_pax_errors(true);
    parser
}

impl Archive {
    /// The next entry, `None` at the archive's end. Contents not taken are skipped.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        self.skip_content()?;
        loop {
            // A borrow of the buffer cannot outlive the match, so the entry is made in it.
            let wanted = match self.parser.parse(self.source.buffered()) {
                Ok(ParseEvent::NeedData { min_bytes }) => min_bytes,
                Ok(ParseEvent::End { consumed }) => {
                    self.source.advance(consumed);
                    return Ok(None);
                }
                Ok(ParseEvent::GlobalExtensions { consumed, pax_data }) => {
                    check_global(pax_data)?;
                    self.source.advance(consumed);
                    continue;
                }
                Ok(ParseEvent::Entry { consumed, entry }) => {
                    let size = entry.size;
                    let made = make_entry(&entry, None);
                    return self.begin(consumed, size, made);
                }
                Ok(ParseEvent::SparseEntry { consumed, entry, sparse_map, real_size }) => {
                    let map: Vec<_> = sparse_map.iter().map(|part| (part.offset, part.length)).collect();
                    let made = make_entry(&entry, Some((real_size, map)));
                    // Not `entry.size`, from which tar-core does not take off the map where the
                    // size stands in a PAX record.
                    let size = sparse_map.iter().try_fold(0u64, |sum, part| sum.checked_add(part.length));
                    return self.begin(consumed, size.unwrap_or(u64::MAX), made);
                }
                Err(e) => return Err(self.damaged(&e)),
            };
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

    fn begin(&mut self, consumed: usize, size: u64, entry: Result<Entry>) -> Result<Option<Entry>> {
        let entry = entry?;
        self.source.advance(consumed);
        // A hard link has a size in some archives, but never contents (GNU tar's `read_header`).
        self.content_left = if matches!(entry.kind, EntryKind::HardLink(_)) { 0 } else { size };
        self.padding_left = (HEADER_SIZE as u64 - self.content_left % HEADER_SIZE as u64) % HEADER_SIZE as u64;
        self.last_path = Some(entry.path.clone());
        Ok(Some(entry))
    }

    /// The next piece of the present entry's contents, at most `limit` bytes; empty at their end.
    pub fn content(&mut self, limit: u64) -> Result<&[u8]> {
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
        let at = self.source.position;
        match &self.last_path {
            None if matches!(cause, ParseError::Header(_)) => {
                Error::failed(format!("this is not a tar archive ({cause})"))
                    .hint("tar archives are understood plain and compressed with gzip, xz or zstd")
            }
            None => Error::failed(format!("the archive's first entry is damaged ({cause})")),
            Some(path) => {
                Error::failed(format!("the archive is damaged at byte {at}, after `{}` ({cause})", shown(path)))
            }
        }
    }

    fn truncated(&self) -> Error {
        let at = self.source.position + self.source.buffered().len() as u64;
        match &self.last_path {
            None if at == 0 => Error::failed("the archive is empty"),
            None => Error::failed("this is not a tar archive, or only the beginning of one"),
            Some(path) => {
                Error::failed(format!("the archive is truncated: it ends at byte {at}, after `{}`", shown(path)))
            }
        }
    }
}

fn make_entry(parsed: &ParsedEntry, sparse: Option<(u64, Vec<(u64, u64)>)>) -> Result<Entry> {
    let path = parsed.path.to_vec();
    let target = || {
        let target = parsed.link_target.as_ref().map(|target| target.to_vec());
        target.ok_or_else(|| Error::failed("a link without a target"))
    };
    let build = || -> Result<Entry> {
        let mut attributes = Attributes {
            mode: parsed.mode & 0o7777,
            uid: id(parsed.uid)?,
            gid: id(parsed.gid)?,
            // Two's complement: before 1970 in GNU tar's base-256 form.
            mtime: Timespec { tv_sec: parsed.mtime as i64, tv_nsec: 0 },
            xattrs: Vec::new(),
        };
        let mut acls = Vec::new();
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
            (EntryType::Char | EntryType::Block, None) => EntryKind::Device,
            (EntryType::Other(b'V'), None) => EntryKind::Label,
            (other, None) => {
                let letter = char::from(other.to_byte()).escape_default();
                return Err(Error::failed(format!("entries of type `{letter}` are not supported")));
            }
        };
        Ok(Entry { path: path.clone(), kind, attributes, acls })
    };
    build().context(|| format!("read `{}`", shown(&path)))
}

fn sparse_kind(size: u64, data: Vec<(u64, u64)>) -> Result<EntryKind> {
    let mut end = 0;
    for &(offset, length) in &data {
        let next = offset.checked_add(length).filter(|&next| offset >= end && next <= size);
        end = next.ok_or_else(|| Error::failed("the map of a sparse file contradicts itself"))?;
    }
    Ok(EntryKind::Sparse { size, data })
}

fn id(id: u64) -> Result<u32> {
    // chown(2) takes the highest one for "leave it".
    let id = u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    id.ok_or_else(|| Error::failed("its owner is not a user or group id"))
}

fn read_pax(pax: &[u8], attributes: &mut Attributes, acls: &mut Vec<(List, Vec<u8>)>) -> Result<()> {
    for record in PaxExtensions::new(pax) {
        let record = record.map_err(|e| Error::failed(e.to_string()))?;
        let (key, value) = (record.key_bytes(), record.value_bytes());
        match key {
            b"mtime" => attributes.mtime = time(value).ok_or_else(|| Error::failed("its time is not a number"))?,
            b"size"
            | b"uid"
            | b"gid"
            | b"GNU.sparse.realsize"
            | b"GNU.sparse.size"
            | b"GNU.sparse.offset"
            | b"GNU.sparse.numbytes"
            | b"GNU.sparse.major"
            | b"GNU.sparse.minor" => {
                let number = str::from_utf8(value).ok().and_then(|value| value.parse::<u64>().ok());
                number.ok_or_else(|| Error::failed(format!("its `{}` is not a number", shown(key))))?;
            }
            b"SCHILY.acl.access" => acls.push((List::Access, value.to_vec())),
            b"SCHILY.acl.default" => acls.push((List::Default, value.to_vec())),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    attributes.xattrs.push((unescape(name), value.to_vec()));
                }
            }
        }
    }
    Ok(())
}

/// GNU tar writes `=` and `%` of an attribute's name as `%3D` and `%25` (its `xattr_encode_keyword`).
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, after @ ..] = rest {
        let (byte, after) = match rest {
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            _ => (*first, after),
        };
        plain.push(byte);
        rest = after;
    }
    plain
}

/// Seconds with a fraction of any length, rounded down to the nanosecond.
fn time(value: &[u8]) -> Option<Timespec> {
    let value = str::from_utf8(value).ok()?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let (negative, whole) = match whole.strip_prefix('-') {
        Some(whole) => (true, whole),
        None => (false, whole),
    };
    let all_digits = |s: &str| s.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let (nanos, beyond) = fraction.split_at(fraction.len().min(9));
    let nanos: i64 = format!("{nanos:0<9}").parse().ok()?;
    let seconds: i64 = whole.parse().ok()?;
    if !negative {
        return Some(Timespec { tv_sec: seconds, tv_nsec: nanos });
    }
    // Down is away from zero here, and the nanoseconds count upwards all the same.
    let nanos = nanos + i64::from(beyond.bytes().any(|byte| byte != b'0'));
    Some(match nanos {
        0 => Timespec { tv_sec: -seconds, tv_nsec: 0 },
        _ => Timespec { tv_sec: -seconds - 1, tv_nsec: 1_000_000_000 - nanos },
    })
}

/// Global records would apply to all entries that follow; only those that change nothing are taken.
fn check_global(pax: &[u8]) -> Result<()> {
    for record in PaxExtensions::new(pax) {
        let record = record.map_err(|e| Error::failed(format!("the archive's global header is damaged: {e}")))?;
        if !matches!(record.key_bytes(), b"comment" | b"charset" | b"hdrcharset" | b"atime" | b"ctime") {
            let key = shown(record.key_bytes());
            return Err(Error::failed(format!("the archive sets `{key}` for all entries, which is not supported")));
        }
    }
    Ok(())
}

const CHUNK: usize = 256 * 1024;
const CHUNKS_AHEAD: usize = 8;

/// The decompressed stream, as chunks from the other thread.
struct Source {
    chunks: Receiver<io::Result<Vec<u8>>>,
    /// Used chunks go back, to be filled again.
    spare: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    /// Where in `chunk` that begins which has not been taken.
    start: usize,
    /// The same in the whole stream.
    position: u64,
}

impl Source {
    fn buffered(&self) -> &[u8] {
        &self.chunk[self.start..]
    }

    fn advance(&mut self, count: usize) {
        self.take(count);
    }

    fn take(&mut self, count: usize) -> &[u8] {
        let taken = self.start..self.start + count;
        self.start += count;
        self.position += count as u64;
        &self.chunk[taken]
    }

    /// Buffers `wanted` bytes, and twice what was there so that one who asks for ever more does
    /// not go through the same bytes too often; says whether the stream has that many.
    fn fill(&mut self, wanted: usize) -> Result<bool> {
        let comfortable = wanted.max(self.buffered().len().saturating_mul(2));
        while self.buffered().len() < comfortable {
            let Ok(next) = self.chunks.recv() else { break };
            let next = next.context(|| "decompress the archive")?;
            if self.buffered().is_empty() {
                let used = std::mem::replace(&mut self.chunk, next);
                let _ = self.spare.send(used);
            } else {
                self.chunk.drain(..self.start);
                self.chunk.extend_from_slice(&next);
            }
            self.start = 0;
        }
        Ok(self.buffered().len() >= wanted)
    }

    fn drain(&mut self) -> Result<()> {
        while let Ok(next) = self.chunks.recv() {
            let _ = self.spare.send(next.context(|| "decompress the archive")?);
        }
        Ok(())
    }
}

fn read_ahead(reader: impl Read + Send, chunks: &SyncSender<io::Result<Vec<u8>>>, spare: &Receiver<Vec<u8>>) {
    let mut decoder = match super::compress::decoder(reader) {
        Ok(decoder) => decoder,
        Err(e) => {
            let _ = chunks.send(Err(e.into()));
            return;
        }
    };
    loop {
        let mut chunk = spare.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        let read = fill_chunk(&mut decoder, &mut chunk);
        let end = !matches!(read, Ok(n) if n > 0);
        let message = read.map(|length| {
            chunk.truncate(length);
            chunk
        });
        // The other side has gone where it fails; it says why.
        if matches!(&message, Ok(chunk) if chunk.is_empty()) || chunks.send(message).is_err() || end {
            return;
        }
    }
}

fn fill_chunk(reader: &mut dyn Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match reader.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

struct Counted<R, F> {
    reader: R,
    read_bytes: F,
}

impl<R: Read, F: Fn(u64)> Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        (self.read_bytes)(n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond_on_both_sides_of_1970() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("1234567890.5", Some((1_234_567_890, 500_000_000))),
            ("1.123456789987", Some((1, 123_456_789))),
            ("-1", Some((-1, 0))),
            ("-1.5", Some((-2, 500_000_000))),
            ("-0.25", Some((-1, 750_000_000))),
            ("-0.9999999991", Some((-1, 0))),
            ("", None),
            ("-", None),
            ("x", None),
            ("1.x", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()).map(|t| (t.tv_sec, t.tv_nsec)), expected, "{text}");
        }
    }

    #[test]
    fn attribute_names_lose_the_escapes_of_gnu_tar() {
        assert_eq!(unescape(b"user.a%3Db%25c%20"), b"user.a=b%c%20");
    }
}
