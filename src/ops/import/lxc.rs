//! A container of LXC: its directory with `config` and `rootfs` (lxc.container.conf(5)).

mod devices;
mod include;
mod interface;
mod limits;
mod lines;
mod model;
mod mounts;
mod rows;
mod settings;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use rustix::fs::CWD;

use self::include::ContainerDir;
use self::model::Lxc;
use self::rows::{NET_ROWS, ROWS};
use self::tree::{Rootfs, id_base, id_maps};
use super::foreign;
use super::foreign::Translated;
use super::make::{ContainerParts, Imported, fill_from_tree, make};
use super::options::ImportOptions;
use super::table::{self, Setting};
use crate::config::capability;
use crate::distro::HostKeys;
use crate::error::{Context, Error, Result};
use crate::store::Layout;
use crate::types::ContainerName;

pub(super) fn is_container(dir: &Path) -> bool {
    let has_settings = |text: String| text.lines().any(|line| line.trim_start().starts_with("lxc."));
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
    let text = foreign::settings(&open, Path::new("config")).context(step)?;
    let mut lxc = translate(&text, dir, Some(&ContainerDir { dir: &open, path: dir })).context(step)?;
    lxc.made.with_network(layout, "eth0")?;
    let called = lxc.name.clone().or_else(|| Some(dir.file_name()?.to_str()?.to_owned())).unwrap_or_default();
    let name: ContainerName = match &options.name {
        Some(name) => name.clone(),
        None => called.parse().map_err(|e: Error| e.hint("`-n NAME` gives it another name"))?,
    };
    let rootfs = match tree::rootfs(dir, &mut lxc, options.trust).context(step)? {
        Rootfs::Inside(path) => foreign::open_below(&open, &path),
        Rootfs::Outside(path) => foreign::open(&path),
    };
    let open = rootfs.context(step)?;
    let rootfs = foreign::path_of(&open);
    if rootfs.read_dir().context(step)?.next().is_none() {
        let error = Error::failed("its `rootfs` is empty").hint("mount what its files are on there, then import it");
        return Err(error.step(step()));
    }
    let base = id_base(&lxc.maps).map_or_else(|| foreign::base_of(&rootfs), Ok)?;
    let config_text = lxc.made.text()?;
    let mut notes = std::mem::take(&mut lxc.made.notes);
    let storage = make(layout, &name, options, &mut notes, &mut |root, place| {
        let remarks = fill_from_tree(&rootfs, dir, root, place, base)?;
        foreign::require_init(root, &lxc.made.config)?;
        let config_text = config_text.clone();
        Ok(ContainerParts { config_text, origin: foreign::origin("lxc"), keys: HostKeys::Keep, remarks })
    });
    let storage = storage.context(step)?;
    notes.extend(foreign::hint(layout, &name, &lxc.made.hints)?);
    Ok(Imported { name, storage, notes })
}

/// Reads a configuration, with what it includes where its directory is given.
fn translate(text: &str, dir: &Path, container: Option<&ContainerDir<'_>>) -> Result<Lxc> {
    let included = include::expand(lines::parse(text)?, container)?;
    let mut lxc = read(included.settings, dir)?;
    let told = included.missing.iter().map(|setting| {
        format!(
            "not taken over: `{setting}`: the file is not there, and what it sets is not known: ids, network, limits"
        )
    });
    lxc.made.notes.extend(told);
    keep_only(&mut lxc);
    let notes = limits::finish(&mut lxc);
    lxc.made.notes.extend(notes);
    devices::give(&mut lxc);
    interface::finish(std::mem::take(&mut lxc.interfaces), &mut lxc.made)?;
    id_maps(&lxc.maps, included.missing.is_empty(), &mut lxc.made);
    Ok(lxc)
}

/// Reads the settings in force of a configuration. `dir` is where the container is.
fn read(settings: Vec<Setting>, dir: &Path) -> Result<Lxc> {
    let settings = lines::in_force(lines::renamed(settings));
    let mut lxc = Lxc {
        made: Translated::new()?,
        name: None,
        rootfs: String::new(),
        backend: String::new(),
        maps: Vec::new(),
        roots: vec![dir.join("rootfs")],
        kept: Vec::new(),
        wanted: Vec::new(),
        rules: Vec::new(),
        quota: None,
        period: None,
        memory_and_swap: None,
        interfaces: BTreeMap::new(),
    };
    // Targets of mounts are read by where the files are.
    let (first, rest): (Vec<_>, Vec<_>) =
        settings.into_iter().partition(|setting| setting.key.starts_with("lxc.rootfs."));
    for setting in first.into_iter().chain(rest) {
        let note = match lines::interface(&setting.key) {
            Some((number, name)) => {
                let interface = lxc.interfaces.entry(number).or_default();
                let setting = Setting { key: name.to_owned(), ..setting };
                table::take(NET_ROWS, interface, &setting)
            }
            None => table::take(ROWS, &mut lxc, &setting),
        };
        lxc.made.notes.extend(note);
    }
    Ok(lxc)
}

/// Drops all capabilities but those that `lxc.cap.keep` names, if it names any.
fn keep_only(lxc: &mut Lxc) {
    if lxc.kept.is_empty() {
        return;
    }
    let kept: Vec<_> = lxc.kept.iter().filter_map(|name| capability(name)).collect();
    let mut others: Vec<_> = caps::all().into_iter().filter(|capability| !kept.contains(capability)).collect();
    others.sort_by_key(|capability| capability.index());
    let name = |capability: &caps::Capability| capability.to_string().to_lowercase().replace("cap_", "");
    lxc.made.config.security.capabilities_drop = others.iter().map(name).collect();
}

/// Reads a configuration whose directory is not there.
#[cfg(any(test, fuzzing))]
pub(super) fn translated(text: &str) -> Result<Translated> {
    translate(text, Path::new("/var/lib/lxc/web"), None).map(|lxc| lxc.made)
}

/// The tables as docs/IMPORT.md has them.
#[cfg(test)]
pub(super) fn document() -> [String; 2] {
    use super::table::document;
    [document(ROWS, ""), document(NET_ROWS, "lxc.net.N.")]
}

/// Whether a table has a row for `key`, as it is said in a file.
#[cfg(test)]
pub(super) fn knows(key: &str) -> bool {
    use super::table::find;
    let setting = lines::parse(&format!("{key} = 1")).unwrap();
    let key = lines::renamed(setting)[0].key.clone();
    match lines::interface(&key) {
        Some((_, name)) => find(NET_ROWS, name).is_some(),
        None => find(ROWS, &key).is_some_and(|row| row.keys.split(' ').all(|name| name != "lxc.net.*")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NetworkType;
    use crate::types::Size;

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
lxc.environment = "A=b c=d"
lxc.start.auto = 1
lxc.hook.pre-start = /usr/local/bin/hook
lxc.apparmor.profile = unconfined
lxc.mount.auto = proc:rw sys:mixed
lxc.include = /usr/share/lxc/config/nesting.conf
lxc.arch = sparc
"#;

    fn told(text: &str) -> String {
        translated(text).unwrap().notes.join("\n")
    }

    #[test]
    fn what_has_a_counterpart_is_taken_over_the_rest_is_reported() {
        let lxc = translate(CONFIG, Path::new("/var/lib/lxc/web"), None).unwrap();
        let (made, config) = (&lxc.made, &lxc.made.config);
        assert_eq!(config.limits.memory, Some(Size::from_bytes(512 << 20)));
        assert_eq!((config.limits.cpus, config.limits.cpu_weight), (Some(1.5), Some(50)));
        assert_eq!(config.mount[0].target.as_path(), Path::new("/var/www"));
        assert!(!config.mount[0].recursive, "`bind` alone shows no submounts");
        assert!(config.mount[0].read_only && config.mount.len() == 1);
        assert_eq!((config.environment["LANG"].as_str(), config.environment["A"].as_str()), ("C.UTF-8", "b c=d"));
        let eth0 = &config.network["eth0"];
        assert_eq!(eth0.bridge.as_deref(), Some("no-such-bridge0"));
        assert_eq!((eth0.mac.as_deref(), eth0.ipv4.to_string().as_str()), (Some("00:16:3e:12:34:56"), "10.0.3.7/24"));
        assert_eq!(config.network["lan0"].parent.as_deref(), Some("eth7"));
        assert_eq!((id_base(&lxc.maps), lxc.name.as_deref()), (Some(100_000), Some("web")));
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
        let made = translated("lxc.utsname = a\nlxc.network.type = empty\nlxc.network.flags = up\n").unwrap();
        assert!(made.says_network);
        assert_eq!(made.config.network["eth0"].kind, NetworkType::None);
        let text = "lxc.network.type = veth\nlxc.network.link = br1\nlxc.network.ipv4 = 10.0.3.7/24\nlxc.network.type = none\n";
        let made = translated(text).unwrap();
        let networks = &made.config.network;
        assert_eq!((networks.len(), networks["eth0"].bridge.as_deref()), (1, Some("br1")));
        assert_eq!(networks["eth0"].ipv4.to_string(), "10.0.3.7/24");
    }

    #[test]
    fn who_had_no_network_gets_none() {
        for text in [
            "lxc.arch = amd64",
            "lxc.net.0.type = empty",
            "lxc.net.0.type = veth",
            "lxc.net.0.type = veth\nlxc.net.0.link = br1\nlxc.net =",
            "lxc.net.0.type = veth\nlxc.net.0.link = br1\nlxc.net.0.veth.mode = router",
            "lxc.net.0.type = veth\nlxc.net.0.link = br1\nlxc.net.0.veth.vlan.id = none",
            "lxc.net.0.type = macvlan",
            "lxc.net.0.type = vlan\nlxc.net.0.link = eth1",
            "lxc.net.0.type = tunnel\nlxc.net.0.link = br1",
            "lxc.include = /no/such/file",
        ] {
            let networks = translated(text).unwrap().config.network;
            assert_eq!((networks.len(), networks["eth0"].kind), (1, NetworkType::None), "{text}");
        }
        let host = translated("lxc.net.0.type = none").unwrap().config.network;
        assert_eq!((host.len(), host["eth0"].kind), (1, NetworkType::Host));
    }

    #[test]
    fn interfaces_are_named_and_addressed_as_lxc_does() {
        let text = "lxc.net.0.type = phys\nlxc.net.0.link = eth7\nlxc.net.3.type = veth\nlxc.net.3.link = br1\nlxc.net.3.name = eth0\n\
                    lxc.net.3.hwaddr = 00:16:3E:xx:xx:Xx\nlxc.net.3.ipv4.address = 172.16.0.7\nlxc.net.3.ipv6.address = fd00::7\n\
                    lxc.net.3.ipv4.gateway = 172.16.0.1\nlxc.net.5.type = vlan\nlxc.net.5.link = eth8\nlxc.net.5.vlan.id = 9\n";
        let networks = translated(text).unwrap().config.network;
        assert_eq!(networks["eth1"].parent.as_deref(), Some("eth7"));
        assert_eq!((networks["eth2"].kind, networks["eth2"].vlan), (NetworkType::Physical, Some(9)));
        let eth0 = &networks["eth0"];
        assert_eq!((eth0.ipv4.to_string().as_str(), eth0.ipv6.to_string().as_str()), ("172.16.0.7/16", "fd00::7/64"));
        assert_eq!(eth0.gateway.len(), 1);
        assert!(eth0.mac.as_deref().unwrap().starts_with("00:16:3e:"), "{eth0:?}");
        for (address, seen) in
            [("10.0.0.1", "10.0.0.1/8"), ("192.168.0.1", "192.168.0.1/24"), ("10.1.1.1/30", "10.1.1.1/30")]
        {
            let text = format!("lxc.net.0.type = veth\nlxc.net.0.link = br1\nlxc.net.0.ipv4.address = {address}");
            assert_eq!(translated(&text).unwrap().config.network["eth0"].ipv4.to_string(), seen);
        }
    }

    #[test]
    fn what_is_not_read_is_reported() {
        let text = "lxc.include = /root/mine.conf\nlxc.cgroup.devices.allow = c 240:200 rwm\nlxc.net.0.type = veth\nlxc.net.0.link = br1\n\
                    lxc.net.0.ipv4.address = 10.0.3.7/24\nlxc.net.0.ipv4.address = 10.0.3.8/24\n\
                    lxc.net.0.hwaddr = 00:16:3e:zz:xx:xx\nlxc.net.0.type.x = y\nlxc.cap.drop = flying\n";
        let told = told(text);
        for what in ["/root/mine.conf", "240:200", "10.0.3.8/24", "zz:xx", "type.x", "flying"] {
            assert!(told.contains(what), "{what} in {told}");
        }
        assert!(!told.contains("privileged"), "{told}");
    }

    #[test]
    fn capabilities_are_those_that_it_had() {
        let drop = |text: &str| translated(text).unwrap().config.security.capabilities_drop;
        assert_eq!(drop("lxc.cap.drop = mac_admin sys_nice\nlxc.cap.drop = sys_nice"), ["mac_admin", "sys_nice"]);
        assert!(drop("lxc.include = /usr/share/lxc/config/debian.common.conf").is_empty());
        let alpine = drop("lxc.include = /usr/share/lxc/config/alpine.common.conf");
        assert!(alpine.contains(&"mknod".to_owned()) && !alpine.contains(&"sys_rawio".to_owned()), "{alpine:?}");
        let both = "lxc.include = /usr/share/lxc/config/alpine.common.conf\nlxc.include = /usr/share/lxc/config/alpine.userns.conf";
        assert!(drop(both).is_empty());
        let others = drop("lxc.cap.keep = chown setuid");
        assert!(others.contains(&"sys_admin".to_owned()) && !others.contains(&"chown".to_owned()), "{others:?}");
        assert!(drop("lxc.cap.keep = none").contains(&"chown".to_owned()));
    }

    #[test]
    fn ids_mapped_otherwise_here_are_reported() {
        let none = "lxc.net.0.type = empty\n";
        let told = |text: &str| told(&format!("{none}{text}"));
        let usual = "lxc.include = /usr/share/lxc/config/debian.userns.conf\nlxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\n";
        assert_eq!(told(usual), "");
        assert!(told("lxc.include = /usr/share/lxc/config/debian.common.conf\n").contains("privileged"));
        let own = told("lxc.idmap = u 0 0 65536\nlxc.idmap = g 0 0 65536\n");
        assert!(own.contains("the host's own") && own.contains("u 0 0 65536"), "{own}");
        for map in ["u 1000 1000 1", "g 0 200000 65536", "b 0 1 2 3", "g 0 100000 1000000"] {
            let other = told(&format!("lxc.idmap = u 0 100000 65536\nlxc.idmap = {map}\n"));
            assert!(other.contains(map), "{map} in {other}");
        }
    }

    #[test]
    fn included_files_are_read_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        std::fs::create_dir(path.join("more.d")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(path.join(name), text).unwrap();
        write("own.conf", "lxc.environment = A=1\nsecret line\nlxc.include = more.d\n");
        write("more.d/b.conf", "lxc.environment = B=2\n");
        write("more.d/ignored", "lxc.environment = C=3\n");
        write("fstab", "# a comment\n/srv mnt none bind 0 0\nroot:$y$secret:1::\n");
        write("circle", "lxc.include = circle\n");
        std::os::unix::fs::symlink("/etc/passwd", path.join("out.conf")).unwrap();
        let open = foreign::open(path).unwrap();
        let read = |text: &str| translate(text, path, Some(&ContainerDir { dir: &open, path }));
        let own = format!("lxc.include = {}\nlxc.mount.fstab = fstab\n", path.join("own.conf").display());
        let made = read(&own).unwrap().made;
        let environment: Vec<_> = made.config.environment.keys().map(String::as_str).collect();
        assert_eq!((environment, made.config.mount.len()), (vec!["A", "B"], 1));
        let notes = made.notes.join("");
        assert!(!notes.contains("secret") && notes.contains("fstab, line 3"), "{notes}");
        assert!(read("lxc.mount.fstab = more.d").err().is_some_and(|e| e.to_string().contains("regular")));
        assert!(read("lxc.include = circle").is_err());
        assert!(read("lxc.include = out.conf").is_err(), "a link leads out of the directory");
        let missing = read("lxc.include = /no/such/file\nlxc.include = /no/such/dir/").unwrap().made.notes.join("\n");
        assert!(missing.contains("/no/such/file") && !missing.contains("/no/such/dir"), "{missing}");
    }
}
