//! The images that are kept: `/var/cache/lxm/images/<id>/{rootfs,image.toml}`.
//!
//! An image appears by a rename, whole and written to disk, and is never changed: containers may
//! be layered on it. Made anew, it gets another directory beside the old one (`<id>.2`, `<id>.3`,
//! …), the highest is taken from then on, and older ones go when nothing needs them any more.
//!
//! Two locks an image. `build`: held by the process that makes or removes it, which owns all of
//! `.staging/<id>`. A builder's processes inherit it: it is free when the last of them has ended, which is a
//! moment later than this process if that is killed. `use`: shared by its readers, so that it is not removed
//! meanwhile.

mod place;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::io::FdFlags;
use sha2::{Digest, Sha256};

use self::place::{ROOTFS, remove_image, sync_file_system};
use super::Remarks;
use super::marks::remove_overlay_marks;
use super::measure::measure;
use super::record::{ImageRecord, ImageSpec};
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::store::{FileLock, Layout, sync_dir};
use crate::sys::btrfs;

/// An image that stays while this lives.
#[derive(Debug)]
pub(crate) struct Image {
    pub id: String,
    pub record: ImageRecord,
    /// What was left out or changed when it was made, where it has just been made.
    pub remarks: Remarks,
    place: PathBuf,
    #[expect(dead_code, reason = "held, not read")]
    lock: Option<FileLock>,
}

impl Image {
    /// Its tree, which must not be written to.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.place.join(ROOTFS)
    }
}

/// An image as [`ImageStore::list`] shows it.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub id: String,
    pub record: ImageRecord,
    /// Whether a newer one has replaced it.
    pub superseded: bool,
}

/// Says which containers and snapshots need an image, given the layout with one of the containers'
/// directories and the image's tree.
pub(super) type Users<'a> = &'a dyn Fn(&Layout, &Path) -> Result<Vec<PathBuf>>;

/// Holds links to the containers' directories (`--path`) that the image has been taken for: who
/// needs it is observed, but one must know where to look.
const TAKEN_FOR: &str = "taken-for";

#[derive(Debug)]
pub(crate) struct ImageStore {
    layout: Layout,
}

impl ImageStore {
    pub(crate) fn new(layout: &Layout) -> Self {
        ImageStore { layout: layout.clone() }
    }

    /// The image of `spec`, made by `build` unless it is there.
    ///
    /// `build` fills the empty directory that it is given. Of two who want the same image one
    /// builds and the other waits for it.
    pub(crate) fn get_or_build(&self, spec: &ImageSpec, build: impl FnOnce(&Path) -> Result<Remarks>) -> Result<Image> {
        let id = spec.id();
        if let Some(image) = self.newest(&id)? {
            return Ok(image);
        }
        let lock = self.lock_build(&id)?;
        // Another process may have built it while we waited.
        match self.newest(&id)? {
            Some(image) => Ok(image),
            None => self.build(spec, &lock, build),
        }
    }

    /// Makes the image of `spec` anew; who uses the old one keeps it.
    pub(crate) fn replace(&self, spec: &ImageSpec, build: impl FnOnce(&Path) -> Result<Remarks>) -> Result<Image> {
        let lock = self.lock_build(&spec.id())?;
        self.build(spec, &lock, build)
    }

    /// The images there are, those of one template and release together, the newest of each first.
    pub(crate) fn list(&self) -> Result<Vec<Listed>> {
        let mut images = Vec::new();
        for (id, generations) in self.generations()? {
            for (nth, generation) in generations.iter().rev().enumerate() {
                let dir = directory(&id, *generation);
                let place = self.layout.images().join(&dir);
                // Gone since the directory was read.
                let Some(record) = ImageRecord::read(&place)? else { continue };
                images.push(Listed { id: dir, record, superseded: nth > 0 });
            }
        }
        images.sort_by(|a, b| {
            let key = |image: &Listed| (image.record.template.clone(), image.record.release.clone());
            key(a).cmp(&key(b)).then_with(|| b.record.created.cmp(&a.record.created))
        });
        Ok(images)
    }

    /// Who needs an image; see [`Users`].
    pub(crate) fn users_of(&self, image: &Listed, users: Users) -> Result<Vec<PathBuf>> {
        self.users(&self.layout.images().join(&image.id), users)
    }

    /// The image with exactly this id, kept from being removed; `None` where there is none.
    pub(crate) fn open(&self, id: &str) -> Result<Option<Image>> {
        let Some((base, _)) = parse(id) else { return Ok(None) };
        let lock = FileLock::acquire_shared(&self.lock_file(base, "use"))?;
        let place = self.layout.images().join(id);
        Ok(ImageRecord::read(&place)?.map(|record| Image {
            id: id.to_owned(),
            record,
            remarks: Remarks::default(),
            place,
            lock,
        }))
    }

    /// The tree of an image.
    pub(crate) fn rootfs_of(&self, image: &Listed) -> PathBuf {
        self.layout.images().join(&image.id).join(ROOTFS)
    }

    /// Finds an image by its id or the beginning of it, or by its name, when that is of one alone.
    pub(crate) fn find(&self, id: &str) -> Result<Listed> {
        let mut images = self.list()?;
        if let Some(exact) = images.iter().position(|image| image.id == id) {
            return Ok(images.swap_remove(exact));
        }
        // A superseded one goes by its id.
        let is_named = |image: &Listed| {
            !image.superseded && [&image.record.name(), &image.record.template].contains(&&id.to_owned())
        };
        let named: Vec<usize> = (0..images.len()).filter(|at| is_named(&images[*at])).collect();
        match named[..] {
            [one] => return Ok(images.swap_remove(one)),
            [] => images.retain(|image| !id.is_empty() && image.id.starts_with(id)),
            [..] => images.retain(is_named),
        }
        let hint = "`lxm image list` shows the images there are";
        match images.len() {
            0 => Err(Error::not_found(format!("image `{}` does not exist", id.escape_default())).hint(hint)),
            1 => Ok(images.swap_remove(0)),
            n => {
                let ids = images.iter().map(|image| format!("`{}` ({})", image.id, image.record.name()));
                let ids = ids.collect::<Vec<_>>().join(", ");
                Err(Error::usage(format!("`{id}` stands for {n} images: {ids}")).hint(hint))
            }
        }
    }

    /// Removes the image with this id; fails with `Kind::Conflict` where something needs it.
    pub(crate) fn remove(&self, id: &str, users: Users) -> Result<()> {
        let (base, _) = parse(id).ok_or_else(|| Error::not_found(format!("image `{id}` does not exist")))?;
        let in_work = || Error::conflict(format!("image `{id}` is being made by another command"));
        let build = FileLock::try_acquire(&self.lock_file(base, "build"))?.ok_or_else(in_work)?;
        let in_use = || {
            Error::conflict(format!("image `{id}` is in use by another command")).hint("try again when it has ended")
        };
        let _use = FileLock::try_acquire(&self.lock_file(base, "use"))?.ok_or_else(in_use)?;
        let place = self.layout.images().join(id);
        let users = self.users(&place, users)?;
        if !users.is_empty() {
            let users: Vec<_> = users.iter().map(|user| format!("`{}`", user.display())).collect();
            return Err(Error::conflict(format!("image `{id}` is in use by {}", users.join(", ")))
                .hint("their files are stored as changes to it; destroy them first"));
        }
        self.discard(base, &place, &build)
    }

    /// Removes what killed commands left, and superseded images that nothing needs; returns their ids.
    /// One that cannot be removed keeps no other from it.
    pub(crate) fn sweep(&self, users: Users) -> Result<Vec<Result<String>>> {
        let mut swept = Vec::new();
        for name in read_names(&self.layout.image_staging())? {
            if let Some(_build) = FileLock::try_acquire(&self.lock_file(&name, "build"))? {
                swept.push(remove_image(&self.layout.image_staging().join(&name)).map(|()| name));
            }
        }
        for image in self.list()?.into_iter().filter(|image| image.superseded) {
            match self.remove(&image.id, users) {
                Err(e) if e.kind() == crate::error::Kind::Conflict => {}
                removed => swept.push(removed.map(|()| image.id)),
            }
        }
        Ok(swept)
    }

    fn newest(&self, id: &str) -> Result<Option<Image>> {
        let lock = FileLock::acquire_shared(&self.lock_file(id, "use"))?;
        let Some(generation) = self.generations()?.remove(id).and_then(|generations| generations.last().copied())
        else {
            return Ok(None);
        };
        let id = directory(id, generation);
        let place = self.layout.images().join(&id);
        let Some(record) = ImageRecord::read(&place)? else { return Ok(None) };
        self.note_taken(&place)?;
        Ok(Some(Image { id, record, remarks: Remarks::default(), place, lock }))
    }

    fn note_taken(&self, place: &Path) -> Result<()> {
        let containers = self.layout.containers();
        let dir = place.join(TAKEN_FOR);
        let digest = Sha256::digest(containers.as_os_str().as_encoded_bytes());
        let link = dir.join(hex::encode(&digest[..8]));
        let make = || match std::os::unix::fs::symlink(containers, &link) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&dir).and_then(|()| std::os::unix::fs::symlink(containers, &link))
            }
            other => other,
        };
        match make() {
            // From where nothing can be removed it need not be kept.
            Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::ReadOnlyFilesystem) => Ok(()),
            other => other.context(|| format!("make `{}`", link.display())),
        }
    }

    /// All who need the image at `place`, those outside of our own containers' directory by their
    /// full path.
    fn users(&self, place: &Path, users: Users) -> Result<Vec<PathBuf>> {
        let rootfs = place.join(ROOTFS);
        let mut found = users(&self.layout, &rootfs)?;
        for link in read_names(&place.join(TAKEN_FOR))? {
            let link = place.join(TAKEN_FOR).join(link);
            let containers = fs::read_link(&link).context(|| format!("read `{}`", link.display()))?;
            if containers != self.layout.containers() {
                let layout = self.layout.clone().with_containers(&containers);
                found.extend(users(&layout, &rootfs)?.into_iter().map(|user| containers.join(user)));
            }
        }
        Ok(found)
    }

    fn lock_build(&self, id: &str) -> Result<FileLock> {
        let file = self.lock_file(id, "build");
        if let Some(lock) = FileLock::try_acquire(&file)? {
            return Ok(lock);
        }
        let progress = Progress::spinner(format!("wait for another command that works on image `{id}`"));
        let lock = FileLock::acquire(&file)?;
        progress.finish();
        Ok(lock)
    }

    fn build(&self, spec: &ImageSpec, lock: &FileLock, build: impl FnOnce(&Path) -> Result<Remarks>) -> Result<Image> {
        let id = spec.id();
        let staging = self.layout.image_staging().join(&id);
        let step = || format!("make image `{id}`");
        // It must not be removed between its appearance and our return.
        let _use = FileLock::acquire_shared(&self.lock_file(&id, "use"))?;
        remove_image(&staging).context(step)?;
        rustix::io::fcntl_setfd(lock.file(), FdFlags::empty()).context(step)?;
        let made = self.fill(spec, &staging, build);
        rustix::io::fcntl_setfd(lock.file(), FdFlags::CLOEXEC).context(step)?;
        if made.is_err() {
            // The failure is what is reported; what cannot be removed now is swept later.
            let _ = remove_image(&staging);
        }
        let remarks = made.context(step)?;
        let newest = self.newest(&id)?.ok_or_else(|| Error::failed("it was removed at once").step(step()))?;
        Ok(Image { remarks, ..newest })
    }

    fn fill(&self, spec: &ImageSpec, staging: &Path, build: impl FnOnce(&Path) -> Result<Remarks>) -> Result<Remarks> {
        // 0700: images hold set-user-id programs, which users of the host must not reach.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(staging);
        made.context(|| format!("make `{}`", staging.display()))?;
        let rootfs = staging.join(ROOTFS);
        // Containers on the same btrfs can be snapshots of a subvolume.
        let is_subvolume = btrfs::is_btrfs(staging)?;
        if is_subvolume {
            btrfs::create_subvolume(&rootfs)?;
        } else {
            fs::create_dir(&rootfs).context(|| format!("make `{}`", rootfs.display()))?;
        }
        let mut remarks = build(&rootfs)?;
        // Overlays may be layered on it.
        remarks.append(remove_overlay_marks(&rootfs)?);
        ImageRecord::new(spec, measure(&rootfs)?).write(staging)?;
        // Once for all containers that are made of it: a power cut must not leave files of zeros
        // in what is taken for whole from now on.
        sync_file_system(&rootfs)?;
        if is_subvolume {
            btrfs::set_read_only(&rootfs, true)?;
        }
        let id = spec.id();
        let last = self.generations()?.remove(&id).and_then(|generations| generations.last().copied());
        let place = self.layout.images().join(directory(&id, last.map_or(1, |last| last + 1)));
        fs::rename(staging, &place).context(|| format!("put `{}` in place", place.display()))?;
        sync_dir(&self.layout.images())?;
        Ok(remarks)
    }

    /// Takes an image away at once, then removes it.
    fn discard(&self, base: &str, place: &Path, _build: &FileLock) -> Result<()> {
        let away = self.layout.image_staging().join(base);
        remove_image(&away)?;
        fs::create_dir_all(self.layout.image_staging()).context(|| format!("make `{}`", away.display()))?;
        fs::rename(place, &away).context(|| format!("remove `{}`", place.display()))?;
        sync_dir(&self.layout.images())?;
        remove_image(&away)
    }

    /// The images by id with their generations, ascending.
    fn generations(&self) -> Result<BTreeMap<String, Vec<u32>>> {
        let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for name in read_names(&self.layout.images())? {
            if let Some((id, generation)) = parse(&name) {
                found.entry(id.to_owned()).or_default().push(generation);
            }
        }
        found.values_mut().for_each(|generations| generations.sort());
        Ok(found)
    }

    fn lock_file(&self, id: &str, lock: &str) -> PathBuf {
        // Beside the images, not below /run: whoever shares the images, shares their locks.
        self.layout.images().join(".lock").join(format!("{id}.{lock}"))
    }
}

fn directory(id: &str, generation: u32) -> String {
    if generation == 1 { id.to_owned() } else { format!("{id}.{generation}") }
}

/// Takes a directory's name apart; `None` where it is not an image's.
fn parse(name: &str) -> Option<(&str, u32)> {
    let (id, generation) = match name.split_once('.') {
        Some((id, generation)) => (id, generation.parse().ok().filter(|generation| *generation > 1)?),
        None => (name, 1),
    };
    let is_id = id.len() == 12 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_id && directory(id, generation) == name).then_some((id, generation))
}

fn read_names(dir: &Path) -> Result<Vec<String>> {
    let step = || format!("read `{}`", dir.display());
    match fs::read_dir(dir) {
        Ok(entries) => {
            let names = entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
            names.collect::<std::io::Result<_>>().context(step)
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).context(step),
    }
}

#[cfg(test)]
mod root_tests;
#[cfg(test)]
mod tests;
