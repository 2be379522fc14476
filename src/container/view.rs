//! A container's tree as it was at one moment, to be read for as long as it takes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{self, Config};
use crate::container::quiesce::Still;
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::storage::{self, Activity, Backend, Purpose, Tree};
use crate::store::{self, FileLock, Layout, OperationLock, Origin, Snapshot};
use crate::sys::fs::read_text;
use crate::types::{ContainerName, SnapshotName};

/// What is read: the tree, and the configuration and origin that belong to it.
pub(crate) struct Reading {
    pub config_text: String,
    pub origin: Origin,
    /// Before what it is the tree of: fields are dropped in order.
    tree: Tree,
    _copy: Option<TemporaryCopy>,
    _lock: Option<OperationLock>,
}

/// A copy that is made for the time of reading, beside the snapshots.
struct TemporaryCopy {
    backend: Box<dyn Backend>,
    place: PathBuf,
    _lock: FileLock,
}

/// The name of the copy's place, which [`is_read`] knows.
const PLACE: &str = ".reading";

impl Reading {
    /// Begins to read a container, or a snapshot of it.
    ///
    /// Where a copy costs nothing one is made, and the container is free at once; else the tree itself
    /// is read and the container's operation lock held. A running one is always copied, its guest
    /// being frozen meanwhile.
    pub(crate) fn begin(layout: &Layout, name: &ContainerName, snapshot: Option<&SnapshotName>) -> Result<Self> {
        layout.require(name)?;
        let lock = OperationLock::acquire(layout, name)?;
        let backend = storage::of_container(layout, name)?;
        let place = match snapshot {
            Some(snapshot) => Snapshot::read(layout, name, snapshot)?.place,
            None => layout.container(name),
        };
        let config_file = place.join("config.toml");
        let config_text = read_text(&config_file).context(|| format!("read `{}`", config_file.display()))?;
        // A configuration that cannot be parsed is not passed on.
        config::parse::<Config>(&config_text, &config_file)?;
        let origin = Origin::read_file(&place.join("origin.toml"))?;

        let still = if snapshot.is_some() { None } else { Some(Still::begin(layout, name)?) };
        let activity = still.as_ref().map_or(Activity::Idle, Still::activity);
        if activity == Activity::Idle && !backend.shares() {
            let tree = Tree::open(backend.as_ref(), &place)?;
            return Ok(Reading { config_text, origin, tree, _copy: None, _lock: Some(lock) });
        }
        let copy = TemporaryCopy::make(layout, name, backend, &place, activity)?;
        still.map_or(Ok(()), Still::end)?;
        drop(lock);
        let tree = Tree::open(copy.backend.as_ref(), &copy.place)?;
        Ok(Reading { config_text, origin, tree, _copy: Some(copy), _lock: None })
    }

    /// The root of the tree, ids from 0.
    pub(crate) fn tree(&self) -> &Path {
        self.tree.path()
    }
}

impl Drop for TemporaryCopy {
    fn drop(&mut self) {
        // What stays is swept by the next command on the container's snapshots.
        let _ = self.backend.destroy(&self.place).and_then(|()| store::remove_tree(&self.place));
        // Succeeds where there are no snapshots.
        let _ = self.place.parent().map(fs::remove_dir);
    }
}

impl TemporaryCopy {
    /// Called with the operation lock held.
    fn make(
        layout: &Layout,
        name: &ContainerName,
        backend: Box<dyn Backend>,
        from: &Path,
        activity: Activity,
    ) -> Result<Self> {
        let busy = || Error::conflict(format!("another command reads `{name}`")).hint("try again when it has ended");
        let lock = FileLock::try_acquire(&lock_file(layout, name))?.ok_or_else(busy)?;
        let place = layout.snapshots(name).join(PLACE);
        // Left behind by a process that was killed.
        backend.destroy(&place)?;
        store::remove_tree(&place)?;
        let copy = TemporaryCopy { backend, place, _lock: lock };
        fs::create_dir_all(&copy.place).context(|| format!("make `{}`", copy.place.display()))?;
        let progress = match copy.backend.shares() {
            true => Progress::hidden(),
            false => Progress::bytes(format!("copy `{name}`"), 0),
        };
        copy.backend.duplicate(from, activity, &copy.place, Purpose::Snapshot, &progress)?.require_none()?;
        progress.finish();
        Ok(copy)
    }
}

fn lock_file(layout: &Layout, name: &ContainerName) -> PathBuf {
    // No container's name has a dot in it.
    layout.operation_locks().join(format!(".{name}.reading"))
}

/// Whether `place`, among the snapshots of `name`, is a copy that a command is reading.
pub(crate) fn is_read(layout: &Layout, name: &ContainerName, place: &Path) -> Result<bool> {
    Ok(place.file_name().is_some_and(|file| file == PLACE) && FileLock::is_held(&lock_file(layout, name))?)
}
