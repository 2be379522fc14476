//! The layers of overlays: `.layers/ID/fs` beside the containers, shared by those that name them.
//!
//! Who uses a layer is observed, not counted: every place with a tree (container, snapshot, those in
//! the making and in the trash) has an `overlay.toml` that names its layers, and what none of them
//! names is removed by [`Layers::sweep`].

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::quota;
use crate::config;
use crate::error::{Context, Error, Result};
use crate::store::{self, FileLock, Layout};
use crate::sys::fs::read_text;

/// What the tree of a place is made of: its `overlay.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LayerStack {
    /// The lowest layer's path below the images' directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Ids of the layers above it, lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// Id of the layer that is written to; a snapshot has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<String>,
}

impl LayerStack {
    pub(super) fn ids(&self) -> impl Iterator<Item = &String> {
        self.layers.iter().chain(&self.upper)
    }
}

#[derive(Debug)]
pub(super) struct Layers {
    layout: Layout,
}

/// What came of a sweep.
#[derive(Debug, Default)]
pub(crate) struct SweptLayers {
    pub removed: usize,
    /// What could not be removed, and why.
    pub failed: Vec<(String, Error)>,
}

impl Layers {
    const RECORD: &str = "overlay.toml";

    pub(super) fn new(layout: &Layout) -> Self {
        Layers { layout: layout.clone() }
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.layout.containers().join(".layers")
    }

    /// The tree of a layer.
    pub(super) fn tree(&self, id: &str) -> PathBuf {
        self.dir().join(id).join("fs")
    }

    /// The tree of an image that a [`LayerStack`] names.
    pub(super) fn image(&self, image: &str) -> PathBuf {
        self.layout.images().join(image)
    }

    /// How a [`LayerStack`] names the image whose tree is `path`.
    pub(super) fn image_name(&self, path: &Path) -> Result<String> {
        path.strip_prefix(self.layout.images()).ok().and_then(Path::to_str).map(str::to_owned).ok_or_else(|| {
            Error::failed(format!("`{}` is not an image of `{}`", path.display(), self.layout.images().display()))
        })
    }

    /// Keeps layers from being swept and made by others; to be held from making a layer until a
    /// record names it.
    pub(super) fn lock(&self) -> Result<FileLock> {
        FileLock::acquire(&self.layout.lock_dir().join(".layers"))
    }

    pub(super) fn record(place: &Path) -> PathBuf {
        place.join(Self::RECORD)
    }

    pub(super) fn read(place: &Path) -> Result<LayerStack> {
        let file = Self::record(place);
        let text = read_text(&file).context(|| format!("read `{}`", file.display()))?;
        let stack: LayerStack = config::parse(&text, &file)?;
        let plain = |id: &String| !id.is_empty() && !id.starts_with('.') && !id.contains('/');
        let image_plain = |image: &String| image.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        if !stack.ids().all(plain) || !stack.image.iter().all(image_plain) {
            return Err(Error::config(format!("`{}` names a layer that cannot be", file.display())));
        }
        Ok(stack)
    }

    pub(super) fn write(place: &Path, stack: &LayerStack) -> Result<()> {
        let text = toml::to_string(stack).map_err(|e| Error::failed(e.to_string()))?;
        store::replace_file(&Self::record(place), text.as_bytes(), 0o600)
    }

    /// Makes an empty layer for `place` whose root looks as that of `like`: what is seen of a merged
    /// tree's root is the uppermost layer's.
    pub(super) fn make(&self, like: &Path, place: &Path, _lock: &FileLock) -> Result<String> {
        let dir = self.make_dir(&self.dir())?;
        let make = || -> Result<()> {
            for part in ["fs", "work"] {
                fs::create_dir(dir.join(part))?;
            }
            let meta = fs::metadata(like)?;
            let root = dir.join("fs");
            std::os::unix::fs::chown(&root, Some(meta.uid()), Some(meta.gid()))?;
            fs::set_permissions(&root, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
            Ok(())
        };
        make().context(|| format!("make layer `{}`", dir.display()))?;
        // Both: what overlayfs prepares in one it renames into the other.
        quota::mark(&dir.join("fs"), place)?;
        quota::mark(&dir.join("work"), place)?;
        Ok(name_of(&dir))
    }

    /// Makes a place for a layer to be filled in, in `place`; [`Layers::adopt`] makes it one.
    pub(super) fn prepare(&self, place: &Path) -> Result<PathBuf> {
        let dir = self.make_dir(place)?;
        for part in ["fs", "work"] {
            let part = dir.join(part);
            fs::create_dir(&part).context(|| format!("make `{}`", part.display()))?;
        }
        Ok(dir)
    }

    /// Makes what [`Layers::prepare`] made a layer.
    pub(super) fn adopt(&self, prepared: &Path, _lock: &FileLock) -> Result<String> {
        let dir = self.make_dir(&self.dir())?;
        fs::rename(prepared, &dir).context(|| format!("make `{}` a layer", prepared.display()))?;
        Ok(name_of(&dir))
    }

    fn make_dir(&self, parent: &Path) -> Result<PathBuf> {
        // 0700: layers hold set-user-id programs, which users of the host must not reach.
        let make = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            tempfile::Builder::new().prefix("l").rand_bytes(15).tempdir_in(parent)
        };
        Ok(make().context(|| format!("make a directory in `{}`", parent.display()))?.keep())
    }

    /// Removes the layers that nothing names. One that cannot be removed keeps no other from it.
    pub(super) fn sweep(&self) -> Result<SweptLayers> {
        let mut swept = SweptLayers::default();
        let Some(entries) = read_dir(&self.dir())? else { return Ok(swept) };
        let _lock = self.lock()?;
        let used: BTreeSet<String> = self.stacks()?.iter().flat_map(|(_, s)| s.ids().cloned()).collect();
        for entry in entries {
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.starts_with('l') && !used.contains(&name) {
                match store::remove_tree(&entry.path()) {
                    Ok(()) => swept.removed += 1,
                    Err(e) => swept.failed.push((name, e)),
                }
            }
        }
        // Succeeds when it is empty. Layers are made in it with the lock held.
        let _ = fs::remove_dir(self.dir());
        Ok(swept)
    }

    /// Every place that has an `overlay.toml`, with it.
    ///
    /// Fails when one cannot be read: what it names must not be taken for unused.
    pub(super) fn stacks(&self) -> Result<Vec<(PathBuf, LayerStack)>> {
        self.all()?.into_iter().map(|(place, stack)| Ok((place, stack?))).collect()
    }

    /// The same where nothing is removed for it: one that cannot be read does not hide the others.
    pub(super) fn readable_stacks(&self) -> Result<Vec<(PathBuf, LayerStack)>> {
        Ok(self.all()?.into_iter().filter_map(|(place, stack)| Some((place, stack.ok()?))).collect())
    }

    fn all(&self) -> Result<Vec<(PathBuf, Result<LayerStack>)>> {
        let mut stacks = Vec::new();
        let containers = self.layout.containers();
        for parent in [containers.to_owned(), self.layout.staging(), self.layout.trash()] {
            for container in read_dir(&parent)?.unwrap_or_default() {
                collect(&container.path(), &mut stacks)?;
                for snapshot in read_dir(&container.path().join("snapshots"))?.unwrap_or_default() {
                    collect(&snapshot.path(), &mut stacks)?;
                }
            }
        }
        Ok(stacks)
    }
}

fn collect(place: &Path, stacks: &mut Vec<(PathBuf, Result<LayerStack>)>) -> Result<()> {
    match Layers::record(place).symlink_metadata() {
        Ok(_) => stacks.push((place.to_owned(), Layers::read(place))),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(e) => return Err(Error::from(e).step(format!("look for a record in `{}`", place.display()))),
    }
    Ok(())
}

/// The entries of a directory, `None` where there is no such directory.
fn read_dir(dir: &Path) -> Result<Option<Vec<fs::DirEntry>>> {
    let step = || format!("read `{}`", dir.display());
    match fs::read_dir(dir) {
        Ok(entries) => entries.collect::<std::io::Result<_>>().map(Some).context(step),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e).context(step),
    }
}

fn name_of(dir: &Path) -> String {
    dir.file_name().and_then(|name| name.to_str()).expect("made by us, of ASCII").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_anything_names_survive_the_sweep() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let layers = Layers::new(&layout);
        let lock = layers.lock().unwrap();
        let ids: Vec<String> = (0..5).map(|_| layers.make(root.path(), root.path(), &lock).unwrap()).collect();
        drop(lock);
        let stack = |id: &str| LayerStack { image: None, layers: vec![id.to_owned()], upper: None };
        for (place, id) in [("web", 0), ("web/snapshots/a", 1), (".trash/x", 2), (".staging/y", 3)] {
            let place = layout.containers().join(place);
            fs::create_dir_all(&place).unwrap();
            Layers::write(&place, &stack(&ids[id])).unwrap();
        }
        assert_eq!(layers.sweep().unwrap().removed, 1);
        for (i, id) in ids.iter().enumerate() {
            assert_eq!(layers.tree(id).exists(), i != 4, "{i}");
        }
    }

    #[test]
    fn a_record_that_leads_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["layers = [\"../x\"]", "upper = \"\"", "image = \"../../etc\"", "image = \"/etc\""] {
            fs::write(dir.path().join("overlay.toml"), text).unwrap();
            assert!(Layers::read(dir.path()).is_err(), "{text}");
        }
    }
}
