//! A container of LXC: its directory with `config` and `rootfs` (lxc.container.conf(5)).

mod interface;
mod keys;
mod silent;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use rustix::fs::CWD;

use self::interface::LxcInterface;
use self::keys::{set, value};
use self::silent::is_default;
use self::tree::{Rootfs, id_base, id_maps};
use super::foreign::{self, Translated};
use super::make::{ContainerParts, ImportOptions, Imported, fill_from_tree, make};
use crate::config::{Limits, Mount, MountIds, MountTarget, range};
use crate::distro::HostKeys;
use crate::error::{Context, Error, Result};
use crate::store::Layout;
use crate::types::{ContainerName, Size};

pub(super) fn is_container(dir: &Path) -> bool {
    let has_settings = |text: String| text.lines().any(|line| line.starts_with("lxc."));
    match foreign::settings(CWD, &dir.join("config")) {
        Ok(text) => has_settings(text),
        // It cannot be read, which the import then says; but a tree has no `config` beside a `rootfs`.
        Err(e) => e.errno() != Some(libc::ENOENT) && dir.join("rootfs").symlink_metadata().is_ok(),
    }
}

/// Makes a container of the one in `dir`, which stays as it is and must not run.
pub(super) fn import(layout: &Layout, dir: &Path, options: &ImportOptions) -> Result<Imported> {
    let step = || format!("import `{}`", dir.display());
    let open = foreign::open(dir).context(step)?;
    let keys = parse(&foreign::settings(&open, Path::new("config")).context(step)?);
    let mut translated = translate(&keys)?;
    translated.with_network(layout)?;
    let called = value(&keys, "lxc.uts.name").or_else(|| value(&keys, "lxc.utsname")).map(str::to_owned);
    let called = called.or_else(|| Some(dir.file_name()?.to_str()?.to_owned())).unwrap_or_default();
    let name: ContainerName = match &options.name {
        Some(name) => name.clone(),
        None => called.parse().map_err(|e: Error| e.hint("`-n NAME` gives it another name"))?,
    };
    let mut notes = std::mem::take(&mut translated.notes);
    let rootfs = match tree::rootfs(dir, &keys, options.trust, &mut notes).context(step)? {
        Rootfs::Inside(path) => foreign::open_below(&open, &path),
        Rootfs::Outside(path) => foreign::open(&path),
    };
    let open = rootfs.context(step)?;
    let rootfs = foreign::path_of(&open);
    if rootfs.read_dir().context(step)?.next().is_none() {
        let error = Error::failed("its `rootfs` is empty").hint("mount what its files are on there, then import it");
        return Err(error.step(step()));
    }
    let base = id_base(&keys).map_or_else(|| foreign::base_of(&rootfs), Ok)?;
    let text = translated.text()?;
    let storage = make(layout, &name, options, &mut notes, &mut |root, place| {
        fill_from_tree(&rootfs, dir, root, place, base)?;
        let config_text = text.clone();
        Ok(ContainerParts { config_text, origin: foreign::origin("lxc"), keys: HostKeys::Keep })
    });
    Ok(Imported { name, storage: storage.context(step)?, notes })
}

pub(super) fn parse(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
        .collect()
}

pub(super) fn translate(keys: &[(String, String)]) -> Result<Translated> {
    let mut made = Translated::new()?;
    let mut interfaces: BTreeMap<String, LxcInterface> = BTreeMap::new();
    // LXC 1 and 2 number interfaces by their order: each begins with its type.
    let mut old = 0;
    for (key, value) in keys {
        made.says_network |= key.starts_with("lxc.net");
        if let Some(setting) = key.strip_prefix("lxc.network.") {
            old += usize::from(setting == "type");
            let setting = match setting {
                "ipv4" | "ipv6" => format!("{setting}.address"),
                other => other.to_owned(),
            };
            if !interfaces.entry(old.saturating_sub(1).to_string()).or_default().set(&setting, value) {
                made.left_out(&format!("{key} = {value}"));
            }
            continue;
        }
        if let Some((number, setting)) = key.strip_prefix("lxc.net.").and_then(|rest| rest.split_once('.')) {
            if !interfaces.entry(number.to_owned()).or_default().set(setting, value) {
                made.left_out(&format!("{key} = {value}"));
            }
            continue;
        }
        if !is_default(key, value) && !one(&mut made, key, value) {
            made.left_out(&format!("{key} = {value}"));
        }
    }
    for (number, interface) in interfaces {
        let name = interface.name.clone().unwrap_or_else(|| format!("eth{number}"));
        let network = interface.network(&mut made.notes)?;
        made.config.network.insert(name, network);
    }
    // What another file maps is not known; the files of LXC's own map nothing.
    let others = keys.iter().any(|(key, value)| key == "lxc.include" && !is_default(key, value));
    id_maps(keys, others, &mut made);
    Ok(made)
}

/// Takes over one key; returns whether it could.
fn one(made: &mut Translated, key: &str, value: &str) -> bool {
    // What may be spent of a controller is named alike for both versions.
    if let Some(control) = key.strip_prefix("lxc.cgroup2.").or_else(|| key.strip_prefix("lxc.cgroup.")) {
        return limit(&mut made.config.limits, control, value);
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
        "lxc.idmap" | "lxc.id_map" => true,
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

/// Takes over one limit of a control group; returns whether it could.
fn limit(limits: &mut Limits, control: &str, value: &str) -> bool {
    match control {
        "memory.max" | "memory.limit_in_bytes" => set(&mut limits.memory, lxc_size(value).map(Some)),
        "memory.high" => set(&mut limits.memory_high, lxc_size(value).map(Some)),
        "memory.swap.max" => set(&mut limits.swap, lxc_size(value).map(Some)),
        "pids.max" => set(&mut limits.pids, value.parse().ok()),
        "cpuset.cpus" => set(&mut limits.cpuset, Some(Some(value.to_owned()))),
        "cpu.weight" => {
            let weight = value.parse().ok().filter(|weight| range::WEIGHT.contains(weight));
            set(&mut limits.cpu_weight, weight.map(Some))
        }
        "cpu.shares" => {
            // 1024 shares are a weight of 100.
            let weight =
                value.parse::<u64>().ok().map(|shares| Some((shares.saturating_mul(100) / 1024).clamp(1, 10_000)));
            set(&mut limits.cpu_weight, weight)
        }
        "cpu.max" => {
            let mut fields = value.split_whitespace().map(|field| field.parse::<f64>().ok());
            let (quota, period) = (fields.next().flatten(), fields.next().flatten().unwrap_or(100_000.0));
            let cpus = quota.map(|quota| quota / period).filter(|cpus| range::CPUS.contains(cpus));
            set(&mut limits.cpus, cpus.map(Some))
        }
        // lxm's own list is closed, and holds what LXC's common configuration allows.
        "devices.deny" => true,
        _ => false,
    }
}

/// Bytes, with a suffix of one letter or none; `-1` and `max` are no limit.
fn lxc_size(value: &str) -> Option<Size> {
    let (number, unit) = match value.char_indices().last()? {
        (at, 'K' | 'k') => (&value[..at], 10),
        (at, 'M' | 'm') => (&value[..at], 20),
        (at, 'G' | 'g') => (&value[..at], 30),
        _ => (value, 0),
    };
    let bytes = number.parse::<u64>().ok()?.checked_mul(1 << unit)?;
    (bytes <= Size::MOST).then(|| Size::from_bytes(bytes))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NetworkType;

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
lxc.apparmor.profile = unconfined
lxc.mount.auto = proc:rw sys:mixed
lxc.include = /usr/share/lxc/config/nesting.conf
lxc.arch = sparc
"#;

    #[test]
    fn what_has_a_counterpart_is_taken_over_the_rest_is_reported() {
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
        assert_eq!(eth0.bridge.as_deref(), Some("no-such-bridge0"));
        assert_eq!((eth0.mac.as_deref(), eth0.ipv4.to_string().as_str()), (Some("00:16:3e:12:34:56"), "10.0.3.7/24"));
        assert_eq!(config.network["lan0"].parent.as_deref(), Some("eth7"));
        assert_eq!(id_base(&keys), Some(100_000));
        let told = made.notes.join("\n");
        for what in ["lxc.hook.pre-start", "tmpfs tmp", "lxm enable", "unconfined", "proc:rw", "nesting.conf", "sparc"]
        {
            assert!(told.contains(what), "{what} in {told}");
        }
        assert!(!told.contains("common.conf") && !told.contains("privileged"), "{told}");
        let text = made.text().unwrap();
        assert_eq!(toml::from_str::<crate::config::Config>(&text).unwrap(), *config);
    }

    #[test]
    fn keys_of_older_versions_keep_it_as_isolated_as_it_was() {
        let made = translate(&parse("lxc.utsname = a\nlxc.network.type = empty\nlxc.network.flags = up\n")).unwrap();
        assert!(made.says_network);
        assert_eq!(made.config.network["eth0"].kind, NetworkType::None);
        let text = "lxc.network.type = veth\nlxc.network.link = br1\nlxc.network.ipv4 = 10.0.3.7/24\nlxc.network.type = none\n";
        let made = translate(&parse(text)).unwrap();
        let networks = &made.config.network;
        assert_eq!((networks["eth0"].bridge.as_deref(), networks["eth1"].kind), (Some("br1"), NetworkType::Host));
        assert_eq!(networks["eth0"].ipv4.to_string(), "10.0.3.7/24");
    }

    #[test]
    fn what_is_not_read_is_reported() {
        let text = "lxc.include = /root/mine.conf\nlxc.cgroup.devices.allow = c 10:200 rwm\nlxc.net.0.type = veth\n\
                    lxc.net.0.ipv4.address = 10.0.3.7/24\nlxc.net.0.ipv4.address = 10.0.3.8/24\n\
                    lxc.net.0.hwaddr = 00:16:3e:xx:xx:xx\n";
        let made = translate(&parse(text)).unwrap();
        let told = made.notes.join("\n");
        for what in ["/root/mine.conf", "10:200", "10.0.3.8/24"] {
            assert!(told.contains(what), "{what} in {told}");
        }
        assert!(made.config.network["eth0"].mac.is_some() && !told.contains("privileged"), "{told}");
    }

    #[test]
    fn ids_mapped_otherwise_here_are_reported() {
        let told = |text: &str| translate(&parse(text)).unwrap().notes.join("\n");
        let usual = "lxc.include = /usr/share/lxc/config/debian.userns.conf\nlxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\n";
        assert_eq!(told(usual), "");
        assert!(told("lxc.include = /usr/share/lxc/config/debian.common.conf\n").contains("privileged"));
        let own = told("lxc.idmap = u 0 0 65536\nlxc.idmap = g 0 0 65536\n");
        assert!(own.contains("the host's own") && own.contains("u 0 0 65536"), "{own}");
        for map in ["lxc.idmap = u 1000 1000 1", "lxc.idmap = g 0 200000 65536", "lxc.idmap = b 0 1 2 3"] {
            let other = told(&format!("lxc.idmap = u 0 100000 65536\n{map}\n"));
            assert!(other.contains(map), "{map} in {other}");
        }
    }
}
