//! Reading an archive to its end without unpacking it: what unpacking would refuse, and what it would make.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;

use super::archive::{self, Archive, ArchiveEntry, EntryKind};
use super::budget::Budget;
use super::measure::HighestOwner;
use super::unpack::Inside;
use super::{Remarks, shown};
use crate::error::{Context, Error, Result};

/// What is in a tree that an archive has.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub entries: u64,
    /// Of the contents of its files, holes not counted.
    pub bytes: u64,
    pub highest: HighestOwner,
    /// Whether it has what makes it the archive of a docker or OCI image.
    pub is_image: bool,
    /// What unpacking leaves out.
    pub remarks: Remarks,
    /// What unpacking fails at, some of it.
    pub problems: Vec<String>,
}

/// Problems are the same again and again where a tree is large.
const MOST_PROBLEMS: usize = 20;

/// What a name may be (NAME_MAX): of every file system that containers are on.
const LONGEST_NAME: usize = 255;

/// Surveys the tree of an archive: all of it, or what is in its directory `below`. Files beside that are given
/// to `aside`, contents and all.
///
/// Fails where the archive itself is damaged or cut short.
pub(crate) fn survey(
    reader: impl Read + Send,
    below: Option<&str>,
    budget: &Budget,
    aside: &mut dyn FnMut(&ArchiveEntryName, &mut dyn Read) -> Result<()>,
) -> Result<Survey> {
    let mut made = Survey::default();
    let mut seen = Seen::default();
    let more = archive::read(
        reader,
        budget,
        |_| {},
        |archive| {
            while let Some(entry) = archive.next()? {
                let step = format!("read `{}`", shown(&entry.path));
                let inside = match Inside::new(&entry.path) {
                    Ok(inside) => inside.0,
                    Err(e) => {
                        made.problem(&entry.path, &e.to_string());
                        continue;
                    }
                };
                match within(&inside, below) {
                    Some(path) => made.take(&mut seen, path, below, &entry),
                    None if matches!(entry.kind, EntryKind::File) => {
                        let name = ArchiveEntryName(String::from_utf8_lossy(&inside).into_owned());
                        aside(&name, &mut Contents(archive)).context(|| step)?;
                        continue;
                    }
                    None if matches!(entry.kind, EntryKind::Directory | EntryKind::Label) => {}
                    None => made.problem(&entry.path, "it is neither a file nor in the tree"),
                }
                drop(entry);
                made.bytes += std::io::copy(&mut Contents(archive), &mut std::io::sink()).context(|| step)?;
            }
            Ok(())
        },
    )?;
    if more {
        made.remarks.add("not read, because GNU tar reads no further either", b"what is behind its end");
    }
    Ok(made)
}

/// The path of a file in an archive, without `.`.
pub(crate) struct ArchiveEntryName(pub String);

/// What of `path` is below the directory of the tree; `None` where it is not in it.
fn within<'a>(path: &'a [u8], below: Option<&str>) -> Option<&'a [u8]> {
    let Some(below) = below else { return Some(path) };
    let rest = path.strip_prefix(below.as_bytes())?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

/// Which paths have been: by a hash, so that an archive of many takes little memory.
#[derive(Default)]
struct Seen {
    made: HashSet<u64>,
    left_out: HashSet<u64>,
    hasher: RandomState,
}

impl Survey {
    fn problem(&mut self, path: &[u8], why: &str) {
        match self.problems.len() {
            MOST_PROBLEMS => self.problems.push("and more".to_owned()),
            n if n > MOST_PROBLEMS => {}
            _ => self.problems.push(format!("`{}`: {why}", shown(path))),
        }
    }

    fn take(&mut self, seen: &mut Seen, path: &[u8], below: Option<&str>, entry: &ArchiveEntry) {
        self.entries += 1;
        if entry.path.starts_with(b"/") {
            self.remarks.add("their names are absolute and are taken from the root of the archive", path);
        }
        if path.split(|&byte| byte == b'/').any(|name| name.len() > LONGEST_NAME || name.contains(&0)) {
            return self.problem(path, "no file system takes such a name");
        }
        let id = entry.attributes.uid.max(entry.attributes.gid);
        if id > self.highest.id {
            self.highest = HighestOwner { id, path: String::from_utf8_lossy(path).into_owned().into() };
        }
        self.is_image |= matches!(path, b"manifest.json" | b"oci-layout");
        let key = seen.hasher.hash_one(path);
        match &entry.kind {
            EntryKind::HardLink(target) => {
                let target = Inside::new(target).map(|target| target.0);
                let target = target.as_deref().ok().and_then(|target| within(target, below));
                match target.map(|target| seen.hasher.hash_one(target)) {
                    Some(target) if seen.left_out.contains(&target) => self.leave_out(seen, key, path),
                    Some(target) if seen.made.contains(&target) => {}
                    _ => return self.problem(path, "it is a link to what is not in the tree before it"),
                }
            }
            EntryKind::Device => self.leave_out(seen, key, path),
            EntryKind::File | EntryKind::Sparse { .. } | EntryKind::Symlink(_) | EntryKind::Fifo if path.is_empty() => {
                return self.problem(path, "it would take the place of the root directory");
            }
            _ => {}
        }
        seen.made.insert(key);
    }

    fn leave_out(&mut self, seen: &mut Seen, key: u64, path: &[u8]) {
        seen.left_out.insert(key);
        if !path.starts_with(b"dev/") {
            self.remarks.add("left out, because a container's devices are made at its start", path);
        }
    }
}

/// The contents of an archive's present entry.
struct Contents<'a, 'b>(&'a mut Archive<'b>);

impl Read for Contents<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let piece = self.0.content(buffer.len() as u64).map_err(|e: Error| std::io::Error::other(e.to_string()))?;
        buffer[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}
