//! `lxm copy`: a container made of another one, or of a snapshot of it.

use std::fs;
use std::path::{Path, PathBuf};

use super::trust;
use crate::container::new_identity::renew;
use crate::container::quiesce::Still;
use crate::container::sweep::discard;
use crate::distro::{self, HostKeys, Identity};
use crate::error::{Context, Error, Result};
use crate::image::Remarks;
use crate::image::copy::copy_tree;
use crate::progress::Progress;
use crate::storage::{self, Activity, Backend, Purpose, Tree};
use crate::store::{self, Layout, OperationLock, Origin, Snapshot, Staging, ids, require_free};
use crate::sys::fs::read_text;
use crate::types::{ContainerName, SnapshotName};

/// What is to be copied, and as what.
#[derive(Debug, Clone)]
pub(crate) struct CopyRequest {
    pub from: ContainerName,
    /// The state of this snapshot instead of the current one.
    pub snapshot: Option<SnapshotName>,
    pub to: ContainerName,
    /// Takes over also what of the snapshot's settings gives more than the container has now.
    pub trust: bool,
    /// A backend's name or `auto`; unset keeps the backend, and so shares what can be shared.
    pub storage: Option<String>,
}

/// What a copy does not have of the original.
#[derive(Debug)]
pub(crate) struct NotCopied {
    /// Because only one container can have it, or because it is more than the original has now.
    pub settings: Vec<String>,
    /// What of its files the copy's file system would not take.
    pub remarks: Vec<String>,
}

/// Makes the copy: its files, with an identity of its own. Returns what it does not have.
///
/// A running container is frozen for the moment. A failure, or a kill at any point, leaves none.
pub(crate) fn copy(layout: &Layout, request: &CopyRequest) -> Result<NotCopied> {
    let CopyRequest { from, to, .. } = request;
    make(layout, request).context(|| format!("copy `{from}` to `{to}`"))
}

/// The directories of the guest that no copy, snapshot or export of it has: the storage of container
/// managers in it.
pub(crate) fn not_copied(layout: &Layout, name: &ContainerName) -> Vec<&'static str> {
    storage::nested::in_use(&layout.container(name))
}

fn make(layout: &Layout, request: &CopyRequest) -> Result<NotCopied> {
    let CopyRequest { from, to, .. } = request;
    if from == to {
        return Err(Error::usage("a container cannot be copied onto itself"));
    }
    layout.require(from)?;
    require_free(layout, to)?;
    // In the same order always, or two copies in opposite directions would wait for each other.
    let (lock_of_from, lock_of_to);
    if from < to {
        lock_of_from = OperationLock::acquire(layout, from)?;
        lock_of_to = OperationLock::acquire(layout, to)?;
    } else {
        lock_of_to = OperationLock::acquire(layout, to)?;
        lock_of_from = OperationLock::acquire(layout, from)?;
    }
    layout.require(from)?;

    let source = CopySource::find(layout, request)?;
    let backend = match &request.storage {
        None => source.backend.name().to_owned(),
        Some(storage) => storage::choose(layout, storage)?.backend.to_owned(),
    };
    let discard = |place: &Path| discard(layout, place);
    let staging = Staging::begin(layout, to, &lock_of_to, &discard)?;
    let place = staging.place();
    let reserved = ids::reserve(layout)?;
    let origin = Origin {
        storage: backend.clone(),
        created: crate::store::now(),
        lxm: env!("CARGO_PKG_VERSION").to_owned(),
        ephemeral: false,
        ids: reserved.range,
        wide_ids: None,
        ..Origin::read_file(&source.place.join("origin.toml"))?
    };
    origin.write_file(&place.join("origin.toml"))?;
    drop(reserved);
    let config = source.place.join("config.toml");
    let text = read_text(&config).context(|| format!("read `{}`", config.display()))?;
    let (text, raised) = match request.snapshot.is_some() && !request.trust {
        true => trust::no_more_than_now(&text, &config, layout, from)?,
        false => (text, Vec::new()),
    };
    let (text, mut left_out) = renew(&text, &config)?;
    left_out.extend(raised);
    store::replace_file(&place.join("config.toml"), text.as_bytes(), 0o644)?;

    let backend = storage::backend(layout, &backend)?;
    let remarks = source.copy_to(layout, from, backend.as_ref(), place)?.notes();
    // What is copied is ours; the original may be copied again meanwhile.
    drop(lock_of_from);
    let tree = Tree::open_in_the_making(backend.as_ref(), place)?;
    let identity = Identity { hostname: to.to_string(), login: None, keys: HostKeys::Fresh };
    distro::customize(tree.path(), place, &identity)?;
    drop(tree);
    staging.commit()?;
    Ok(NotCopied { settings: left_out, remarks })
}

/// What is copied.
struct CopySource {
    place: PathBuf,
    backend: Box<dyn Backend>,
    is_snapshot: bool,
}

impl CopySource {
    fn find(layout: &Layout, request: &CopyRequest) -> Result<Self> {
        let backend = storage::of_container(layout, &request.from)?;
        let place = match &request.snapshot {
            Some(snapshot) => Snapshot::read(layout, &request.from, snapshot)?.place,
            None => layout.container(&request.from),
        };
        Ok(CopySource { place, backend, is_snapshot: request.snapshot.is_some() })
    }

    fn copy_to(&self, layout: &Layout, name: &ContainerName, target: &dyn Backend, to: &Path) -> Result<Remarks> {
        // Snapshots never change; a container does, and is kept still.
        let still = if self.is_snapshot { None } else { Some(Still::begin(layout, name)?) };
        let activity = still.as_ref().map_or(Activity::Idle, Still::activity);
        let progress = match self.backend.shares() && self.backend.name() == target.name() {
            true => Progress::hidden(),
            false => Progress::bytes(format!("copy `{name}`"), 0),
        };
        let remarks = if self.backend.name() == target.name() {
            self.backend.duplicate(&self.place, activity, to, Purpose::Container, &progress)?
        } else {
            self.copy_across(activity, target, to, &progress)?
        };
        still.map_or(Ok(()), Still::end)?;
        progress.finish();
        Ok(remarks)
    }

    /// From one backend to another: file by file.
    fn copy_across(&self, activity: Activity, target: &dyn Backend, to: &Path, progress: &Progress) -> Result<Remarks> {
        // A running container's tree cannot be opened a second time: what it was a moment ago can.
        // Among the snapshots, where the sweep of layers looks for those that are needed.
        let snapshots = to.join("snapshots");
        let between = snapshots.join(".between");
        let place = match activity {
            Activity::Idle => &self.place,
            Activity::Running => {
                fs::create_dir_all(&between).context(|| format!("make `{}`", between.display()))?;
                self.backend.duplicate(&self.place, activity, &between, Purpose::Snapshot, progress)?.require_none()?;
                &between
            }
        };
        let tree = Tree::open(self.backend.as_ref(), place)?;
        let mut remarks = Remarks::default();
        let kept = target.fill(to, &mut |root| {
            remarks.append(copy_tree(tree.path(), root, progress)?);
            Ok(())
        })?;
        remarks.append(kept);
        drop(tree);
        if activity == Activity::Running {
            self.backend.destroy(&between)?;
            store::remove_tree(&snapshots)?;
        }
        Ok(remarks)
    }
}
