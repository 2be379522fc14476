//! A tree of /var/lib/machines with the settings of `systemd-nspawn` (systemd.nspawn(5)).

use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use super::foreign::{self, Translated};
use super::make::{ContainerParts, ImportOptions, Imported, fill_from_tree, make};
use crate::config::{Mount, MountIds, Network, NetworkType, PublishedPort};
use crate::container::random;
use crate::distro::HostKeys;
use crate::error::{Context, Error, Result};
use crate::store::Layout;
use crate::types::{ContainerName, IdRange};

pub(super) fn is_tree(dir: &Path) -> bool {
    dir.join("usr").is_dir() && dir.join("etc").is_dir()
}

/// Makes a container of the tree `dir`, which stays as it is and must not run.
pub(super) fn import(layout: &Layout, dir: &Path, options: &ImportOptions) -> Result<Imported> {
    let called = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let mut made = Translated::new()?;
    match settings_file(dir, &called) {
        Some(file) => {
            let text = foreign::settings(CWD, &file)?;
            made.notes.push(format!("its settings are those of `{}`", file.display()));
            translate(&mut made, &called, &text)?;
        }
        None => made.notes.push(format!("there are no settings `{called}.nspawn`")),
    }
    made.with_network(layout)?;
    let name: ContainerName = match &options.name {
        Some(name) => name.clone(),
        None => called.parse().map_err(|e: Error| e.hint("`-n NAME` gives it another name"))?,
    };
    let open = foreign::open(dir)?;
    let tree = foreign::path_of(&open);
    let base = foreign::base_of(&tree)?;
    let text = made.text()?;
    let mut notes = made.notes;
    let storage = make(layout, &name, options, &mut notes, &mut |root, place| {
        fill_from_tree(&tree, dir, root, place, base)?;
        let config_text = text.clone();
        Ok(ContainerParts { config_text, origin: foreign::origin("nspawn"), keys: HostKeys::Keep })
    });
    let storage = storage.context(|| format!("import `{}`", dir.display()))?;
    Ok(Imported { name, storage, notes })
}

/// The first of those that nspawn would read.
fn settings_file(dir: &Path, called: &str) -> Option<PathBuf> {
    let file = format!("{called}.nspawn");
    let beside = dir.parent().map(|parent| parent.join(&file));
    let known = ["/etc/systemd/nspawn", "/run/systemd/nspawn"].map(|known| Path::new(known).join(&file));
    known.into_iter().chain(beside).find(|file| file.symlink_metadata().is_ok())
}

/// Takes over the settings `text` of the machine `called`.
pub(super) fn translate(made: &mut Translated, called: &str, text: &str) -> Result<()> {
    let mut settings = Settings { made, called, network: Network::default(), wired_by: None, ports: Vec::new() };
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
            settings.made.left_out(line);
            continue;
        };
        let known = match section.as_str() {
            "Exec" => settings.exec(key, value),
            "Files" => settings.files(key, value),
            "Network" => settings.network(key, value),
            _ => false,
        };
        if !known {
            settings.made.left_out(&format!("{key}={value}"));
        }
    }
    settings.finish()
}

/// A machine's settings while they are read, section by section. Each says whether it knows a key.
struct Settings<'a> {
    made: &'a mut Translated,
    called: &'a str,
    network: Network,
    /// The setting that its one interface comes from; `None` while it is kept from any network.
    wired_by: Option<String>,
    ports: Vec<PublishedPort>,
}

impl Settings<'_> {
    fn exec(&mut self, key: &str, value: &str) -> bool {
        let config = &mut self.made.config;
        match key {
            // What lxm does anyway, or does its own way.
            "NotifyReady" | "LinkJournal" | "Timezone" | "ResolvConf" => true,
            // It boots its init, and keeps what is written to its files.
            "Boot" => is_yes(value),
            "Ephemeral" => is_no(value),
            "Hostname" => value == self.called,
            "PrivateUsers" if is_no(value) || value == "identity" => {
                let note = format!("under nspawn its ids were the host's own (`{key}={value}`), and are not here");
                self.made.notes.push(note);
                true
            }
            "PrivateUsers" => is_own_range(value),
            "Environment" => {
                let variable = value.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
                let known = variable.is_some();
                config.environment.extend(variable);
                known
            }
            "Capability" => {
                config.security.capabilities_add.extend(value.split_whitespace().map(str::to_owned));
                true
            }
            "DropCapability" => {
                config.security.capabilities_drop.extend(value.split_whitespace().map(str::to_owned));
                true
            }
            _ => false,
        }
    }

    fn files(&mut self, key: &str, value: &str) -> bool {
        match key {
            "PrivateUsersOwnership" => true,
            "Volatile" | "ReadOnly" => is_no(value),
            "Bind" | "BindReadOnly" => {
                bind(value, key == "BindReadOnly").map(|mount| self.made.config.mount.push(mount)).is_some()
            }
            _ => false,
        }
    }

    fn network(&mut self, key: &str, value: &str) -> bool {
        match key {
            // nspawn's default without further settings is the host's own network.
            "Private" => {
                self.made.says_network = true;
                if !is_yes(value) {
                    self.network.kind = NetworkType::Host;
                    self.wired_by = Some("Private".to_owned());
                }
                true
            }
            "VirtualEthernet" => {
                self.made.says_network = true;
                if is_yes(value) {
                    self.wired_by.get_or_insert_with(|| key.to_owned());
                }
                true
            }
            // One interface is taken over, the first; a bridge is what a veth is wired to.
            "Bridge" | "MACVLAN" | "IPVLAN" | "Interface"
                if self.wired_by.as_deref().is_none_or(|by| by == "VirtualEthernet") =>
            {
                self.made.says_network = true;
                self.wired_by = Some(key.to_owned());
                let link = Some(value.to_owned());
                let network = &mut self.network;
                (network.kind, network.bridge, network.parent) = match key {
                    "Bridge" => (NetworkType::Veth, link, None),
                    "MACVLAN" => (NetworkType::Macvlan, None, link),
                    "IPVLAN" => (NetworkType::Ipvlan, None, link),
                    _ => (NetworkType::Physical, None, link),
                };
                true
            }
            "Port" => port(value).map(|port| self.ports.push(port)).is_some(),
            _ => false,
        }
    }

    /// Gives it the interface that its settings say it has.
    fn finish(self) -> Result<()> {
        let Settings { made, mut network, wired_by, ports, .. } = self;
        if wired_by.is_some() || (!ports.is_empty() && !made.says_network) {
            made.says_network = true;
            match network.kind {
                NetworkType::Veth => network.publish = ports,
                _ => ports.iter().for_each(|port| made.left_out(&format!("Port={port}"))),
            }
            let has_mac = !matches!(network.kind, NetworkType::Physical | NetworkType::Host);
            network.mac = has_mac.then(random::mac).transpose()?;
            made.config.network.insert("eth0".into(), network);
        }
        Ok(())
    }
}

fn is_yes(value: &str) -> bool {
    matches!(value, "yes" | "true" | "on" | "1")
}

fn is_no(value: &str) -> bool {
    matches!(value, "no" | "false" | "off" | "0")
}

/// Whether `PrivateUsers=` means what is had here: a range of ids of its own, of the usual length.
fn is_own_range(value: &str) -> bool {
    let is_base = |base: &str| base.parse::<u32>().is_ok_and(|base| base >= IdRange::LEN);
    match value.split_once(':') {
        Some((base, len)) => is_base(base) && len == IdRange::LEN.to_string(),
        None => is_yes(value) || matches!(value, "pick" | "managed") || is_base(value),
    }
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
fn port(value: &str) -> Option<PublishedPort> {
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
    fn settings_are_taken_over_and_the_rest_is_reported() {
        let mut made = Translated::new().unwrap();
        let text = "[Exec]\nBoot=yes\nEnvironment=A=b=c\nCapability=CAP_SYS_TIME\nLimitNOFILE=1024\n; no\n[Files]\nBind=/srv\n\
                    BindReadOnly=-/data:/mnt\nTemporaryFileSystem=/tmp\n[Network]\nVirtualEthernet=yes\nPort=udp:53\nPort=8080:80\nZone=x\n";
        translate(&mut made, "web", text).unwrap();
        let config = &made.config;
        assert_eq!(config.environment["A"], "b=c");
        assert_eq!(config.security.capabilities_add, ["CAP_SYS_TIME"]);
        assert_eq!(config.mount.len(), 2);
        assert!(config.mount[1].optional && config.mount[1].read_only);
        let ports: Vec<_> = config.network["eth0"].publish.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["53:53/udp", "8080:80/tcp"]);
        assert_eq!(made.notes.len(), 3, "{:?}", made.notes);
    }

    #[test]
    fn what_differs_here_is_reported() {
        let told = |text: &str| {
            let mut made = Translated::new().unwrap();
            translate(&mut made, "web", text).unwrap();
            made.notes.join("\n")
        };
        let usual =
            "[Exec]\nBoot=yes\nHostname=web\nPrivateUsers=pick\n[Files]\nVolatile=no\nPrivateUsersOwnership=map\n";
        assert_eq!(told(usual), "");
        assert_eq!(told("[Exec]\nPrivateUsers=655360:65536\nPrivateUsers=yes\n"), "");
        for ids in ["no", "identity", "0"] {
            assert!(told(&format!("[Exec]\nPrivateUsers={ids}\n")).contains("the host's own"), "{ids}");
        }
        let lost = ["PrivateUsers=655360:1048576", "Boot=no", "Hostname=other", "Ephemeral=yes"].map(|s| ("Exec", s));
        let files = ["Volatile=yes", "Volatile=state", "Volatile=overlay", "ReadOnly=yes"].map(|s| ("Files", s));
        for (section, setting) in lost.into_iter().chain(files) {
            let told = told(&format!("[{section}]\n{setting}\n"));
            assert!(told.contains(setting), "{setting} in {told}");
        }
    }

    #[test]
    fn it_is_as_isolated_as_it_was() {
        let network = |text: &str| {
            let mut made = Translated::new().unwrap();
            translate(&mut made, "web", &format!("[Network]\n{text}")).unwrap();
            assert!(made.says_network);
            (made.config.network.get("eth0").map(|network| network.kind), made.notes.len())
        };
        assert_eq!(network("Private=yes\n"), (None, 0));
        assert_eq!(network("VirtualEthernet=no\n"), (None, 0));
        assert_eq!(network("Private=no\n"), (Some(NetworkType::Host), 0));
        assert_eq!(network("VirtualEthernet=yes\n"), (Some(NetworkType::Veth), 0));
        assert_eq!(network("MACVLAN=eth7\nMACVLAN=eth8\n"), (Some(NetworkType::Macvlan), 1));
        assert_eq!(network("Interface=eth7\nPort=80\n"), (Some(NetworkType::Physical), 1));
    }
}
