//! Sweeps what killed commands and supervisors have left. What a live process uses stays.

use std::collections::BTreeSet;
use std::path::Path;

use crate::cgroup::Hierarchies;
use crate::container::ssh_key;
use crate::container::sweep::discard;
use crate::container::sweep::{self, Removed};
use crate::error::{Error, Result};
use crate::image::ImageStore;
use crate::net::GuestRecord;
use crate::storage;
use crate::store::{self, Layout, OperationLock};
use crate::types::ContainerName;

/// What was removed, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    pub removed: Vec<Removed>,
    pub failed: Vec<Error>,
}

impl Swept {
    fn add(&mut self, result: Result<Vec<Removed>>) {
        match result {
            Ok(removed) => self.removed.extend(removed),
            Err(e) => self.failed.push(e),
        }
    }
}

/// Sweeps all; one failure does not keep the rest from being swept.
pub(crate) fn gc(layout: &Layout) -> Result<Swept> {
    let hierarchies = Hierarchies::detect()?;
    let mut swept = Swept::default();
    for name in candidates(layout, &hierarchies) {
        swept.add(idle(layout, &name, |lock| match store::AliveLock::is_held(layout, &name)? {
            true => Ok(Vec::new()),
            false => sweep::sweep_run(layout, &name, &hierarchies, lock),
        }));
    }
    for staged in store::sweep_staging(layout, &|place| discard(layout, place)) {
        swept.add(staged.map(|name| all("staging", [name])));
    }
    for name in names_in(&layout.trash()) {
        swept.add(idle(layout, &name, |_| {
            sweep::empty(layout, &sweep::trash_path(layout, &name))?;
            Ok(vec![Removed { what: "trash", which: name.to_string() }])
        }));
    }
    swept.add(ssh_key::sweep(layout).map(|there| all("key", there.then_some("ssh_key"))));
    match ImageStore::new(layout).sweep(&storage::users_of_image) {
        Ok(images) => images.into_iter().for_each(|image| swept.add(image.map(|id| all("image", [id])))),
        Err(e) => swept.failed.push(e),
    }
    match storage::sweep(layout) {
        Ok(layers) => {
            swept.removed.extend(all("layers", (layers.removed > 0).then_some(layers.removed)));
            swept.failed.extend(layers.failed.into_iter().map(|(id, e)| e.step(format!("remove the layer `{id}`"))));
        }
        Err(e) => swept.failed.push(e),
    }
    Ok(swept)
}

fn all<T: ToString>(what: &'static str, which: impl IntoIterator<Item = T>) -> Vec<Removed> {
    which.into_iter().map(|which| Removed { what, which: which.to_string() }).collect()
}

/// Does it unless another command works on the container: then nothing of it is left over.
fn idle(
    layout: &Layout,
    name: &ContainerName,
    work: impl FnOnce(&OperationLock) -> Result<Vec<Removed>>,
) -> Result<Vec<Removed>> {
    match OperationLock::try_acquire(layout, name)? {
        Some(lock) => work(&lock),
        None => Ok(Vec::new()),
    }
}

/// Every name of which something may be left.
fn candidates(layout: &Layout, hierarchies: &Hierarchies) -> BTreeSet<ContainerName> {
    let mut names: BTreeSet<_> = names_in(&layout.own_run()).into_iter().collect();
    let base = layout.cgroup_base();
    for mount in hierarchies.v1_mounts().into_iter().chain(hierarchies.unified.as_deref()) {
        names.extend(names_in(&mount.join(&base)));
    }
    names.extend(GuestRecord::all(layout).into_iter().map(|(name, _)| name));
    names
}

/// The directories in `dir` that are named like containers.
fn names_in(dir: &Path) -> Vec<ContainerName> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
