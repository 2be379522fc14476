//! `overlay`: an own upper layer on a read-only image, merged by overlayfs at start.
//!
//! A snapshot of a stopped container freezes its upper layer and gives it a new one, so it costs the
//! same however much the layer holds; a clone starts from the frozen layers too.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::assemble::{self, Durability, OverlayParts};
use super::backend::exchange_paths;
use super::idmap::GuestIds;
use super::layers::{LayerStack, Layers};
use super::{Activity, Backend, Purpose, Usage, quota, usage};
use crate::error::{Context, Error, Result};
use crate::image::copy::copy_tree;
use crate::image::{ImageRecord, Remarks, remove_overlay_marks};
use crate::progress::Progress;
use crate::store::{self, Layout};

pub(super) const NAME: &str = "overlay";

#[derive(Debug)]
pub(super) struct Overlay {
    layers: Layers,
}

impl Overlay {
    pub(super) fn new(layout: &Layout) -> Self {
        Overlay { layers: Layers::new(layout) }
    }

    fn parts(&self, stack: &LayerStack) -> OverlayParts {
        let image = stack.image.as_deref().map(|image| self.layers.image(image));
        let lowers = image.into_iter().chain(stack.layers.iter().map(|id| self.layers.tree(id))).collect();
        OverlayParts { lowers, upper: stack.upper.as_deref().map(|id| self.layers.dir().join(id)) }
    }

    /// Gives `place` and its snapshots a copy of the layer `id` instead of it.
    fn replace(&self, place: &Path, id: &str) -> Result<()> {
        // What a process writes to it meanwhile would be copied half-way.
        let _writes = store::DirectoryLock::acquire(&self.layers.dir().join(id))?;
        let prepared = self.layers.prepare(place)?;
        let copied = copy_tree(&self.layers.tree(id), &prepared.join("fs"), &Progress::hidden());
        if let Err(e) = copied.and_then(|remarks| remarks.require_none()) {
            let _ = store::remove_tree(&prepared);
            return Err(e.step(format!("copy the layer `{id}`")));
        }
        let lock = self.layers.lock()?;
        let copy = self.layers.adopt(&prepared, &lock)?;
        for (own, mut stack) in self.layers.stacks()?.into_iter().filter(|(own, _)| own.starts_with(place)) {
            if stack.ids().any(|named| named == id) {
                stack.layers.iter_mut().chain(&mut stack.upper).filter(|named| *named == id).for_each(|named| {
                    named.clone_from(&copy);
                });
                Layers::write(&own, &stack)?;
            }
        }
        Ok(())
    }

    fn merge(&self, place: &Path, ids: Option<GuestIds<'_>>, durability: Durability) -> Result<OwnedFd> {
        let stack = Layers::read(place)?;
        require_unmounted(place)?;
        assemble::merge(&self.parts(&stack), ids, durability, place)
            .context(|| format!("mount the tree of `{}`", place.display()))
    }

    /// Gives `stack` a new upper layer; `like` is the tree below it.
    fn commit(&self, place: &Path, mut stack: LayerStack, purpose: Purpose, lock: &store::FileLock) -> Result<()> {
        if purpose == Purpose::Container {
            let top = self.parts(&stack).lowers.pop().ok_or_else(|| Error::failed("an overlay needs a lower layer"))?;
            stack.upper = Some(self.layers.make(&top, place, lock)?);
            let mount_point = place.join("rootfs");
            std::fs::create_dir_all(&mount_point).context(|| format!("make `{}`", mount_point.display()))?;
        }
        Layers::write(place, &stack)
    }

    /// The layers of `place` as they are now, not to be written to any more.
    fn freeze(&self, place: &Path, activity: Activity, target: &Path, progress: &Progress) -> Result<LayerStack> {
        let mut stack = Layers::read(place)?;
        let Some(upper) = stack.upper.take() else { return Ok(stack) };
        let tree = self.layers.tree(&upper);
        if is_unused(&tree, &self.parts(&stack))? {
            return Ok(stack);
        }
        if stack.layers.len() + 2 >= assemble::MOST_LAYERS {
            return Err(Error::failed(format!(
                "`{}` has {} layers, the most there can be",
                place.display(),
                stack.layers.len() + 1
            ))
            .hint("`lxm copy --storage dir` makes a copy without layers"));
        }
        match activity {
            Activity::Idle => {
                require_unmounted(place)?;
                let lock = self.layers.lock()?;
                let next = self.layers.make(&tree, place, &lock)?;
                stack.layers.push(upper);
                Layers::write(place, &LayerStack { upper: Some(next), ..stack.clone() })?;
            }
            // The upper layer of a mounted overlay cannot be changed for another.
            Activity::Running => {
                let prepared = self.layers.prepare(target)?;
                copy_tree(&tree, &prepared.join("fs"), progress)?.require_none()?;
                let lock = self.layers.lock()?;
                stack.layers.push(self.layers.adopt(&prepared, &lock)?);
                // Named before the lock goes, so that no sweep takes it.
                Layers::write(target, &stack)?;
            }
        }
        Ok(stack)
    }
}

/// Fails with `Kind::Conflict` while the admin has the tree of `place` mounted: its upper layer may
/// be written to.
fn require_unmounted(place: &Path) -> Result<()> {
    let mount_point = place.join("rootfs");
    if super::is_mount_point(&mount_point)? {
        return Err(Error::conflict(format!("`{}` is mounted", mount_point.display())).hint("`lxm umount` it first"));
    }
    Ok(())
}

/// Whether nothing was ever written to a layer.
fn is_unused(tree: &Path, below: &OverlayParts) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let look = |path: &Path| path.symlink_metadata().context(|| format!("look at `{}`", path.display()));
    let mut entries = std::fs::read_dir(tree).context(|| format!("read `{}`", tree.display()))?;
    if entries.next().is_some() {
        return Ok(false);
    }
    let Some(lower) = below.lowers.last() else { return Ok(false) };
    let (lower, upper) = (look(lower)?, look(tree)?);
    Ok((lower.mode(), lower.uid(), lower.gid()) == (upper.mode(), upper.uid(), upper.gid()))
}

impl Backend for Overlay {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self, image: &Path, container: &Path, _progress: &Progress) -> Result<Remarks> {
        let stack = LayerStack { image: Some(self.layers.image_name(image)?), layers: Vec::new(), upper: None };
        let lock = self.layers.lock()?;
        self.commit(container, stack, Purpose::Container, &lock)?;
        Ok(Remarks::default())
    }

    fn fill(&self, container: &Path, fill: &mut dyn FnMut(&Path) -> Result<()>) -> Result<Remarks> {
        let prepared = self.layers.prepare(container)?;
        let tree = prepared.join("fs");
        fill(&tree)?;
        let remarks = remove_overlay_marks(&tree)?;
        let lock = self.layers.lock()?;
        let layer = self.layers.adopt(&prepared, &lock)?;
        let stack = LayerStack { image: None, layers: vec![layer], upper: None };
        self.commit(container, stack, Purpose::Container, &lock)?;
        Ok(remarks)
    }

    fn duplicate(
        &self,
        from: &Path,
        activity: Activity,
        to: &Path,
        purpose: Purpose,
        progress: &Progress,
    ) -> Result<Remarks> {
        let stack = self.freeze(from, activity, to, progress)?;
        let lock = self.layers.lock()?;
        self.commit(to, stack, purpose, &lock)?;
        Ok(Remarks::default())
    }

    fn missing(&self, place: &Path) -> Option<PathBuf> {
        let parts = self.parts(&Layers::read(place).ok()?);
        parts.lowers.into_iter().chain(parts.upper).find(|dir| !dir.exists())
    }

    fn exchange(&self, a: &Path, b: &Path) -> Result<()> {
        require_unmounted(a)?;
        require_unmounted(b)?;
        exchange_paths(&self.holder(a), &self.holder(b))
    }

    fn holder(&self, place: &Path) -> PathBuf {
        Layers::record(place)
    }

    fn mount(&self, place: &Path, ids: Option<GuestIds<'_>>) -> Result<OwnedFd> {
        self.merge(place, ids, Durability::Kept)
    }

    fn mount_in_the_making(&self, place: &Path) -> Result<OwnedFd> {
        self.merge(place, None, Durability::Volatile)
    }

    fn tree(&self, _place: &Path) -> Result<Option<PathBuf>> {
        Ok(None)
    }

    /// overlayfs refuses an upper layer that is on an overlay itself.
    fn carries_overlays(&self) -> bool {
        false
    }

    /// What the image and its snapshots hold does not count.
    fn limit(&self, place: &Path, bytes: Option<u64>) -> Result<()> {
        let stack = Layers::read(place)?;
        let upper = stack.upper.ok_or_else(|| Error::failed(format!("`{}` is a snapshot", place.display())))?;
        let dir = self.layers.dir().join(upper);
        quota::limit(&[&dir.join("fs"), &dir.join("work")], place, bytes)
    }

    fn counts_first_files(&self) -> bool {
        false
    }

    fn usage(&self, place: &Path) -> Result<Usage> {
        let stack = Layers::read(place)?;
        let mut found = Usage::default();
        if let Some(image) = &stack.image {
            found.shared += ImageRecord::bytes_of(&self.layers.image(image))?;
        }
        let stacks = self.layers.readable_stacks()?;
        for id in stack.ids() {
            let of_layer = usage::of_tree(&self.layers.tree(id))?;
            match stacks.iter().filter(|(_, other)| other.ids().any(|named| named == id)).count() {
                0 | 1 => found += of_layer,
                _ => found.shared += of_layer.total(),
            }
        }
        Ok(found)
    }

    fn exclusive(&self, place: &Path) -> Result<Option<PathBuf>> {
        Ok(Layers::read(place)?.upper.map(|upper| self.layers.dir().join(upper)))
    }

    fn separate(&self, place: &Path) -> Result<()> {
        let (own, others): (Vec<_>, Vec<_>) =
            self.layers.stacks()?.into_iter().partition(|(other, _)| other.starts_with(place));
        // Below one, or written to by one, a layer that another one writes to changes under it.
        let is_written = |id: &String| {
            let by_us = own.iter().any(|(_, stack)| stack.upper.as_ref() == Some(id));
            others.iter().any(|(_, stack)| stack.upper.as_ref() == Some(id) || by_us && stack.ids().any(|o| o == id))
        };
        let shared: BTreeSet<&String> =
            own.iter().flat_map(|(_, stack)| stack.ids()).filter(|id| is_written(id)).collect();
        shared.into_iter().try_for_each(|id| self.replace(place, id))
    }

    fn destroy(&self, place: &Path) -> Result<()> {
        require_unmounted(place)?;
        let own: Vec<String> = Layers::read(place).map(|stack| stack.ids().cloned().collect()).unwrap_or_default();
        store::remove_tree(&Layers::record(place))?;
        store::remove_tree(&place.join("rootfs"))?;
        match self.layers.stacks() {
            Ok(_) => match self.layers.sweep()?.failed.into_iter().find(|(id, _)| own.contains(id)) {
                Some((_, error)) => Err(error),
                // What is left of others is named by `lxm gc`.
                None => Ok(()),
            },
            // A neighbour whose record cannot be read may name any layer: none is removed now, and
            // `lxm gc` says why. It must not keep others from being destroyed.
            Err(_) => Ok(()),
        }
    }
}
