//! Containers that name another one in their place in the order of the boot.

use super::config::{self, SettingChange};
use crate::config::{Config, StartOrder};
use crate::error::{Error, Result};
use crate::store::{AliveLock, Layout};
use crate::types::ContainerName;

/// Containers that do not start at boot without `name` (`boot.requires`).
pub(crate) fn requiring(layout: &Layout, name: &ContainerName) -> Result<Vec<ContainerName>> {
    naming(layout, name, |config| vec![&config.boot.requires])
}

/// Running containers that require one of `names` (`boot.requires`), directly or through others.
pub(crate) fn running(layout: &Layout, order: &StartOrder, names: &[ContainerName]) -> Result<Vec<ContainerName>> {
    let mut running = Vec::new();
    for name in order.requiring(names) {
        if AliveLock::is_held(layout, &name)? {
            running.push(name);
        }
    }
    Ok(running)
}

/// Fails with `Kind::Conflict` where `name` requires a container that does not run.
pub(crate) fn require_running(layout: &Layout, order: &StartOrder, name: &ContainerName) -> Result<()> {
    for required in order.of(name).1 {
        if !AliveLock::is_held(layout, &required)? {
            return Err(Error::conflict(format!("`{name}` requires `{required}`, which does not run")));
        }
    }
    Ok(())
}

/// Has all that name `from` name `to` from now on: a rename changes what is meant nowhere.
///
/// Fails if one of them cannot be changed, once all others are.
pub(crate) fn rename(layout: &Layout, from: &ContainerName, to: &ContainerName) -> Result<()> {
    let mut outcome = Ok(());
    for other in naming(layout, from, lists)? {
        let changed = layout.config(&other).and_then(|own| {
            let keys = ["boot.requires", "boot.autostart-after"].into_iter().zip(lists(&own));
            let keys = keys.filter(|(_, list)| list.iter().any(|name| name == from.as_str()));
            let set = |(key, list): (&str, &Vec<String>)| {
                let renamed = |name: &String| if name == from.as_str() { to.as_str() } else { name }.to_owned();
                let value = list.iter().map(renamed).collect::<Vec<_>>().join(",");
                Ok(SettingChange::Set { key: key.parse()?, value })
            };
            config::change(layout, &other, &keys.map(set).collect::<Result<Vec<_>>>()?).map(drop)
        });
        outcome = outcome.and(changed.map_err(|e| {
            Error::conflict(format!("`{other}` still names `{from}` in `boot.requires` or `boot.autostart-after`: {e}"))
                .hint(format!("`{}`", layout.command(format_args!("config edit {other}"))))
        }));
    }
    outcome
}

fn lists(config: &Config) -> Vec<&Vec<String>> {
    vec![&config.boot.requires, &config.boot.autostart_after]
}

/// The containers of which one of the lists has `name`. What has an unreadable configuration names none.
fn naming(
    layout: &Layout,
    name: &ContainerName,
    lists: fn(&Config) -> Vec<&Vec<String>>,
) -> Result<Vec<ContainerName>> {
    let mut names = layout.names()?;
    names.retain(|other| {
        layout
            .config(other)
            .is_ok_and(|config| lists(&config).iter().any(|list| list.iter().any(|one| one == name.as_str())))
    });
    Ok(names)
}
