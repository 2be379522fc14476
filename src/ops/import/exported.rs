//! What `lxm export` wrote.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::make::{ContainerParts, Imported, is_known, make};
use super::options::ImportOptions;
use crate::config::{self, Config};
use crate::container::new_identity::renew;
use crate::distro::HostKeys;
use crate::error::{Context, Error, Result};
use crate::image::budget::Budget;
use crate::image::unpack::unpack_below;
use crate::ops::export::{CONFIG, DIGEST, ExportRecord, ORIGIN, RECORD, TAIL, TREE};
use crate::progress::Progress;
use crate::store::{Layout, Origin};
use crate::types::Arch;

pub(super) const KNOWN: [&str; 4] = [RECORD, CONFIG, ORIGIN, DIGEST];

/// The most of `lxm/export.toml` that is read before anything else is.
pub(super) const HEAD: usize = 8 * 512;

/// Makes a container of the uncompressed stream that `lxm export` wrote, which begins with `head`.
///
/// It keeps its identity, unless a container of this host has it: then it gets one of its own.
/// What was cut short or changed on the way leaves nothing.
pub(super) fn import(
    layout: &Layout,
    head: &[u8],
    archive: Box<dyn Read + Send + '_>,
    budget: &Budget,
    options: &ImportOptions,
) -> Result<Imported> {
    let record = read_record(head)?;
    let name = options.name.clone().unwrap_or(record.name);
    let step = || format!("import `{name}`");
    let mut notes = Vec::new();
    let mut archive = Some(archive);
    let progress = Progress::bytes(step(), 0);
    let mut known = Vec::new();
    let made = make(layout, &name, options, &mut notes, &mut |root, _| {
        let archive = archive.take().expect("a tree is filled once");
        unpack(layout, archive, root, budget, &progress, &mut known)
    });
    notes.append(&mut known);
    let storage = made.context(step)?;
    progress.finish();
    Ok(Imported { name, storage, notes })
}

/// Whether an uncompressed archive that begins with `head` is an export.
pub(super) fn is_export(head: &[u8]) -> bool {
    head.get(..RECORD.len() + 1).is_some_and(|name| name.strip_suffix(b"\0") == Some(RECORD.as_bytes()))
}

pub(super) fn foreign() -> Error {
    Error::failed("this is not what `lxm export` writes")
        .hint("`lxm create -t archive NAME -- --file FILE` makes a container of an archive of a root file system")
}

/// The first entry, which tells the name before anything is made.
pub(super) fn read_record(head: &[u8]) -> Result<ExportRecord> {
    // Size of a ustar header: octal digits at 124, ended by a blank or zero.
    let size = head.get(124..136).and_then(|field| std::str::from_utf8(field).ok()).unwrap_or_default();
    let size = usize::from_str_radix(size.trim_matches(|c: char| c == '\0' || c == ' '), 8).map_err(|_| foreign())?;
    let text = head.get(512..512usize.saturating_add(size)).and_then(|text| std::str::from_utf8(text).ok());
    let record: ExportRecord = config::parse(text.ok_or_else(foreign)?, Path::new(RECORD))?;
    if record.version != 1 {
        return Err(Error::failed(format!("it is of version {} of the format, of a newer lxm", record.version)));
    }
    Ok(record)
}

fn unpack(
    layout: &Layout,
    archive: Box<dyn Read + Send + '_>,
    root: &Path,
    budget: &Budget,
    progress: &Progress,
    notes: &mut Vec<String>,
) -> Result<ContainerParts> {
    let mut aside = BTreeMap::new();
    let digest = Arc::new(Mutex::new(HeldTail::default()));
    let reader = HashedReader { reader: archive, held: Arc::clone(&digest) };
    let summary = unpack_below(reader, TREE, root, budget, progress, &mut |path, contents| {
        // Kept in memory: these alone, and each once.
        if !KNOWN.contains(&path) {
            return Err(Error::failed(format!("`{path}` is not what `lxm export` writes")));
        }
        match aside.insert(path.to_owned(), contents.to_vec()) {
            None => Ok(()),
            Some(_) => Err(Error::failed(format!("`{path}` is there twice"))),
        }
    })?;
    let remarks = summary.remarks;
    let text = |name: &str| -> Result<String> {
        let contents = aside.get(name).ok_or_else(|| Error::failed(format!("there is no `{name}` in it")))?;
        String::from_utf8(contents.clone()).map_err(|_| Error::failed(format!("`{name}` is not text")))
    };
    let computed = digest.lock().unwrap_or_else(|e| e.into_inner()).digest();
    if text(DIGEST)?.trim() != computed {
        return Err(Error::failed("its contents do not match its digest: it was changed on the way"));
    }
    let config_text = text(CONFIG)?;
    let config: Config = config::parse(&config_text, Path::new(CONFIG))?;
    let mut origin: Origin = config::parse(&text(ORIGIN)?, Path::new(ORIGIN))?;
    // It is looked up among the images of this host.
    if !origin.image.bytes().all(|b| b.is_ascii_hexdigit()) {
        origin.image.clear();
    }
    if !Arch::host().runs(origin.arch) {
        return Err(Error::host_lacks(format!("it is of {}, and this host runs {}", origin.arch, Arch::host())));
    }
    if !is_known(layout, &config.uuid)? {
        return Ok(ContainerParts { config_text, origin, keys: HostKeys::Keep, remarks });
    }
    notes.push("a container of this host has its identity: it got one of its own".to_owned());
    let (config_text, left_out) = renew(&config_text, Path::new(CONFIG))?;
    notes.extend(
        left_out.iter().map(|setting| format!("not taken over, because only the original can have it: {setting}")),
    );
    Ok(ContainerParts { config_text, origin, keys: HostKeys::Fresh, remarks })
}

/// A digest of all but the last [`TAIL`] bytes.
#[derive(Default)]
pub(super) struct HeldTail {
    hasher: Sha256,
    /// At most [`TAIL`] bytes, which may yet turn out to be the last.
    tail: Vec<u8>,
}

impl HeldTail {
    fn update(&mut self, bytes: &[u8]) {
        let keep = bytes.len().min(TAIL);
        let (front, back) = bytes.split_at(bytes.len() - keep);
        let surplus = (self.tail.len() + keep).saturating_sub(TAIL);
        self.hasher.update(&self.tail[..surplus.min(self.tail.len())]);
        self.tail.drain(..surplus.min(self.tail.len()));
        self.hasher.update(front);
        self.tail.extend_from_slice(back);
    }

    pub(super) fn digest(&self) -> String {
        hex::encode(self.hasher.clone().finalize())
    }
}

pub(super) struct HashedReader<R> {
    pub(super) reader: R,
    pub(super) held: Arc<Mutex<HeldTail>>,
}

impl<R: Read> Read for HashedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.held.lock().unwrap_or_else(|e| e.into_inner()).update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_leaves_out_the_tail_whatever_pieces_come() {
        let bytes: Vec<u8> = (0..10_000u32).map(|n| (n % 251) as u8).collect();
        let expected = hex::encode(Sha256::digest(&bytes[..bytes.len() - TAIL]));
        for piece in [1, 7, 512, TAIL - 1, TAIL, TAIL + 1, 9_999, 10_000] {
            let mut held = HeldTail::default();
            bytes.chunks(piece).for_each(|chunk| held.update(chunk));
            assert_eq!(held.digest(), expected, "{piece}");
        }
    }
}
