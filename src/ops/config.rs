//! Reading and changing a container's configuration file.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::autostart;
use crate::config::{Config, Document, KeyPath, Mount};
use crate::error::{Context, Error, Result};
use crate::identity;
use crate::net;
use crate::storage;
use crate::store::{AliveLock, Layout, OperationLock, replace_file};
use crate::sys::fs::read_text;
use crate::types::ContainerName;

/// One change of a setting.
#[derive(Debug, Clone)]
pub(crate) enum SettingChange {
    Set { key: KeyPath, value: String },
    Unset { key: KeyPath },
}

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing has changed.
    None,
    /// It is in force, or the container does not run.
    Now,
    /// When the running container is started the next time.
    NextStart,
}

/// The text of the configuration file.
pub(crate) fn text(layout: &Layout, name: &ContainerName) -> Result<String> {
    layout.require(name)?;
    let file = layout.config_file(name);
    read_text(&file).context(|| format!("read `{}`", file.display()))
}

pub(crate) fn document(layout: &Layout, name: &ContainerName) -> Result<Document> {
    Document::parse(&text(layout, name)?, &layout.config_file(name))
}

/// Makes all of `changes` or none.
pub(crate) fn change(layout: &Layout, name: &ContainerName, changes: &[SettingChange]) -> Result<Effect> {
    layout.require(name)?;
    make(layout, name, changes).context(|| format!("configure `{name}`"))
}

fn make(layout: &Layout, name: &ContainerName, changes: &[SettingChange]) -> Result<Effect> {
    let _lock = OperationLock::acquire(layout, name)?;
    let old = document(layout, name)?;
    let mut new = old.clone();
    for change in changes {
        if let SettingChange::Unset { key } = change {
            new.unset(key)?;
        }
    }
    new.set(changes.iter().filter_map(|change| match change {
        SettingChange::Set { key, value } => Some((key, value.as_str())),
        SettingChange::Unset { .. } => None,
    }))?;
    write(layout, name, &old, &new)
}

/// Replaces the text `before`, which the admin has edited, by `after`.
///
/// Fails with `Kind::Conflict` if another command has changed it meanwhile.
pub(crate) fn replace(layout: &Layout, name: &ContainerName, before: &str, after: &str) -> Result<Effect> {
    layout.require(name)?;
    put(layout, name, before, after).context(|| format!("configure `{name}`"))
}

fn put(layout: &Layout, name: &ContainerName, before: &str, after: &str) -> Result<Effect> {
    let _lock = OperationLock::acquire(layout, name)?;
    if text(layout, name)? != before {
        return Err(Error::conflict("another command has changed the configuration meanwhile"));
    }
    let file = layout.config_file(name);
    let new = Document::parse(after, &file)?;
    // What is there may be broken: that may be why it is edited.
    match Document::parse(before, &file) {
        Ok(old) => {
            new.config().newly_unfit(old.config()).map_or(Ok(()), |unfit| Err(unfit.error()))?;
            write(layout, name, &old, &new)
        }
        Err(_) => {
            new.config().newly_unfit(&Config::default()).map_or(Ok(()), |unfit| Err(unfit.error()))?;
            identity::require_free(layout, name, new.config(), None)?;
            store(layout, name, &new).map(|()| Effect::Now)
        }
    }
}

/// What to say of the mounts on whose files the guest's root acts as root of this host.
pub(crate) fn warnings(layout: &Layout, name: &ContainerName) -> Result<Vec<String>> {
    let document = document(layout, name)?;
    let config = document.config();
    // A source that is missing or cannot be read is reported at the start.
    let owner = |mount: &Mount| std::fs::metadata(&mount.source).map_or(u32::MAX, |meta| meta.uid());
    let acts = |mount: &&Mount| !config.security.privileged && mount.acts_as_host_root(owner(mount));
    let text = |mount: &Mount| {
        format!(
            "on `{}` the guest's root acts as root of this host: set-user-id programs that it makes there are root's, \
             for every user who can reach them",
            mount.source.display()
        )
    };
    Ok(config.mount.iter().filter(acts).map(text).collect())
}

fn write(layout: &Layout, name: &ContainerName, old: &Document, new: &Document) -> Result<Effect> {
    if old.to_string() == new.to_string() {
        return Ok(Effect::None);
    }
    identity::require_free(layout, name, new.config(), Some(old.config()))?;
    if old.config().network != new.config().network {
        net::check_addresses(layout, name, new.config())?;
    }
    if old.config().boot != new.config().boot {
        autostart::check(layout, name, new.config())?;
    }
    if old.config().storage != new.config().storage {
        limit_size(layout, name, new.config())?;
    }
    let changed = store(layout, name, new).and_then(|()| autostart::changed(layout, name, new.config()));
    if let Err(e) = changed {
        // The kernel or systemd refuses it: back to what was. The first error is the one to report.
        let _ = store(layout, name, old).and_then(|()| autostart::changed(layout, name, old.config()));
        let _ = limit_size(layout, name, old.config());
        return Err(e);
    }
    if !AliveLock::is_held(layout, name)? {
        return Ok(Effect::Now);
    }
    // Of what a running guest was given, limits alone can be changed, that of its files too.
    let mut as_it_runs = new.config().clone();
    as_it_runs.limits = old.config().limits.clone();
    as_it_runs.description = old.config().description.clone();
    as_it_runs.storage = old.config().storage.clone();
    as_it_runs.snapshots = old.config().snapshots.clone();
    for (interface, network) in &mut as_it_runs.network {
        if let Some(old) = old.config().network.get(interface) {
            network.allow_addresses = old.allow_addresses.clone();
            network.allow_macs = old.allow_macs.clone();
        }
    }
    if old.config().network != new.config().network {
        net::reallow(layout, name, new.config()).context(|| "change what the running container may use")?;
    }
    as_it_runs.boot = crate::config::Boot { init: new.config().boot.init.clone(), ..old.config().boot.clone() };
    Ok(if as_it_runs == *old.config() { Effect::Now } else { Effect::NextStart })
}

/// Has the file system hold `storage.size`, whether the container runs or not.
fn limit_size(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    let bytes = config.storage.size.map(|size| size.bytes());
    let backend = storage::of_container(layout, name)?;
    backend.limit(&layout.container(name), bytes).context(|| "set `storage.size`")
}

fn store(layout: &Layout, name: &ContainerName, new: &Document) -> Result<()> {
    let file = layout.config_file(name);
    let mode = file.metadata().map_or(0o644, |meta| meta.permissions().mode() & 0o777);
    replace_file(&file, new.to_string().as_bytes(), mode)
}
