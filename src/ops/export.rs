//! `lxm export`: a container as one stream.
//!
//! A tar archive, compressed: `lxm/export.toml` first, which says what follows, then
//! `lxm/config.toml`, `lxm/origin.toml`, the tree below `rootfs/` with ids from 0, and last
//! `lxm/sha256`, the digest of all of the archive before that entry. `tar` reads it too.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::container::view::Reading;
use crate::error::{Context, Error, Result};
use crate::image::compress::Encoder;
use crate::image::pack::Packer;
use crate::progress::Progress;
use crate::store::Layout;
use crate::types::{ContainerName, SnapshotName};

pub(crate) use crate::image::compress::Compression;

/// `lxm/export.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ExportRecord {
    /// Of the format; only 1 exists.
    pub version: u32,
    pub name: ContainerName,
    /// RFC 3339, UTC.
    pub exported: String,
    /// Version of lxm that wrote it.
    pub lxm: String,
}

pub(super) const RECORD: &str = "lxm/export.toml";
pub(super) const CONFIG: &str = "lxm/config.toml";
pub(super) const ORIGIN: &str = "lxm/origin.toml";
pub(super) const DIGEST: &str = "lxm/sha256";
pub(super) const TREE: &str = "rootfs";

/// What the digest does not cover: its own entry (header and one block) and the archive's end (two
/// blocks of zeros).
pub(super) const TAIL: usize = 4 * 512;

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Exported {
    /// Of all of the archive before the entry that has it.
    pub digest: String,
    /// What of the container is not in it.
    pub remarks: Vec<String>,
}

/// Writes a container, or a snapshot of it, to `output`.
///
/// A running guest is frozen only while its tree is copied or snapshotted.
pub(crate) fn export<W: Write>(
    layout: &Layout,
    name: &ContainerName,
    snapshot: Option<&SnapshotName>,
    compression: Compression,
    output: W,
) -> Result<Exported> {
    let step = || format!("export `{name}`");
    let reading = Reading::begin(layout, name, snapshot).context(step)?;
    let progress = Progress::bytes(step(), 0);
    let exported = write(&reading, name, compression, output, &progress).context(step)?;
    progress.finish();
    Ok(exported)
}

fn write<W: Write>(
    reading: &Reading,
    name: &ContainerName,
    compression: Compression,
    output: W,
    progress: &Progress,
) -> Result<Exported> {
    let record = ExportRecord {
        version: 1,
        name: name.clone(),
        exported: crate::store::now(),
        lxm: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let now = jiff::Timestamp::now().as_second();
    let hasher = Rc::new(RefCell::new(Sha256::new()));
    let encoder = Encoder::new(output, compression)?;
    let mut packer = Packer::new(HashedWriter { writer: encoder, hasher: Rc::clone(&hasher) }, progress);
    packer.file(RECORD, to_toml(&record)?.as_bytes(), 0o644, now)?;
    packer.file(CONFIG, reading.config_text.as_bytes(), 0o600, now)?;
    packer.file(ORIGIN, to_toml(&reading.origin)?.as_bytes(), 0o644, now)?;
    packer.tree(TREE, reading.tree())?;
    packer.flush()?;
    let digest = hex::encode(hasher.borrow().clone().finalize());
    packer.file(DIGEST, format!("{digest}\n").as_bytes(), 0o644, now)?;
    let remarks = packer.remarks().notes();
    let mut output = packer.finish()?.writer.finish().context(|| "compress")?;
    output.flush().context(|| "write")?;
    Ok(Exported { digest, remarks })
}

fn to_toml<T: Serialize>(value: &T) -> Result<String> {
    toml::to_string(value).map_err(|e| Error::failed(e.to_string()))
}

/// Digests what is written through it.
struct HashedWriter<W> {
    writer: W,
    hasher: Rc<RefCell<Sha256>>,
}

impl<W: Write> Write for HashedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.hasher.borrow_mut().update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        // Nothing to pass on, and a compressor that is flushed in between compresses worse.
        Ok(())
    }
}
