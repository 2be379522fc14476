//! A tree of /var/lib/machines with the settings of `systemd-nspawn` (systemd.nspawn(5)).

use std::path::{Path, PathBuf};

use super::foreign::{self, Translated};
use super::{Imported, Parts, Wish, fill_from_tree, make};
use crate::config::{Mount, MountIds, Network, NetworkType, Publish};
use crate::distro::HostKeys;
use crate::error::{Context, Error, Result};
use crate::ops::fresh;
use crate::store::Layout;
use crate::types::ContainerName;

pub(super) fn is_tree(dir: &Path) -> bool {
    dir.join("usr").is_dir() && dir.join("etc").is_dir()
}

/// Makes a container of the tree `dir`, which stays as it is and must not run.
pub(super) fn import(layout: &Layout, dir: &Path, wish: &Wish) -> Result<Imported> {
    let called = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let mut made = Translated::new()?;
    match settings_file(dir, &called) {
        Some(file) => {
            let text = std::fs::read_to_string(&file).context(|| format!("read `{}`", file.display()))?;
            made.notes.push(format!("its settings are those of `{}`", file.display()));
            translate(&mut made, &text)?;
        }
        None => made.notes.push(format!("there are no settings `{called}.nspawn`")),
    }
    made.with_default_network(layout)?;
    let name: ContainerName = match &wish.name {
        Some(name) => name.clone(),
        None => called.parse().map_err(|e: Error| e.hint("`-n NAME` gives it another name"))?,
    };
    let base = foreign::base_of(dir)?;
    let storage = make(layout, &name, &wish.storage, &mut |root, place| {
        fill_from_tree(dir, root, place, base)?;
        Ok(Parts { config_text: made.text()?, origin: foreign::origin("nspawn"), keys: HostKeys::Keep })
    });
    let storage = storage.context(|| format!("import `{}`", dir.display()))?;
    Ok(Imported { name, storage, notes: made.notes })
}

/// The first of those that nspawn would read.
fn settings_file(dir: &Path, called: &str) -> Option<PathBuf> {
    let file = format!("{called}.nspawn");
    let beside = dir.parent().map(|parent| parent.join(&file));
    let known = ["/etc/systemd/nspawn", "/run/systemd/nspawn"].map(|known| Path::new(known).join(&file));
    known.into_iter().chain(beside).find(|file| file.is_file())
}

pub(super) fn translate(made: &mut Translated, text: &str) -> Result<()> {
    let mut section = String::new();
    let mut network = Network::default();
    let (mut wired, mut ports) = (false, Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
            made.left_out(line);
            continue;
        };
        let known = match (section.as_str(), key) {
            // What lxm does anyway, or does its own way.
            (
                "Exec",
                "Boot" | "PrivateUsers" | "Hostname" | "NotifyReady" | "LinkJournal" | "Timezone" | "ResolvConf",
            ) => true,
            ("Files", "PrivateUsersOwnership" | "Volatile") => value != "yes",
            ("Network", "Private") => true,
            ("Exec", "Environment") => match value.split_once('=') {
                Some((name, value)) => {
                    made.config.environment.insert(name.to_owned(), value.to_owned());
                    true
                }
                None => false,
            },
            ("Exec", "Capability") => {
                made.config.security.capabilities_add.extend(value.split_whitespace().map(str::to_owned));
                true
            }
            ("Exec", "DropCapability") => {
                made.config.security.capabilities_drop.extend(value.split_whitespace().map(str::to_owned));
                true
            }
            ("Files", "Bind" | "BindReadOnly") => {
                bind(value, key == "BindReadOnly").map(|mount| made.config.mount.push(mount)).is_some()
            }
            ("Network", "VirtualEthernet") => {
                wired = true;
                is_yes(value)
            }
            ("Network", "Bridge") => {
                wired = true;
                let exists = foreign::link_exists(value);
                network.bridge = exists.then(|| value.to_owned());
                exists
            }
            ("Network", "MACVLAN" | "IPVLAN" | "Interface") => {
                wired = true;
                network.parent = Some(value.to_owned());
                network.kind = match key {
                    "MACVLAN" => NetworkType::Macvlan,
                    "IPVLAN" => NetworkType::Ipvlan,
                    _ => NetworkType::Physical,
                };
                true
            }
            ("Network", "Port") => port(value).map(|port| ports.push(port)).is_some(),
            _ => false,
        };
        if !known {
            made.left_out(&format!("{key}={value}"));
        }
    }
    if wired || !ports.is_empty() {
        network.publish = ports;
        network.mac = (network.kind != NetworkType::Physical).then(fresh::mac).transpose()?;
        made.config.network.insert("eth0".into(), network);
    }
    Ok(())
}

fn is_yes(value: &str) -> bool {
    matches!(value, "yes" | "true" | "on" | "1")
}

/// `SOURCE[:TARGET[:OPTIONS]]`, where `\:` is a colon; a leading `+` (below the tree itself), an empty
/// source and an unknown option have no counterpart.
fn bind(value: &str, read_only: bool) -> Option<Mount> {
    let fields = split(value);
    let (source, target, options) = match fields.as_slice() {
        [source] => (source, source, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options.as_str()),
        _ => return None,
    };
    let source_path = source.strip_prefix('-').unwrap_or(source);
    let target = if target == source { source_path } else { target };
    let mut mount = Mount::new(source_path, target.parse().ok()?);
    (mount.read_only, mount.optional) = (read_only, source_path.len() < source.len());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rbind" => mount.recursive = true,
            "norbind" => mount.recursive = false,
            "noidmap" => mount.idmap = MountIds::None,
            "idmap" => mount.idmap = MountIds::Guest,
            "rootidmap" => mount.idmap = MountIds::Root,
            "owneridmap" => mount.idmap = MountIds::Owner,
            _ => return None,
        }
    }
    source_path.starts_with('/').then_some(mount)
}

/// The fields between colons, without the backslashes that escape.
fn split(value: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' => fields.push(String::new()),
            '\\' => fields.last_mut().into_iter().for_each(|field| field.extend(chars.next())),
            _ => fields.last_mut().into_iter().for_each(|field| field.push(c)),
        }
    }
    fields
}

/// `[PROTOCOL:]HOST[:GUEST]`
fn port(value: &str) -> Option<Publish> {
    let (protocol, ports) = match value.split_once(':') {
        Some((protocol @ ("tcp" | "udp"), ports)) => (protocol, ports),
        _ => ("tcp", value),
    };
    let (host, guest) = ports.split_once(':').unwrap_or((ports, ports));
    format!("{host}:{guest}/{protocol}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_keep_their_options_and_escapes() {
        let mount = bind(r"/a\:b:/mnt:norbind,rootidmap", false).unwrap();
        assert_eq!((mount.source.to_str(), mount.recursive, mount.idmap), (Some("/a:b"), false, MountIds::Root));
        assert_eq!(bind("/a:/b:owneridmap", false).unwrap().idmap, MountIds::Owner);
        assert_eq!(bind("/a:/b:idmap", true).unwrap().idmap, MountIds::Guest);
        assert_eq!(bind("/a", true).unwrap().idmap, MountIds::None);
        for none in ["+/a:/b", "a:/b", ":/b", "/a:/b:shiny", "/a:/b:rbind:x", "/a:/proc"] {
            assert!(bind(none, false).is_none(), "{none}");
        }
    }

    #[test]
    fn settings_are_taken_over_and_what_cannot_be_is_told() {
        let mut made = Translated::new().unwrap();
        let text = "[Exec]\nBoot=yes\nEnvironment=A=b=c\nCapability=CAP_SYS_TIME\nLimitNOFILE=1024\n; no\n[Files]\nBind=/srv\n\
                    BindReadOnly=-/data:/mnt\nTemporaryFileSystem=/tmp\n[Network]\nVirtualEthernet=yes\nPort=udp:53\nPort=8080:80\nZone=x\n";
        translate(&mut made, text).unwrap();
        let config = &made.config;
        assert_eq!(config.environment["A"], "b=c");
        assert_eq!(config.security.capabilities_add, ["CAP_SYS_TIME"]);
        assert_eq!(config.mount.len(), 2);
        assert!(config.mount[1].optional && config.mount[1].read_only);
        let ports: Vec<_> = config.network["eth0"].publish.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["53:53/udp", "8080:80/tcp"]);
        assert_eq!(made.notes.len(), 3, "{:?}", made.notes);
    }
}
