//! A layer of a container image over those below it (OCI image specification, layer.md).

use std::collections::HashSet;

use rustix::fs::OFlags;

use super::tree::{Inside, WrittenTree, remove_below};
use crate::error::{Context, Error, Result};
use crate::image::archive::{Archive, ArchiveEntry};
use crate::image::attributes::Attributor;
use crate::image::shown;

impl WrittenTree {
    /// What follows goes over other layers, whose directories have their attributes already.
    pub(super) fn begin_layer(&mut self) {
        self.layer = Some(HashSet::new());
        self.attributor = Attributor::over_others();
    }

    pub(super) fn place_in_layer(&mut self, archive: &mut Archive, entry: ArchiveEntry) -> Result<()> {
        let inside = Inside::new(&entry.path).context(|| format!("unpack `{}`", shown(&entry.path)))?;
        // All directories on the way to it are noted, each with its path.
        if inside.0.len() >= libc::PATH_MAX as usize {
            return Err(
                Error::failed("its path is longer than PATH_MAX").step(format!("unpack `{}`", shown(&entry.path)))
            );
        }
        let (dir, name) = inside.split();
        match name.strip_prefix(b".wh.") {
            Some(b".wh..opq") => self.remove_lower(dir),
            Some(whited) => {
                let path = if dir.is_empty() { whited.to_vec() } else { [dir, b"/", whited].concat() };
                if self.is_own(&path) { Ok(()) } else { self.remove(dir, whited) }
            }
            None => {
                if let Some(own) = &mut self.layer {
                    let ends = inside.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
                    own.extend(ends.chain([inside.0.len()]).map(|end| inside.0[..end].to_vec()));
                }
                return self.place(archive, entry);
            }
        }
        .context(|| format!("unpack `{}`", shown(&entry.path)))
    }

    fn is_own(&self, path: &[u8]) -> bool {
        self.layer.as_ref().is_some_and(|own| own.contains(path))
    }

    /// Removes what is in `dir` but not of this layer.
    fn remove_lower(&mut self, dir: &[u8]) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let listed = match self.open(dir, flags) {
            Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(()),
            other => other?,
        };
        for entry in rustix::fs::Dir::read_from(&listed)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let path = if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() };
            if !matches!(name, b"." | b"..") && !self.is_own(&path) {
                self.remove(dir, name)?;
            }
        }
        Ok(())
    }

    /// Removes a file or tree; a missing one is removed already.
    fn remove(&mut self, dir: &[u8], name: &[u8]) -> Result<()> {
        let parent = match self.open(dir, OFlags::PATH | OFlags::DIRECTORY) {
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
            other => other?,
        };
        if name.is_empty() || matches!(name, b"." | b"..") {
            return Err(Error::failed("it removes nothing that has a name"));
        }
        // It may be, or be in, the directory kept open.
        self.parent = None;
        match remove_below(&parent, name) {
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }
}
