//! Snapshots: made, restored, renamed and removed; each step leaves what was there before, or all
//! of what is new.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{schedule, trust};
use crate::config::{Document, KeyPath};
use crate::container::quiesce::Still;
use crate::container::view;
use crate::error::{Context, Error, Result};
use crate::identity;
use crate::progress::Progress;
use crate::storage::{self, Activity, Backend, Purpose};
use crate::store::{self, AliveLock, Layout, OperationLock, Snapshot, SnapshotRecord};
use crate::sys::fs::read_text;
use crate::types::{ContainerName, SnapshotName};

/// What an admin says of a new snapshot.
#[derive(Debug, Default)]
pub struct SnapshotOptions {
    /// Unset means the first of `snap0`, `snap1` … that is free.
    pub name: Option<SnapshotName>,
    pub comment: String,
}

/// Makes a snapshot of a container, which may run: its guest is frozen for the moment.
pub fn create(layout: &Layout, name: &ContainerName, options: SnapshotOptions) -> Result<Snapshot> {
    let make = || {
        let work = SnapshotWork::begin(layout, name)?;
        let snapshot = match options.name {
            Some(snapshot) => snapshot,
            None => work.free_name()?,
        };
        work.make(snapshot, options.comment, false)
    };
    make().context(|| format!("make a snapshot of `{name}`"))
}

/// Puts a container back to where a snapshot of it was; those made later stay.
///
/// Its tree and its configuration come back, its ids and its uuid stay. Settings that give it more than it has now
/// do not, unless `trust` says so: they are given back. Fails with `Kind::Conflict` while it runs.
pub fn restore(layout: &Layout, name: &ContainerName, snapshot: &SnapshotName, trust: bool) -> Result<Vec<String>> {
    bring_back(layout, name, snapshot, trust).context(|| format!("restore snapshot `{snapshot}` of `{name}`"))
}

fn bring_back(layout: &Layout, name: &ContainerName, snapshot: &SnapshotName, trust: bool) -> Result<Vec<String>> {
    let work = SnapshotWork::begin(layout, name)?;
    let snapshot = Snapshot::read(layout, name, snapshot)?;
    require_stopped(layout, name)?;
    identity::require_own(layout, name)?;
    let place = work.free_place(".restored");
    work.make_place(&place)?;
    let progress = shown(work.backend.as_ref(), format!("copy `{}`", snapshot.name));
    let container = layout.container(name);
    let mut left_out = Vec::new();
    let mut put_back = || -> Result<()> {
        work.backend
            .duplicate(&snapshot.place, Activity::Idle, &place, Purpose::Container, &progress)?
            .require_none()?;
        let (from, config) = (snapshot.place.join("config.toml"), place.join("config.toml"));
        let mut text = read_text(&from).context(|| format!("read `{}`", from.display()))?;
        if !trust {
            (text, left_out) = trust::no_more_than_now(&text, &from, layout, name)?;
        }
        let then = as_who_it_is(Document::parse(&text, &from)?, layout, name)?;
        // What it gave up since then another one may have by now.
        identity::require_free(layout, name, then.config(), layout.config(name).ok().as_ref())?;
        store::replace_file(&config, then.to_string().as_bytes(), 0o644)?;
        // One right after the other, with nothing between them that takes time. The exchange first: it
        // can be refused, and nothing has changed then.
        work.backend.exchange(&place, &container)?;
        if let Err(e) = fs::rename(&config, layout.config_file(name)) {
            let _ = work.backend.exchange(&place, &container);
            return Err(e).context(|| format!("rename `{}`", config.display()));
        }
        store::sync_dir(&container)
    };
    if let Err(e) = put_back() {
        // The error is the one to report; what stays is swept by the next command.
        let _ = work.discard(&place);
        return Err(e);
    }
    progress.finish();
    work.discard(&place).context(|| "it is restored, but what it replaced could not be removed")?;
    Ok(left_out)
}

/// A configuration that the container had once, with the uuid that it has now: an adopted copy has
/// snapshots of when it was not yet another one.
fn as_who_it_is(mut then: Document, layout: &Layout, name: &ContainerName) -> Result<Document> {
    if let Ok(now) = super::config::document(layout, name)
        && !now.config().uuid.is_empty()
    {
        then.take(&KeyPath::of(["uuid"]), Some(&now))?;
    }
    Ok(then)
}

/// Gives a snapshot another name.
pub fn rename(layout: &Layout, name: &ContainerName, from: &SnapshotName, to: &SnapshotName) -> Result<()> {
    let rename = || {
        let _work = SnapshotWork::begin(layout, name)?;
        let snapshot = Snapshot::read(layout, name, from)?;
        put(&snapshot.place, &layout.snapshots(name).join(to), to)
    };
    rename().context(|| format!("rename snapshot `{from}` of `{name}`"))
}

/// Removes a snapshot; the others stay whole.
pub fn delete(layout: &Layout, name: &ContainerName, snapshot: &SnapshotName) -> Result<()> {
    let remove = || {
        let work = SnapshotWork::begin(layout, name)?;
        work.delete(&Snapshot::read(layout, name, snapshot)?)
    };
    remove().context(|| format!("remove snapshot `{snapshot}` of `{name}`"))
}

/// What [`tick`] did.
#[derive(Debug, Default)]
pub struct Ticked {
    pub made: Vec<(ContainerName, SnapshotName)>,
    pub removed: Vec<(ContainerName, SnapshotName)>,
    pub failed: Vec<(ContainerName, Error)>,
}

/// Makes the snapshots that are due at `now` and removes the expired ones.
///
/// One container's failure does not keep the others from theirs.
pub fn tick(layout: &Layout, now: Timestamp) -> Result<Ticked> {
    let mut ticked = Ticked::default();
    for name in layout.names()? {
        if let Err(e) = tick_one(layout, &name, now, &mut ticked) {
            ticked.failed.push((name, e));
        }
    }
    Ok(ticked)
}

fn tick_one(layout: &Layout, name: &ContainerName, now: Timestamp, ticked: &mut Ticked) -> Result<()> {
    let config = layout.config(name)?.snapshots;
    let Some(schedule) = config.schedule else { return Ok(()) };
    if schedule::is_due(schedule, &Snapshot::list(layout, name)?, now, &TimeZone::system()) {
        let stamp = now.strftime("auto-%Y%m%d-%H%M%S").to_string();
        let made = SnapshotWork::begin(layout, name)?.make(stamp.parse()?, String::new(), true)?;
        ticked.made.push((name.clone(), made.name));
    }
    if let Some(keep) = config.keep {
        for old in schedule::expired(&Snapshot::list(layout, name)?, keep, now) {
            SnapshotWork::begin(layout, name)?.delete(old)?;
            ticked.removed.push((name.clone(), old.name.clone()));
        }
    }
    Ok(())
}

/// The progress of a duplicate, where it takes long enough to be shown.
fn shown(backend: &dyn Backend, label: String) -> Progress {
    if backend.shares() { Progress::hidden() } else { Progress::bytes(label, 0) }
}

/// Fails with `Kind::Conflict` while the container runs.
fn require_stopped(layout: &Layout, name: &ContainerName) -> Result<()> {
    match AliveLock::is_held(layout, name)? {
        false => Ok(()),
        true => {
            Err(Error::conflict("it is running")
                .hint(format!("`{}` first", layout.command(format_args!("stop {name}")))))
        }
    }
}

/// Makes the directory `from` the snapshot `to`.
fn put(from: &Path, to: &Path, name: &SnapshotName) -> Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::EXIST) => Err(Error::conflict(format!("there is a snapshot `{name}` already"))),
        other => other.context(|| format!("rename `{}` to `{}`", from.display(), to.display())),
    }?;
    store::sync_dir(to.parent().expect("a snapshot is in a directory"))
}

/// Work on a container's snapshots.
struct SnapshotWork<'a> {
    layout: &'a Layout,
    name: &'a ContainerName,
    backend: Box<dyn Backend>,
    _lock: OperationLock,
}

impl<'a> SnapshotWork<'a> {
    /// Begins it, sweeping what a command that was killed left.
    fn begin(layout: &'a Layout, name: &'a ContainerName) -> Result<Self> {
        layout.require(name)?;
        let lock = OperationLock::acquire(layout, name)?;
        // Looked for again: another command may have destroyed it while we waited.
        layout.require(name)?;
        let work = SnapshotWork { layout, name, backend: storage::of_container(layout, name)?, _lock: lock };
        for entry in fs::read_dir(layout.snapshots(name)).into_iter().flatten().flatten() {
            let is_place_of_ours = entry.file_name().as_encoded_bytes().starts_with(b".");
            let is_kept = storage::ephemeral::is_kept(&entry.path());
            if is_place_of_ours && !is_kept && !view::is_read(layout, name, &entry.path())? {
                // What cannot be removed was named when it was to be, and is tried again at the next time: it
                // must not keep other snapshots from being made, restored and removed.
                let _ = work.discard(&entry.path());
            }
        }
        Ok(work)
    }

    /// A place of ours beside the snapshots, `name` or like it: one that could not be removed may be there.
    fn free_place(&self, name: &str) -> PathBuf {
        let dir = self.layout.snapshots(self.name);
        let names = std::iter::once(name.to_owned()).chain((1..).map(|n| format!("{name}.{n}")));
        let mut places = names.map(|name| dir.join(name));
        places.find(|place| place.symlink_metadata().is_err()).expect("a number is free")
    }

    fn free_name(&self) -> Result<SnapshotName> {
        let dir = self.layout.snapshots(self.name);
        let free = (0..).map(|n| format!("snap{n}")).find(|name| dir.join(name).symlink_metadata().is_err());
        free.expect("a number is free").parse()
    }

    fn make(&self, snapshot: SnapshotName, comment: String, scheduled: bool) -> Result<Snapshot> {
        // What it writes to would be frozen below it while the original writes there.
        identity::require_own(self.layout, self.name)?;
        let step = || format!("make snapshot `{snapshot}` of `{}`", self.name);
        let target = self.layout.snapshots(self.name).join(&snapshot);
        if target.symlink_metadata().is_ok() {
            return Err(Error::conflict(format!("`{}` has a snapshot `{snapshot}` already", self.name)));
        }
        let place = self.free_place(".new");
        self.make_place(&place)?;
        let record = self.fill(&place, comment, scheduled).context(step);
        let record = match record {
            Ok(record) => record,
            Err(e) => {
                // The error is the one to report; what stays is swept by the next command.
                let _ = self.discard(&place);
                return Err(e);
            }
        };
        put(&place, &target, &snapshot)?;
        Ok(Snapshot { name: snapshot, place: target, record })
    }

    fn fill(&self, place: &Path, comment: String, scheduled: bool) -> Result<SnapshotRecord> {
        let container = self.layout.container(self.name);
        let still = Still::begin(self.layout, self.name)?;
        let running = still.activity() == Activity::Running;
        let progress = shown(self.backend.as_ref(), format!("copy `{}`", self.name));
        self.backend.duplicate(&container, still.activity(), place, Purpose::Snapshot, &progress)?.require_none()?;
        still.end()?;
        progress.finish();
        for file in ["config.toml", "origin.toml"] {
            let from = container.join(file);
            let contents = read_text(&from).context(|| format!("read `{}`", from.display()))?;
            store::replace_file(&place.join(file), contents.as_bytes(), 0o644)?;
        }
        let record = SnapshotRecord { created: Timestamp::now(), comment, scheduled, running };
        record.write(place)?;
        Ok(record)
    }

    fn make_place(&self, place: &Path) -> Result<()> {
        fs::create_dir_all(place).context(|| format!("make `{}`", place.display()))
    }

    fn delete(&self, snapshot: &Snapshot) -> Result<()> {
        // Out of sight first, so that no half of it is ever listed or restored.
        let trash_path = self.free_place(&format!(".{}", snapshot.name));
        put(&snapshot.place, &trash_path, &snapshot.name)?;
        self.discard(&trash_path).context(|| format!("remove snapshot `{}` of `{}`", snapshot.name, self.name))
    }

    fn discard(&self, place: &Path) -> Result<()> {
        self.backend.destroy(place)?;
        store::remove_tree(place)
    }
}
