//! The decompressed stream of an archive, read ahead by a thread of its own.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::error::{Context, Result};
use crate::image::budget::Budget;

const CHUNK: usize = 256 * 1024;
const CHUNKS_AHEAD: usize = 8;

/// The decompressed stream, as chunks from the other thread.
pub(super) struct ArchiveStream<'b> {
    chunks: Receiver<io::Result<Vec<u8>>>,
    budget: &'b Budget,
    /// Used chunks go back, to be filled again.
    spare: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    /// Where in `chunk` that begins which has not been taken.
    start: usize,
    /// The same in the whole stream.
    position: u64,
}

impl<'b> ArchiveStream<'b> {
    /// Makes one, and what is to be run in another thread for it: it ends with the stream, or when the source
    /// is dropped. `read_bytes` is called with how much of `reader` has been read.
    pub(super) fn new<R: Read + Send, F: Fn(u64) + Send>(
        reader: R,
        budget: &'b Budget,
        read_bytes: F,
    ) -> (Self, impl FnOnce() + Send + use<R, F>) {
        let (chunks_out, chunks) = sync_channel(CHUNKS_AHEAD);
        let (spare, spare_in) = channel();
        let source = ArchiveStream { chunks, budget, spare, chunk: Vec::new(), start: 0, position: 0 };
        (source, move || read_ahead(ByteCounter { reader, read_bytes }, &chunks_out, &spare_in))
    }

    pub(super) fn budget(&self) -> &Budget {
        self.budget
    }

    /// How much of the stream has been taken.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn buffered(&self) -> &[u8] {
        &self.chunk[self.start..]
    }

    pub(super) fn advance(&mut self, count: usize) {
        self.take(count);
    }

    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let taken = self.start..self.start + count;
        self.start += count;
        self.position += count as u64;
        &self.chunk[taken]
    }

    /// Buffers `wanted` bytes, and twice what was there, so that a caller that asks for more and more does
    /// not go through the same bytes too often; returns whether the stream has that many.
    pub(super) fn fill(&mut self, wanted: usize) -> Result<bool> {
        let comfortable = wanted.max(self.buffered().len().saturating_mul(2));
        while self.buffered().len() < comfortable {
            let Ok(next) = self.chunks.recv() else { break };
            let next = next.context(|| "decompress the archive")?;
            self.budget.spend(next.len() as u64)?;
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

    /// Reads the stream to its end; returns whether there was more than zeros.
    pub(super) fn drain(&mut self) -> Result<bool> {
        let mut found = self.buffered().iter().any(|&byte| byte != 0);
        while let Ok(next) = self.chunks.recv() {
            let next = next.context(|| "decompress the archive")?;
            self.budget.spend(next.len() as u64)?;
            found |= next.iter().any(|&byte| byte != 0);
            let _ = self.spare.send(next);
        }
        Ok(found)
    }
}

fn read_ahead(reader: impl Read + Send, chunks: &SyncSender<io::Result<Vec<u8>>>, spare: &Receiver<Vec<u8>>) {
    let mut decoder = match crate::image::compress::decoder(reader) {
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

struct ByteCounter<R, F> {
    reader: R,
    read_bytes: F,
}

impl<R: Read, F: Fn(u64)> Read for ByteCounter<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        (self.read_bytes)(n as u64);
        Ok(n)
    }
}
