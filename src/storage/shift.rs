//! Ids shifted in the files themselves, for file systems that cannot map them at the mount.
//!
//! `ids.toml` in the place says which host id the tree's id 0 is stored as, and which it is being changed to:
//! a shift that was killed is continued where it was, because an id in the new range has been shifted already
//! (the ranges do not overlap).

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::xattr_ids;
use crate::config;
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::store;
use crate::sys::fs::read_text;
use crate::sys::inode_flags::changeable;
use crate::types::IdRange;

/// `ids.toml`; a missing one means that ids are stored from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Stored {
    /// Host id of the tree's id 0.
    base: u32,
    /// How many of the tree's ids are shifted; those above stay as they are.
    #[serde(skip_serializing_if = "is_usual")]
    len: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    shifting_to: Option<u32>,
    /// A file in the middle of its change, which a chown robs of its mode and capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<Pending>,
}

impl Default for Stored {
    fn default() -> Self {
        Stored { base: 0, len: IdRange::LEN, shifting_to: None, pending: None }
    }
}

fn is_usual(len: &u32) -> bool {
    *len == IdRange::LEN
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Pending {
    /// Below the tree, raw bytes.
    path: Vec<u8>,
    mode: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability: Option<Vec<u8>>,
}

impl Stored {
    fn file(place: &Path) -> PathBuf {
        place.join("ids.toml")
    }

    fn read(place: &Path) -> Result<Self> {
        let file = Self::file(place);
        match read_text(&file) {
            Ok(text) => config::parse(&text, &file),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).context(|| format!("read `{}`", file.display())),
        }
    }

    fn write(&self, place: &Path) -> Result<()> {
        if *self == Self::default() {
            return store::remove_tree(&Self::file(place));
        }
        let text = toml::to_string(self).map_err(|e| Error::failed(e.to_string()))?;
        store::replace_file(&Self::file(place), text.as_bytes(), 0o600)
    }
}

/// Whether the ids of the tree of `place` are stored from 0.
pub(super) fn is_stored_plain(place: &Path) -> Result<bool> {
    let stored = Stored::read(place)?;
    Ok(stored.base == 0 && stored.shifting_to.is_none())
}

/// Says of the copy of a tree in `to` what is said of the one in `from`.
pub(super) fn copy_record(from: &Path, to: &Path) -> Result<()> {
    Stored::read(from)?.write(to)
}

/// Changes the stored ids of the tree `rootfs` of `place` to those of `range`; `None` is from 0.
///
/// Starts no thread: supervisors call it.
pub(super) fn ensure(place: &Path, rootfs: &Path, range: Option<IdRange>) -> Result<()> {
    let mut stored = Stored::read(place)?;
    // A shift that was cut short ends where it was going, or its ids would be in three ranges.
    if let Some(to) = stored.shifting_to {
        shift(place, rootfs, &mut stored, to)?;
    }
    let wanted = range.unwrap_or(IdRange { base: 0, len: stored.len });
    if stored.base != 0 && wanted.len < stored.len {
        require_none_above(rootfs, &stored, wanted.len)?;
    }
    if stored.base == wanted.base {
        if stored.base != 0 && stored.len != wanted.len {
            stored.len = wanted.len;
            stored.write(place)?;
        }
        return Ok(());
    }
    if stored.base != 0 && !are_apart(stored.base, wanted.base, stored.len) {
        shift(place, rootfs, &mut stored, 0)?;
    }
    if stored.base == 0 {
        stored.len = wanted.len;
    }
    if !are_apart(stored.base, wanted.base, stored.len) {
        return Err(Error::host_lacks(format!(
            "the ids of `{}` cannot be shifted by fewer than they are, {}",
            rootfs.display(),
            stored.len
        ))
        .hint("set a smaller `security.id-range-size`, or keep the container on a file system that maps ids"));
    }
    shift(place, rootfs, &mut stored, wanted.base)?;
    if stored.base != 0 && stored.len != wanted.len {
        stored.len = wanted.len;
        stored.write(place)?;
    }
    Ok(())
}

/// Whether no id says of itself both that it has been shifted and that it has not.
fn are_apart(from: u32, to: u32, len: u32) -> bool {
    !IdRange { base: from, len }.overlaps(&IdRange { base: to, len })
}

/// Fails where a file belongs to an id that a guest with `len` ids does not have: shifted, it would be
/// another guest's.
fn require_none_above(rootfs: &Path, stored: &Stored, len: u32) -> Result<()> {
    let highest = crate::image::measure::measure(rootfs)?.highest;
    match highest.id.checked_sub(stored.base) {
        Some(inner) if inner >= len && inner < stored.len => Err(Error::failed(format!(
            "`{}` belongs to the id {inner}, and the guest would have {len} ids",
            highest.path.display()
        ))
        .hint("give it to another user first, or set `security.id-range-size` as it was")),
        _ => Ok(()),
    }
}

/// Moves the first `stored.len` ids to those from `to` on.
fn shift(place: &Path, rootfs: &Path, stored: &mut Stored, to: u32) -> Result<()> {
    stored.shifting_to = Some(to);
    stored.write(place)?;
    let progress = Progress::lines(format!("shift the ids of `{}`", rootfs.display()));
    let mut shift = Shift { place, stored, to, progress: &progress, files: 0 };
    shift.finish_pending(rootfs)?;
    shift.tree(rootfs)?;
    progress.finish();
    let len = if to == 0 { IdRange::LEN } else { stored.len };
    *stored = Stored { base: to, len, ..Stored::default() };
    // Nothing says that the new owners are on disk when this record is.
    let root = File::open(rootfs).context(|| format!("open `{}`", rootfs.display()))?;
    rustix::fs::syncfs(&root).context(|| format!("sync `{}`", rootfs.display()))?;
    stored.write(place)
}

/// Changes ids that are stored from `base` to those from 0, in the tree `root` that `place` is to have.
pub(crate) fn unshift(place: &Path, root: &Path, base: u32) -> Result<()> {
    if base == 0 {
        return Ok(());
    }
    Stored { base, ..Stored::default() }.write(place)?;
    ensure(place, root, None)
}

struct Shift<'a> {
    place: &'a Path,
    stored: &'a mut Stored,
    to: u32,
    progress: &'a Progress,
    files: u64,
}

impl Shift<'_> {
    /// What `id` becomes: unchanged where it is none of the tree's own, or changed already.
    fn id(&self, id: u32) -> u32 {
        shifted(id, self.stored.base, self.to, self.stored.len)
    }

    fn tree(&mut self, root: &Path) -> Result<()> {
        let dir = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .context(|| format!("open `{}`", root.display()))?;
        self.directory(dir.as_fd(), &mut PathBuf::new())
            .context(|| format!("shift the ids of `{}`", root.display()))?;
        self.entry(CWD, root, Path::new("")).context(|| format!("shift the ids of `{}`", root.display()))
    }

    fn directory(&mut self, dir: impl AsFd, path: &mut PathBuf) -> Result<()> {
        let entries = Dir::read_from(&dir).context(|| format!("read `{}`", path.display()))?;
        for entry in entries {
            let entry = entry.context(|| format!("read `{}`", path.display()))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let name = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
            path.push(name);
            let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .context(|| format!("look at `{}`", path.display()))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = rustix::fs::openat(&dir, name, flags, Mode::empty())
                    .context(|| format!("open `{}`", path.display()))?;
                self.directory(below, path)?;
            }
            let whole = path.clone();
            self.entry(&dir, name, &whole).context(|| format!("shift `{}`", path.display()))?;
            path.pop();
        }
        Ok(())
    }

    /// Shifts one file; `path` is the whole one below the tree.
    fn entry(&mut self, dir: impl AsFd, name: &Path, path: &Path) -> Result<()> {
        let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let (uid, gid) = (self.id(stat.st_uid), self.id(stat.st_gid));
        if (uid, gid) == (stat.st_uid, stat.st_gid) {
            return Ok(());
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        let chown = || {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            let chown = || rustix::fs::chownat(&dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
            match chown() {
                // Immutable or append-only, as a privileged guest or the admin has made it.
                Err(Errno::PERM) if matches!(kind, FileType::RegularFile | FileType::Directory) => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    changeable(rustix::fs::openat(&dir, name, flags, Mode::empty())?, chown)
                }
                chowned => chowned,
            }
        };
        if kind == FileType::Symlink {
            return Ok(chown()?);
        }
        // A magic link to the file itself: the calls for modes and attributes take no `*at` form.
        let file = rustix::fs::openat(&dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let link = xattr_ids::magic_link(&file);
        let (from, to, len) = (self.stored.base, self.to, self.stored.len);
        // First: once the owner is changed the file counts as done.
        xattr_ids::shift_acls(&link, |id| shifted(id, from, to, len))?;
        let capability = xattr_ids::capability(&link)?;
        let special = stat.st_mode & 0o6000 != 0 && kind != FileType::Directory;
        if special || capability.is_some() {
            let capability = capability.map(|value| xattr_ids::capability_for(&value, to)).transpose()?;
            let pending = Pending { path: path.as_os_str().as_bytes().into(), mode: stat.st_mode & 0o7777, capability };
            self.stored.pending = Some(pending.clone());
            self.stored.write(self.place)?;
            chown()?;
            restore(&link, &pending)?;
            self.stored.pending = None;
            self.stored.write(self.place)?;
        } else {
            chown()?;
        }
        self.files += 1;
        if self.files.is_multiple_of(1000) {
            self.progress.set_message(format!("{} files", self.files));
        }
        Ok(())
    }

    /// Gives a file whose change was cut short what the chown took from it, if it came to that.
    fn finish_pending(&mut self, root: &Path) -> Result<()> {
        let Some(pending) = self.stored.pending.take() else { return Ok(()) };
        let path = Path::new(std::ffi::OsStr::from_bytes(&pending.path));
        let root_dir = crate::sys::fs::open_dir(root)?;
        let file = crate::sys::fs::open_in_root(&root_dir, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        let owner = rustix::fs::fstat(&file)?;
        // Else its owner is still the old one, and the walk comes to it.
        if self.id(owner.st_uid) == owner.st_uid {
            restore(&xattr_ids::magic_link(&file), &pending).context(|| format!("shift `{}`", path.display()))?;
        }
        self.stored.write(self.place)
    }
}

fn shifted(id: u32, from: u32, to: u32, len: u32) -> u32 {
    match id.checked_sub(from) {
        Some(inner) if inner < len => to + inner,
        _ => id,
    }
}

fn restore(link: &Path, pending: &Pending) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(link, fs::Permissions::from_mode(pending.mode))?;
    if let Some(value) = &pending.capability {
        xattr_ids::set_capability(link, value)?;
    }
    Ok(())
}
