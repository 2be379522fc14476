//! A container of LXC: its directory with `config` and `rootfs` (lxc.container.conf(5)).

use std::path::{Path, PathBuf};

use super::foreign::{self, Translated};
use super::{Imported, Parts, Wish, fill_from_tree, make};
use crate::config::{Address, Mount, MountIds, MountTarget, Network, NetworkType, range};
use crate::distro::HostKeys;
use crate::error::{Context, Error, Kind, Result};
use crate::store::Layout;
use crate::types::{ContainerName, Size};

/// Keys that say what lxm does by itself, or what has no meaning for it.
const SILENT: [&str; 14] = [
    "lxc.include",
    "lxc.arch",
    "lxc.uts.name",
    "lxc.rootfs.path",
    "lxc.rootfs.options",
    "lxc.rootfs.mount",
    "lxc.tty.max",
    "lxc.tty.dir",
    "lxc.pty.max",
    "lxc.apparmor.profile",
    "lxc.apparmor.allow_nesting",
    "lxc.seccomp.profile",
    "lxc.mount.auto",
    "lxc.log.level",
];

pub(super) fn is_container(dir: &Path) -> bool {
    dir.join("config").is_file()
        && std::fs::read_to_string(dir.join("config"))
            .is_ok_and(|text| text.lines().any(|line| line.starts_with("lxc.")))
}

/// Makes a container of the one in `dir`, which stays as it is and must not run.
pub(super) fn import(layout: &Layout, dir: &Path, wish: &Wish) -> Result<Imported> {
    let file = dir.join("config");
    let text = std::fs::read_to_string(&file).context(|| format!("read `{}`", file.display()))?;
    let keys = parse(&text);
    let mut translated = translate(&keys)?;
    translated.with_default_network(layout)?;
    let called = value(&keys, "lxc.uts.name").map(str::to_owned);
    let called = called.or_else(|| Some(dir.file_name()?.to_str()?.to_owned())).unwrap_or_default();
    let name: ContainerName = match &wish.name {
        Some(name) => name.clone(),
        None => called.parse().map_err(|e: Error| e.hint("`-n NAME` gives it another name"))?,
    };
    let rootfs = rootfs(dir, &keys)?;
    let base = id_base(&keys).map_or_else(|| foreign::base_of(&rootfs), Ok)?;
    let storage = make(layout, &name, &wish.storage, &mut |root, place| {
        fill_from_tree(&rootfs, root, place, base)?;
        Ok(Parts { config_text: translated.text()?, origin: foreign::origin("lxc"), keys: HostKeys::Keep })
    });
    let storage = storage.context(|| format!("import `{}`", dir.display()))?;
    Ok(Imported { name, storage, notes: translated.notes })
}

pub(super) fn parse(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
        .collect()
}

fn value<'a>(keys: &'a [(String, String)], key: &str) -> Option<&'a str> {
    keys.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

/// Its tree: `dir:/path` or a path; other backends have to be mounted first.
fn rootfs(dir: &Path, keys: &[(String, String)]) -> Result<PathBuf> {
    let said = value(keys, "lxc.rootfs.path").or_else(|| value(keys, "lxc.rootfs")).unwrap_or_default();
    let path = match said.split_once(':') {
        Some(("dir" | "btrfs", path)) => PathBuf::from(path),
        Some((backend, _)) => {
            return Err(Error::new(Kind::HostLacks, format!("its files are on a backend of LXC's, `{backend}`"))
                .hint("`lxc-copy -B dir` makes a container of it whose files are a directory"));
        }
        None if said.is_empty() => dir.join("rootfs"),
        None => PathBuf::from(said),
    };
    // A container directory that was moved or packed still says where it once was.
    let path = if path.is_dir() { path } else { dir.join("rootfs") };
    match path.is_dir() {
        true => Ok(path),
        false => Err(Error::not_found(format!("its files are not at `{}`", path.display()))),
    }
}

/// `lxc.idmap = u 0 100000 65536`
fn id_base(keys: &[(String, String)]) -> Option<u32> {
    let maps = keys.iter().filter(|(key, _)| key == "lxc.idmap" || key == "lxc.id_map");
    maps.filter_map(|(_, map)| {
        let mut fields = map.split_whitespace();
        (fields.next() == Some("u") && fields.next() == Some("0")).then(|| fields.next()?.parse().ok())?
    })
    .next()
}

pub(super) fn translate(keys: &[(String, String)]) -> Result<Translated> {
    let mut made = Translated::new()?;
    let mut interfaces: std::collections::BTreeMap<String, Interface> = std::collections::BTreeMap::new();
    for (key, value) in keys {
        if let Some((number, setting)) = key.strip_prefix("lxc.net.").and_then(|rest| rest.split_once('.')) {
            if !interfaces.entry(number.to_owned()).or_default().set(setting, value) {
                made.left_out(&format!("{key} = {value}"));
            }
            continue;
        }
        if !SILENT.contains(&key.as_str()) && !one(&mut made, key, value) {
            made.left_out(&format!("{key} = {value}"));
        }
    }
    for (number, interface) in interfaces {
        let name = interface.name.clone().unwrap_or_else(|| format!("eth{number}"));
        let network = interface.network(&mut made.notes);
        made.config.network.insert(name, network);
    }
    if id_base(keys).is_none() {
        made.notes.push("it was privileged under LXC and is not here; `security.privileged` makes it so".to_owned());
    }
    Ok(made)
}

/// Takes over one key; says whether it could.
fn one(made: &mut Translated, key: &str, value: &str) -> bool {
    let limits = &mut made.config.limits;
    // What may be spent of a controller is named alike for both versions.
    let control = key.strip_prefix("lxc.cgroup2.").or_else(|| key.strip_prefix("lxc.cgroup."));
    match control {
        Some("memory.max" | "memory.limit_in_bytes") => return set(&mut limits.memory, lxc_size(value).map(Some)),
        Some("memory.high") => return set(&mut limits.memory_high, lxc_size(value).map(Some)),
        Some("memory.swap.max") => return set(&mut limits.swap, lxc_size(value).map(Some)),
        Some("pids.max") => return set(&mut limits.pids, value.parse().ok()),
        Some("cpuset.cpus") => return set(&mut limits.cpuset, Some(Some(value.to_owned()))),
        Some("cpu.weight") => {
            let weight = value.parse().ok().filter(|weight| range::WEIGHT.contains(weight));
            return set(&mut limits.cpu_weight, weight.map(Some));
        }
        Some("cpu.shares") => {
            // 1024 shares are a weight of 100.
            let weight =
                value.parse::<u64>().ok().map(|shares| Some((shares.saturating_mul(100) / 1024).clamp(1, 10_000)));
            return set(&mut limits.cpu_weight, weight);
        }
        Some("cpu.max") => {
            let mut fields = value.split_whitespace().map(|field| field.parse::<f64>().ok());
            let (quota, period) = (fields.next().flatten(), fields.next().flatten().unwrap_or(100_000.0));
            let cpus = quota.map(|quota| quota / period).filter(|cpus| range::CPUS.contains(cpus));
            return set(&mut limits.cpus, cpus.map(Some));
        }
        // lxm's own list is closed, and holds what LXC's common configuration allows.
        Some("devices.deny" | "devices.allow") => return true,
        _ => {}
    }
    match key {
        "lxc.environment" => match value.split_once('=') {
            Some((name, value)) => {
                made.config.environment.insert(name.to_owned(), value.to_owned());
                true
            }
            None => false,
        },
        "lxc.cap.drop" => {
            made.config.security.capabilities_drop.extend(value.split_whitespace().map(str::to_owned));
            true
        }
        "lxc.init.cmd" if !value.contains(char::is_whitespace) => {
            made.config.boot.init = Some(value.into());
            true
        }
        "lxc.start.auto" => {
            if value == "1" {
                made.notes.push("it started with the host: `lxm enable` makes it do so again".to_owned());
            }
            true
        }
        "lxc.idmap" | "lxc.id_map" | "lxc.rootfs" => true,
        "lxc.mount.entry" => match bind(value) {
            Some(mount) => {
                made.config.mount.push(mount);
                true
            }
            None => false,
        },
        _ => false,
    }
}

fn set<T>(field: &mut T, value: Option<T>) -> bool {
    let is_some = value.is_some();
    value.into_iter().for_each(|value| *field = value);
    is_some
}

/// Bytes, with a suffix of one letter or none; `-1` and `max` are no limit.
fn lxc_size(value: &str) -> Option<Size> {
    let (number, unit) = match value.char_indices().last()? {
        (at, 'K' | 'k') => (&value[..at], 10),
        (at, 'M' | 'm') => (&value[..at], 20),
        (at, 'G' | 'g') => (&value[..at], 30),
        _ => (value, 0),
    };
    Some(Size::from_bytes(number.parse::<u64>().ok()?.checked_mul(1 << unit)?))
}

/// `/srv/www var/www none bind,ro,create=dir 0 0`
fn bind(value: &str) -> Option<Mount> {
    let fields: Vec<&str> = value.split_whitespace().collect();
    let (&source, &target, options) = (fields.first()?, fields.get(1)?, fields.get(3).copied().unwrap_or(""));
    let options: Vec<&str> = options.split(',').collect();
    let is_bind = options.contains(&"bind") || options.contains(&"rbind");
    let target = MountTarget::try_from(Path::new("/").join(target).as_path()).ok()?;
    (is_bind && source.starts_with('/')).then(|| Mount {
        read_only: options.contains(&"ro"),
        optional: options.contains(&"optional"),
        recursive: options.contains(&"rbind"),
        idmap: if options.contains(&"idmap=container") { MountIds::Guest } else { MountIds::None },
        ..Mount::new(source, target)
    })
}

#[derive(Default)]
struct Interface {
    name: Option<String>,
    kind: String,
    link: String,
    network: Network,
}

impl Interface {
    fn set(&mut self, setting: &str, value: &str) -> bool {
        match setting {
            "type" => self.kind = value.to_owned(),
            "link" => self.link = value.to_owned(),
            "name" => self.name = Some(value.to_owned()),
            "hwaddr" => self.network.mac = Some(value.to_owned()),
            "mtu" => return set(&mut self.network.mtu, value.parse().ok().map(Some)),
            "vlan.id" => return set(&mut self.network.vlan, value.parse().ok().map(Some)),
            "ipv4.address" | "ipv6.address" => {
                // A broadcast address may follow.
                let address = value.split_whitespace().next().unwrap_or_default();
                let address = if address.contains('/') { address.to_owned() } else { format!("{address}/24") };
                let Ok(address) = address.parse::<Address>() else { return false };
                *(if setting.starts_with("ipv4") { &mut self.network.ipv4 } else { &mut self.network.ipv6 }) = address;
            }
            "ipv4.gateway" | "ipv6.gateway" => match value.parse() {
                Ok(gateway) => self.network.gateway.push(gateway),
                Err(_) => return false,
            },
            "flags" | "veth.pair" | "veth.mode" | "macvlan.mode" => {}
            _ => return false,
        }
        true
    }

    fn network(mut self, notes: &mut Vec<String>) -> Network {
        self.network.kind = match self.kind.as_str() {
            "veth" => NetworkType::Veth,
            "macvlan" => NetworkType::Macvlan,
            "ipvlan" => NetworkType::Ipvlan,
            "phys" => NetworkType::Physical,
            "none" => NetworkType::Host,
            _ => NetworkType::None,
        };
        match self.network.kind {
            NetworkType::Veth if foreign::link_exists(&self.link) => self.network.bridge = Some(self.link),
            NetworkType::Veth => {
                notes.push(format!("this host has no bridge `{}`: it is on the default one", self.link))
            }
            NetworkType::Macvlan | NetworkType::Ipvlan | NetworkType::Physical => self.network.parent = Some(self.link),
            NetworkType::Host | NetworkType::None => return Network { kind: self.network.kind, ..Network::default() },
        }
        self.network
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
# Template used to create this container
lxc.include = /usr/share/lxc/config/debian.common.conf
lxc.arch = amd64
lxc.uts.name = web
lxc.rootfs.path = dir:/var/lib/lxc/web/rootfs
lxc.net.0.type = veth
lxc.net.0.link = no-such-bridge0
lxc.net.0.flags = up
lxc.net.0.hwaddr = 00:16:3e:12:34:56
lxc.net.0.ipv4.address = 10.0.3.7/24 10.0.3.255
lxc.net.0.ipv4.gateway = 10.0.3.1
lxc.net.1.type = macvlan
lxc.net.1.link = eth7
lxc.net.1.name = lan0
lxc.idmap = u 0 100000 65536
lxc.idmap = g 0 100000 65536
lxc.cgroup2.memory.max = 512M
lxc.cgroup2.cpu.max = 150000 100000
lxc.cgroup.cpu.shares = 512
lxc.mount.entry = /srv/www var/www none bind,ro,create=dir 0 0
lxc.mount.entry = tmpfs tmp tmpfs defaults 0 0
lxc.environment = LANG=C.UTF-8
lxc.start.auto = 1
lxc.hook.pre-start = /usr/local/bin/hook
"#;

    #[test]
    fn what_has_a_counterpart_is_taken_over_and_the_rest_is_told() {
        let keys = parse(CONFIG);
        let made = translate(&keys).unwrap();
        let config = &made.config;
        assert_eq!(config.limits.memory, Some(Size::from_bytes(512 << 20)));
        assert_eq!((config.limits.cpus, config.limits.cpu_weight), (Some(1.5), Some(50)));
        assert_eq!(config.mount[0].target.as_path(), Path::new("/var/www"));
        assert!(!config.mount[0].recursive, "`bind` alone shows no submounts");
        assert!(config.mount[0].read_only && config.mount.len() == 1);
        assert_eq!(config.environment["LANG"], "C.UTF-8");
        let eth0 = &config.network["eth0"];
        assert_eq!((eth0.mac.as_deref(), eth0.ipv4.to_string().as_str()), (Some("00:16:3e:12:34:56"), "10.0.3.7/24"));
        assert_eq!(config.network["lan0"].parent.as_deref(), Some("eth7"));
        assert_eq!(id_base(&keys), Some(100_000));
        let told = made.notes.join("\n");
        for what in ["lxc.hook.pre-start", "tmpfs tmp", "no-such-bridge0", "lxm enable"] {
            assert!(told.contains(what), "{what} in {told}");
        }
        assert!(!told.contains("lxc.include") && !told.contains("privileged"), "{told}");
        let text = made.text().unwrap();
        assert_eq!(toml::from_str::<crate::config::Config>(&text).unwrap(), *config);
    }
}
