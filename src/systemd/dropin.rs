//! Drop-ins of a container's unit: ours, made from its configuration, and the admin's, which win.
//!
//! Files, not `SetUnitProperties`: what systemd keeps of that has the name of the admin's own
//! `systemctl set-property`, and would replace it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::unit::{INSTALLED, TIMEOUT, UNITS, manager, prefix, unit_name};
use super::{bus, properties};
use crate::config::Config;
use crate::config::bridge::NetworkFile;
use crate::error::{Context, Result};
use crate::store::{Layout, replace_file};
use crate::types::ContainerName;

const ORDER: &str = "50-lxm-order.conf";

/// Of two files that set the same, the later by name counts (systemd.unit(5)): those of `systemctl set-property`
/// are `50-KEY.conf`, that of `systemctl edit` is `override.conf`.
const LIMITS: &str = "10-lxm-limits.conf";

/// Where drop-ins are; of two files of one name the first counts (systemd.unit(5), "Unit File Load Path").
const DIRS: [&str; 7] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    UNITS,
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Writes the container's limits, and its place in the order of the boot, beside its unit; what there is nothing
/// to say about has no file.
pub(crate) fn write(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    put(layout, name, [(LIMITS, limits(config)), (ORDER, order(layout, name, config))])
}

/// The same for a container that runs, whose limits change with it.
pub(crate) fn change(layout: &Layout, name: &ContainerName, config: &Config) -> Result<()> {
    let mut limits = limits(config);
    let had = written(layout, name, LIMITS)?;
    if had.contains("AllowedCPUs=") && !limits.contains("AllowedCPUs=") {
        // Without a list, systemd leaves a running group with the processors that it has.
        limits = text("Service", properties::lines(config).chain([format!("AllowedCPUs={}", properties::possible()?)]));
    }
    put(layout, name, [(LIMITS, limits), (ORDER, order(layout, name, config))])
}

/// Whether the limits beside the unit are those of `config`.
pub(crate) fn has_limits(layout: &Layout, name: &ContainerName, config: &Config) -> Result<bool> {
    Ok(written(layout, name, LIMITS)? == limits(config))
}

/// Removes what is ours of a container that is gone.
pub(crate) fn forget(layout: &Layout, name: &ContainerName) -> Result<()> {
    put(layout, name, [(LIMITS, String::new()), (ORDER, String::new())])
}

/// The files of the admin's own beside the unit: they stay, and hold for the next container of this name.
pub(crate) fn of_admin(layout: &Layout, name: &ContainerName) -> Vec<PathBuf> {
    let unit = unit_name(layout, name);
    let dirs = DIRS[..4].iter().map(|dir| Path::new(dir).join(format!("{unit}.d")));
    let mut files: Vec<_> = dirs.flat_map(|dir| conf_files(&dir)).filter(|file| !is_ours(file)).collect();
    files.sort();
    files
}

/// A setting of the admin's own that holds for a container, whatever its configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Override {
    pub file: PathBuf,
    /// In systemd's words, and in the configuration's.
    pub key: &'static str,
    pub limit: &'static str,
    pub value: String,
}

/// The limits that are not the configuration's, but set beside the unit.
pub(crate) fn overrides(layout: &Layout, name: &ContainerName) -> Vec<Override> {
    let units = [unit_name(layout, name), format!("{}@.service", prefix(layout))];
    let mut files: BTreeMap<_, PathBuf> = BTreeMap::new();
    for unit in units {
        for file in DIRS.iter().flat_map(|dir| conf_files(&Path::new(dir).join(format!("{unit}.d")))) {
            files.entry(file.file_name().map(ToOwned::to_owned)).or_insert(file);
        }
    }
    let mut found = BTreeMap::new();
    for file in files.into_values().filter(|file| !is_ours(file)) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let limit = properties::LIMITS.iter().find(|(name, _)| *name == key.trim());
            let Some(&(key, limit)) = limit else { continue };
            found.insert(key, Override { file: file.clone(), key, limit, value: value.trim().to_owned() });
        }
    }
    found.into_values().collect()
}

fn is_ours(file: &Path) -> bool {
    [LIMITS, ORDER].iter().any(|ours| file.ends_with(ours))
}

fn conf_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "conf")).collect()
}

fn place(layout: &Layout, name: &ContainerName) -> PathBuf {
    Path::new(UNITS).join(format!("{}.d", unit_name(layout, name)))
}

/// The text of a file of ours; none where it is not there.
fn written(layout: &Layout, name: &ContainerName, file: &str) -> Result<String> {
    let file = place(layout, name).join(file);
    match std::fs::read_to_string(&file) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).context(|| format!("read `{}`", file.display())),
        text => Ok(text.unwrap_or_default()),
    }
}

fn put(layout: &Layout, name: &ContainerName, files: [(&str, String); 2]) -> Result<()> {
    let dir = place(layout, name);
    let mut changed = false;
    for (file, text) in files {
        if text == written(layout, name, file)? {
            continue;
        }
        let file = dir.join(file);
        match text.is_empty() {
            true => std::fs::remove_file(&file).context(|| format!("remove `{}`", file.display()))?,
            false => replace_file(&file, text.as_bytes(), 0o644)?,
        }
        changed = true;
    }
    if !changed {
        return Ok(());
    }
    // It stays where there is a file in it.
    let _ = std::fs::remove_dir(&dir);
    bus::run(TIMEOUT, async |connection| manager(connection).await?.reload().await.map_err(bus::error))
        .context(|| "make systemd read its units again")
}

fn limits(config: &Config) -> String {
    text("Service", properties::lines(config))
}

/// A file with these lines in a section; none without lines.
fn text(section: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("# Made by lxm from the container's config.toml.\n[{section}]\n{}\n", lines.join("\n"))
}

fn order(layout: &Layout, name: &ContainerName, config: &Config) -> String {
    let units = |names: &[String]| -> Vec<String> {
        let unit = |name: &String| Some(unit_name(layout, &name.parse().ok()?));
        names.iter().filter_map(unit).collect()
    };
    let (after, requires) = (units(&config.boot.autostart_after), units(&config.boot.requires));
    let mut lines = Vec::new();
    lines.extend(after.iter().chain(&requires).map(|unit| format!("After={unit}")));
    lines.extend(requires.iter().map(|unit| format!("Requires={unit}")));
    // The unit file itself names the default place.
    if prefix(layout) == INSTALLED && layout.containers() != Layout::new(layout.root()).containers() {
        lines.push(requires_mounts_for(&layout.container(name).to_string_lossy()));
    }
    // A disk or share that comes late would be mounted over what the guest has got instead of it, the
    // empty directory below.
    lines.extend(required_sources(config).iter().map(|source| requires_mounts_for(source)));
    if needs_the_hosts_links(layout, config) {
        // Whoever makes them is done by then, where anything of the host waits for that.
        lines.push("After=network-online.target".to_owned());
    }
    text("Unit", lines.into_iter())
}

/// Whether an interface is joined to a link that lxm does not make.
fn needs_the_hosts_links(layout: &Layout, config: &Config) -> bool {
    let ours = NetworkFile::load(layout).unwrap_or_default().bridge;
    let mut links = config.network.values().filter_map(|network| network.parent.as_ref().or(network.bridge.as_ref()));
    links.any(|link| link != "lxmbr0" && !ours.contains_key(link))
}

/// The sources of mounts that must be mounted first. An optional one is started without.
///
/// systemd refuses what has `..` in it, and no quoting is read the same by all its releases: a source with
/// that, or with a control character, is not waited for.
pub(crate) fn required_sources(config: &Config) -> Vec<String> {
    let sources = config.mount.iter().filter(|mount| !mount.optional).map(|mount| &mount.source);
    let plain = sources.filter(|source| !source.components().any(|part| part == Component::ParentDir));
    // `/srv//www/./` is `/srv/www`.
    let texts = plain.filter_map(|source| source.components().collect::<PathBuf>().to_str().map(str::to_owned));
    texts.filter(|source| !source.chars().any(|c| c.is_control())).collect()
}

fn requires_mounts_for(path: &str) -> String {
    format!("RequiresMountsFor={}", properties::quoted(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_mounts_are_named_as_every_systemd_reads_them() {
        let text = "[[mount]]\nsource = '/srv//a b/./'\ntarget = '/a'\n[[mount]]\nsource = '/srv/../x'\ntarget = '/b'\n\
                    [[mount]]\nsource = '/opt'\ntarget = '/c'\noptional = true\n[[mount]]\nsource = \"/x\\ny\"\ntarget = '/d'\n";
        let config: Config = toml::from_str(&format!("version = 1\nuuid = ''\n{text}")).unwrap();
        assert_eq!(required_sources(&config), ["/srv/a b"]);
        assert_eq!(requires_mounts_for("/100%\"b\\c"), r#"RequiresMountsFor="/100%%\"b\\c""#);
    }
}
