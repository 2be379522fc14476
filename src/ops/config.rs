//! Reading and changing a container's configuration file.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::{autostart, meaning};
use crate::cgroup::{Hierarchies, require_unused_memory};
use crate::config::{Config, Document, KeyPath, Mount, Network, NetworkType};
use crate::container::boot_report;
use crate::error::{Context, Error, Result};
use crate::identity;
use crate::net;
use crate::storage;
use crate::store::{AliveLock, BootRecord, Layout, OperationLock, replace_file};
use crate::sys::fs::read_text;
use crate::types::ContainerName;

/// The setting that is carried out by a unit on systemd hosts.
const AUTOSTART: &str = "boot.autostart";

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

/// What came of a change.
#[derive(Debug)]
pub(crate) struct Changed {
    pub effect: Effect,
    /// What the admin is to know of what is set now.
    pub warnings: Vec<String>,
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

/// The value of a setting that is in force, its default included; `None` where it has none.
pub(crate) fn value(layout: &Layout, name: &ContainerName, key: &KeyPath) -> Result<Option<toml::Value>> {
    let document = document(layout, name)?;
    let value = document.get(key)?;
    Ok(match (key.to_string().as_str(), &key.parts()[..]) {
        // On a systemd host its unit says it.
        (AUTOSTART, _) => Some(toml::Value::Boolean(boot_report::is_enabled(layout, name, document.config()))),
        (_, ["network", interface, "bridge"]) if value.is_none() => {
            let is_veth = |network: &&Network| network.kind == NetworkType::Veth;
            let network = document.config().network.get(*interface).filter(is_veth);
            network.map(|_| {
                toml::Value::String(net::bridge::default_name(&layout.host_config().unwrap_or_default()).to_owned())
            })
        }
        _ => value,
    })
}

/// All settings with their defaults, as they are in force.
pub(crate) fn all(layout: &Layout, name: &ContainerName) -> Result<toml::Table> {
    let document = document(layout, name)?;
    let mut all = document.config().with_defaults()?;
    if let Some(boot) = all.get_mut("boot").and_then(toml::Value::as_table_mut) {
        let enabled = boot_report::is_enabled(layout, name, document.config());
        boot.insert("autostart".to_owned(), toml::Value::Boolean(enabled));
    }
    Ok(all)
}

/// Makes all of `changes` or none.
pub(crate) fn change(layout: &Layout, name: &ContainerName, changes: &[SettingChange]) -> Result<Changed> {
    layout.require(name)?;
    make(layout, name, changes).context(|| format!("configure `{name}`"))
}

fn make(layout: &Layout, name: &ContainerName, changes: &[SettingChange]) -> Result<Changed> {
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
    let changed = write(layout, name, &old, &new)?;
    let is_of_autostart = |change: &SettingChange| match change {
        SettingChange::Set { key, .. } | SettingChange::Unset { key } => key.to_string() == AUTOSTART,
    };
    if changes.iter().any(is_of_autostart) {
        autostart::follow(layout, name, new.config().boot.autostart)?;
    }
    Ok(changed)
}

/// Replaces the text `before`, which the admin has edited, by `after`.
///
/// Fails with `Kind::Conflict` if another command has changed it meanwhile.
pub(crate) fn replace(layout: &Layout, name: &ContainerName, before: &str, after: &str) -> Result<Changed> {
    layout.require(name)?;
    put(layout, name, before, after).context(|| format!("configure `{name}`"))
}

fn put(layout: &Layout, name: &ContainerName, before: &str, after: &str) -> Result<Changed> {
    let _lock = OperationLock::acquire(layout, name)?;
    if text(layout, name)? != before {
        return Err(Error::conflict("another command has changed the configuration meanwhile"));
    }
    let file = layout.config_file(name);
    let new = Document::parse(after, &file)?;
    // What is there may be broken: that may be why it is edited.
    match Document::parse(before, &file) {
        Ok(old) => {
            new.config().newly_unfit(old.config()).map_or(Ok(()), |unfit| Err(unfit.refusal()))?;
            let changed = write(layout, name, &old, &new)?;
            if old.config().boot.autostart != new.config().boot.autostart {
                autostart::follow(layout, name, new.config().boot.autostart)?;
            }
            Ok(changed)
        }
        Err(_) => {
            new.config().newly_unfit(&Config::default()).map_or(Ok(()), |unfit| Err(unfit.refusal()))?;
            identity::require_free(layout, name, new.config(), None)?;
            let warnings = meaning::of_change(layout, name, &Config::default(), new.config())?;
            store(layout, name, &new).map(|()| Changed { effect: Effect::Now, warnings })
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
    let mut warnings: Vec<String> = config.mount.iter().filter(acts).map(text).collect();
    warnings.extend(meaning::unlike_targets(layout, name, config));
    Ok(warnings)
}

fn write(layout: &Layout, name: &ContainerName, old: &Document, new: &Document) -> Result<Changed> {
    if old.to_string() == new.to_string() {
        return Ok(Changed { effect: Effect::None, warnings: Vec::new() });
    }
    let warnings = meaning::of_change(layout, name, old.config(), new.config())?;
    let running = AliveLock::is_held(layout, name)?;
    if running && old.config().limits.memory != new.config().limits.memory {
        require_unused_memory(&Hierarchies::detect()?, &BootRecord::cgroup_of(layout, name)?, &new.config().limits)?;
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
    let reallow = |config: &Config| match running && old.config().network != new.config().network {
        true => net::reallow(layout, name, config).context(|| "change what the running container may use"),
        false => Ok(()),
    };
    let changed = store(layout, name, new)
        .and_then(|()| autostart::changed(layout, name, new.config()))
        .and_then(|()| reallow(new.config()));
    if let Err(e) = changed {
        // The kernel or systemd refuses it: back to what was. The first error is the one to report.
        let _ = store(layout, name, old).and_then(|()| autostart::changed(layout, name, old.config()));
        let _ = reallow(old.config());
        let _ = limit_size(layout, name, old.config());
        return Err(e);
    }
    if !running {
        return Ok(Changed { effect: Effect::Now, warnings });
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
    as_it_runs.boot = crate::config::Boot { init: new.config().boot.init.clone(), ..old.config().boot.clone() };
    let effect = if as_it_runs == *old.config() { Effect::Now } else { Effect::NextStart };
    Ok(Changed { effect, warnings })
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
