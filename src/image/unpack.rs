//! Unpacking an archive into a directory, as root, exactly as GNU tar does with `--xattrs
//! --xattrs-include='*' --acls --numeric-owner`, and refusing what would leave that directory.

mod layer;
mod top;
mod tree;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub(crate) use self::top::raise_top;
pub(super) use self::tree::Inside;
pub(crate) use self::tree::Summary;
use self::tree::WrittenTree;
use super::archive::{self, Archive, EntryKind};
use super::budget::Budget;
use super::shown;
use crate::error::{Context, Error, Result};
use crate::progress::Progress;

/// Unpacks the archive `file`, of any compression that [`super::compress`] knows.
pub(crate) fn unpack_file(file: &Path, root: &Path, budget: &Budget) -> Result<Summary> {
    let step = || format!("unpack `{}`", file.display());
    let archive = File::open(file).context(step)?;
    let meta = archive.metadata().context(step)?;
    if meta.is_dir() {
        return Err(Error::failed("it is a directory, not an archive").step(step()));
    }
    let archive = budget.counted(archive);
    let name = file.file_name().unwrap_or(file.as_os_str());
    let progress = Progress::bytes(format!("unpack {}", name.display()), meta.len());
    let summary = unpack(archive, root, budget, &progress).context(step)?;
    progress.finish();
    Ok(summary)
}

/// Unpacks the archive that `reader` yields, compressed or not, into `root`, a directory
/// that is empty or not there yet. `progress` counts what is read of `reader`.
///
/// Errors name the entry. What has been unpacked before one is left to the caller, who unpacks
/// into a staging directory; nothing is synced to disk, see [`super::copy`].
pub(crate) fn unpack(reader: impl Read + Send, root: &Path, budget: &Budget, progress: &Progress) -> Result<Summary> {
    if let Err(e) = std::fs::create_dir(root)
        && e.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(e).context(|| format!("make `{}`", root.display()));
    }
    let mut tree = WrittenTree::new(root)?;
    let more = archive::read(
        reader,
        budget,
        |n| progress.inc(n),
        |archive| {
            while let Some(entry) = archive.next()? {
                tree.place(archive, entry)?;
            }
            Ok(())
        },
    )?;
    tree.complete(more)
}

/// The most that is kept in memory of a file that is not unpacked.
const ASIDE_LIMIT: usize = 4 << 20;

/// As [`unpack`], of what is in the archive's directory `prefix` alone; hard links stay in it.
///
/// Other files are given to `aside` whole, in the archive's order; directories are passed over, and
/// anything else is refused.
pub(crate) fn unpack_below(
    reader: impl Read + Send,
    prefix: &str,
    root: &Path,
    budget: &Budget,
    progress: &Progress,
    aside: &mut dyn FnMut(&str, &[u8]) -> Result<()>,
) -> Result<Summary> {
    let mut tree = WrittenTree::new(root)?;
    let below = |path: &[u8]| -> Result<Option<Vec<u8>>> {
        let Inside(path) = Inside::new(path)?;
        let rest = path.strip_prefix(prefix.as_bytes());
        Ok(rest.filter(|rest| rest.is_empty() || rest.starts_with(b"/")).map(|rest| [b".", rest].concat()))
    };
    let more = archive::read(
        reader,
        budget,
        |n| progress.inc(n),
        |archive| {
            while let Some(mut entry) = archive.next()? {
                let step = |path: &[u8]| format!("unpack `{}`", shown(path));
                if let Some(path) = below(&entry.path).context(|| step(&entry.path))? {
                    if let EntryKind::HardLink(target) = &mut entry.kind {
                        let outside = || Error::failed("it is a link to a file outside the tree").step(step(&path));
                        *target = below(target).context(|| step(&path))?.ok_or_else(outside)?;
                    }
                    entry.path = path;
                    tree.place(archive, entry)?;
                    continue;
                }
                match entry.kind {
                    EntryKind::File => {
                        let contents = contents(archive).context(|| step(&entry.path))?;
                        aside(&String::from_utf8_lossy(&entry.path), &contents)?;
                    }
                    EntryKind::Directory | EntryKind::Label => {}
                    _ => return Err(Error::failed("it is neither a file nor in the tree").step(step(&entry.path))),
                }
            }
            Ok(())
        },
    )?;
    tree.complete(more)
}

fn contents(archive: &mut Archive) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    loop {
        let bytes = archive.content(u64::MAX)?;
        if bytes.is_empty() {
            return Ok(contents);
        }
        if contents.len() + bytes.len() > ASIDE_LIMIT {
            return Err(Error::failed(format!("it is larger than {ASIDE_LIMIT} bytes")));
        }
        contents.extend_from_slice(bytes);
    }
}

/// As [`unpack`], of a layer of a container image over what the layers below it have made.
///
/// Its whiteouts remove what is theirs: `.wh.NAME` the file NAME, `.wh..wh..opq` all that other
/// layers have put into the directory (OCI image specification, layer.md).
pub(crate) fn unpack_layer(
    reader: impl Read + Send,
    root: &Path,
    budget: &Budget,
    progress: &Progress,
) -> Result<Summary> {
    let mut tree = WrittenTree::new(root)?;
    tree.begin_layer();
    let more = archive::read(
        reader,
        budget,
        |n| progress.inc(n),
        |archive| {
            while let Some(entry) = archive.next()? {
                tree.place_in_layer(archive, entry)?;
            }
            Ok(())
        },
    )?;
    tree.complete(more)
}

#[cfg(test)]
mod root_tests;
