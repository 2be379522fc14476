//! Settings that a file can hold and no container can be started with.
//!
//! An earlier lxm or another program wrote them. They are read, so that they can be shown, changed and unset;
//! to write one anew is refused, and so is a start with one.

use super::key_path::is_element_name;
use super::{Address, Config, IdMap, KeyPath, Network, Security, is_interface_name, is_link_name, words};
use crate::error::Error;
use crate::types::{IdRange, Mac, Rate};

/// One below PID_MAX_LIMIT: the kernel refuses a limit above, and one more is set for what attaches.
const MOST_PIDS: u64 = (4 << 20) - 1;

/// A setting, and why it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    pub key: KeyPath,
    pub why: String,
}

impl Unfit {
    /// The setting, or the whole element of a list that it is part of and means nothing without.
    pub fn element(&self) -> KeyPath {
        self.key.element()
    }

    pub fn error(&self) -> Error {
        Error::config(format!("`{}`: {}", self.key, self.why))
    }

    /// As [`Self::error`], for who has just written it.
    pub fn refusal(&self) -> Error {
        match words::takes(&self.key) {
            Some(takes) => self.error().hint(format!("`{}` takes {takes}", self.key)),
            None => self.error(),
        }
    }
}

impl Config {
    /// The settings that cannot be as they are.
    pub fn unfit(&self) -> Vec<Unfit> {
        let mut found = Vec::new();
        let mut add = |key: &[&str], why: Option<String>| {
            found.extend(why.map(|why| Unfit { key: KeyPath::of(key.iter().copied()), why }));
        };
        let init = self.boot.init.as_deref().filter(|init| !init.is_absolute());
        add(&["boot", "init"], init.map(|init| format!("`{}` does not begin with `/`", init.display())));
        let uuid = Some(&self.uuid).filter(|uuid| !uuid.is_empty() && !is_uuid(uuid));
        add(&["uuid"], uuid.map(|uuid| format!("`{}` is none", uuid.escape_default())));
        let security = &self.security;
        for (key, names) in
            [("capabilities-add", &security.capabilities_add), ("capabilities-drop", &security.capabilities_drop)]
        {
            for (at, name) in names.iter().enumerate() {
                let unknown = capability(name).is_none().then(|| format!("`{name}` is not a capability"));
                add(&["security", key, &at.to_string()], unknown);
            }
        }
        add(&["security", "id-range-size"], id_range_size(security));
        let limits = &self.limits;
        let cpuset = limits.cpuset.as_deref().filter(|list| !is_cpu_list(list));
        add(&["limits", "cpuset"], cpuset.map(|list| format!("`{list}` is no list of CPUs such as `0-3,8`")));
        add(&["limits", "pids"], (limits.pids == 0).then(|| "must be at least 1: with 0 init cannot run".to_owned()));
        add(
            &["limits", "pids"],
            (limits.pids > MOST_PIDS).then(|| format!("must be at most {MOST_PIDS}, as many as the kernel has")),
        );
        let memory = limits.memory.filter(|memory| memory.bytes() < LEAST_MEMORY);
        add(&["limits", "memory"], memory.map(|memory| format!("`{memory}` is too small to start the container")));
        add(&["version"], (self.version != 1).then(|| format!("this lxm does not know version {}", self.version)));
        for (name, network) in &self.network {
            let why = || format!("`{}` cannot be the name of an interface", name.escape_default());
            add(&["network", name], (!is_interface_name(name)).then(why));
            interface(network).into_iter().for_each(|(key, why)| add(&["network", name, key], Some(why)));
        }
        for (at, device) in self.device.iter().enumerate() {
            let path = Some(&device.path).filter(|path| !path.is_absolute());
            let path = path.map(|path| format!("`{}` does not begin with `/`", path.display()));
            add(&["device", &at.to_string(), "path"], path);
            let is_mode = |mode: &str| u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o777);
            let mode = device.mode.as_deref().filter(|mode| !is_mode(mode));
            add(&["device", &at.to_string(), "mode"], mode.map(|mode| format!("`{mode}` is not an octal mode")));
        }
        self.names().into_iter().for_each(|(list, at, why)| add(&[list, &at.to_string(), "name"], Some(why)));
        for (at, mount) in self.mount.iter().enumerate() {
            add(&["mount", &at.to_string(), "target"], mount.target.refusal());
        }
        for (name, value) in &self.environment {
            add(&["environment", name], variable(name, value).map(str::to_owned));
        }
        found
    }

    /// The names of mounts and devices that cannot be: the list, the place in it, and why.
    fn names(&self) -> Vec<(&'static str, usize, String)> {
        let mounts: Vec<_> = self.mount.iter().map(|mount| mount.name.as_deref()).collect();
        let devices: Vec<_> = self.device.iter().map(|device| device.name.as_deref()).collect();
        let mut found = Vec::new();
        for (list, names) in [("mount", mounts), ("device", devices)] {
            for (at, name) in names.iter().enumerate().filter_map(|(at, name)| Some((at, (*name)?))) {
                if !is_element_name(name) {
                    found.push((list, at, format!("`{}` is no such name", name.escape_default())));
                } else if names[..at].contains(&Some(name)) {
                    found.push((list, at, format!("another is called `{name}`")));
                }
            }
        }
        found
    }

    /// What cannot be and was not so in `old`: who changes another setting need not mend it first.
    pub fn newly_unfit(&self, old: &Config) -> Option<Unfit> {
        let before = old.unfit();
        // By what is wrong: an element's place changes with those before it.
        self.unfit().into_iter().find(|unfit| before.iter().all(|before| before.why != unfit.why))
    }
}

/// The keys of an interface that cannot be as they are, whatever its type.
fn interface(network: &Network) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut add = |key, why: Option<String>| found.extend(why.map(|why| (key, why)));
    for (key, link) in [("bridge", &network.bridge), ("parent", &network.parent)] {
        let link = link.as_deref().filter(|link| !is_link_name(link));
        add(key, link.map(|link| format!("`{}` is not the name of a link", link.escape_default())));
    }
    let is_mac = |mac: &&str| mac.parse::<Mac>().is_ok_and(|mac| mac.is_unicast());
    let mac = network.mac.as_deref().filter(|mac| !is_mac(mac));
    add("mac", mac.map(|mac| format!("`{}` is not a unicast MAC address", mac.escape_default())));
    for (key, address, six) in [("ipv4", network.ipv4, false), ("ipv6", network.ipv6, true)] {
        let given = match address {
            Address::Static(given) => Some(given.ip()),
            Address::Reserved(given) => Some(given),
            Address::None | Address::Dhcp | Address::Auto => None,
        };
        let other = given.filter(|given| given.is_ipv6() != six);
        add(key, other.map(|given| format!("`{given}` is an address of the other family")));
    }
    let vlan = network.vlan.filter(|vlan| !(1..=4094).contains(vlan));
    add("vlan", vlan.map(|vlan| format!("{vlan} is out of range: 1 to 4094")));
    let mtu = network.mtu.filter(|mtu| !(68..=65_535).contains(mtu));
    add("mtu", mtu.map(|mtu| format!("{mtu} is out of range: 68 to 65535, and at least 1280 for IPv6")));
    for (key, rate) in [("ingress", &network.ingress), ("egress", &network.egress)] {
        let rate = rate.as_deref().filter(|rate| rate.parse::<Rate>().is_err());
        add(key, rate.map(|rate| format!("`{}` is not a rate", rate.escape_default())));
    }
    found
}

/// Well below what a start takes: with 100 KiB its first process is killed before the guest's init runs,
/// which a trial holds (`verbs::a_limit_that_was_too_low_is_forgotten`).
const LEAST_MEMORY: u64 = 64 << 10;

/// Why a container cannot have so many ids, if so.
fn id_range_size(security: &Security) -> Option<String> {
    let size = security.id_range_size?;
    let (least, most) = (IdRange::LEN, IdRange::ALL.len);
    match security.idmap {
        _ if !(least..=most).contains(&size) => Some(format!("{size} is not within {least} and {most}")),
        IdMap::Fixed(range) if range.len != size => {
            Some(format!("{size} is not the length of `security.idmap`, {range}: unset one of them"))
        }
        _ => None,
    }
}

/// The form of RFC 9562, which machined and a guest's systemd read.
fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// The capability that a name means: `sys_time`, `SYS_TIME` or `CAP_SYS_TIME`.
pub(crate) fn capability(name: &str) -> Option<caps::Capability> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    full.parse().ok()
}

/// Roughly what the kernel takes (bitmap_parselist); it refuses CPUs that are not there itself.
fn is_cpu_list(list: &str) -> bool {
    let is_part = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
    list.is_empty()
        || list
            .split(',')
            .map(str::trim)
            .all(|part| is_part(part) && part.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | '/')))
}

/// Why execve(2) could not give such a variable to a program, if so.
fn variable(name: &str, value: &str) -> Option<&'static str> {
    match () {
        () if name.is_empty() => Some("a variable needs a name"),
        () if name.contains('=') => Some("the name of a variable cannot have a `=`"),
        () if name.contains('\0') || value.contains('\0') => Some("a variable cannot have a NUL in it"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Document, KeyPath};

    #[test]
    fn every_setting_that_no_start_takes_is_named_and_no_other() {
        let unfit = |text: &str| {
            let config: crate::config::Config = toml::from_str(text).unwrap();
            config.unfit().iter().map(|unfit| unfit.key.to_string()).collect::<Vec<_>>()
        };
        for (text, key) in [
            ("uuid = '{2f1b1c62}'", "uuid"),
            ("boot.init = 'sbin/init'", "boot.init"),
            ("security.capabilities-add = ['sys_time', 'all']", "security.capabilities-add.1"),
            ("security.capabilities-drop = ['']", "security.capabilities-drop.0"),
            ("security.id-range-size = 65535", "security.id-range-size"),
            ("security.id-range-size = 4294967295", "security.id-range-size"),
            ("security = { id-range-size = 131072, idmap = '600000:65536' }", "security.id-range-size"),
            ("limits.cpuset = 'foo'", "limits.cpuset"),
            ("limits.cpuset = '0,,1'", "limits.cpuset"),
            ("limits.pids = 0", "limits.pids"),
            ("limits.pids = 4194304", "limits.pids"),
            ("limits.memory = '0'", "limits.memory"),
            ("limits.memory = '1KiB'", "limits.memory"),
            ("network.lo.type = 'none'", "network.lo"),
            ("network.all.type = 'none'", "network.all"),
            ("network.default.type = 'none'", "network.default"),
            ("network.'../../x'.type = 'none'", "network.\"../../x\""),
            ("network.abcdefghijklmnop.type = 'none'", "network.abcdefghijklmnop"),
            ("network.eth0.bridge = 'a b'", "network.eth0.bridge"),
            ("network.eth0.mac = 'x'", "network.eth0.mac"),
            ("network.eth0.mac = 'ff:ff:ff:ff:ff:ff'", "network.eth0.mac"),
            ("network.eth0 = {type = 'none', vlan = 9999}", "network.eth0.vlan"),
            ("network.eth0 = {type = 'none', mtu = 5}", "network.eth0.mtu"),
            ("network.eth0.ipv4 = '::1'", "network.eth0.ipv4"),
            ("network.eth0.ipv6 = '10.1.1.1'", "network.eth0.ipv6"),
            ("network.eth0.ingress = 'foo'", "network.eth0.ingress"),
            ("network.eth0.egress = '5'", "network.eth0.egress"),
            ("device = [{path = 'ttyS0'}]", "device.0.path"),
            ("device = [{path = '/dev/ttyS0', mode = '99'}]", "device.0.mode"),
            ("version = 2", "version"),
            ("network.eth0.parent = \"a\\nb\"", "network.eth0.parent"),
            ("environment.'' = 'x'", "environment.\"\""),
            ("environment.'A=B' = 'x'", "environment.\"A=B\""),
            ("environment.A = \"x\\u0000\"", "environment.A"),
        ] {
            assert_eq!(unfit(text), [key], "{text}");
        }
        let fit = "boot.init = '/sbin/init'\nlimits.cpuset = '0-3, 8'\nlimits.pids = 1\nlimits.memory = '64KiB'\nenvironment.A = 'b=c'\n\
                   security.capabilities-add = ['sys_time', 'SYS_TIME', 'CAP_SYS_TIME']\nsecurity.id-range-size = 1000000000";
        assert!(unfit(fit).is_empty());
    }

    #[test]
    fn what_is_unfit_can_be_unset_by_the_reported_name() {
        for (text, other) in [
            ("[limits]\nmemory = '0'\npids = 7", "limits.pids"),
            ("[network.'../../x']\ntype = 'none'\n[network.eth0]\ntype = 'none'", "network.eth0.type"),
            ("[network.'a.b c']\ntype = 'none'\n[network.eth0]\ntype = 'none'", "network.eth0.type"),
            ("[environment]\n'A=B' = 'x'\n'' = 'y'\nC = 'z'", "environment.C"),
        ] {
            let mut document = Document::parse(&format!("version = 1\n{text}"), Path::new("f")).unwrap();
            assert!(!document.config().unfit().is_empty(), "{text}");
            while let Some(unfit) = document.config().unfit().first() {
                let told: KeyPath = unfit.element().to_string().parse().unwrap();
                assert!(document.unset(&told).unwrap(), "{told}");
            }
            assert!(document.get(&other.parse().unwrap()).unwrap().is_some(), "{text}");
        }
    }

    const OLD: &str = "version = 1\n[[mount]]\nsource = \"/a\"\ntarget = \"/a\"\n[[mount]]\nsource = \"/b\"\ntarget = ";

    #[test]
    fn what_an_earlier_lxm_took_can_be_read_and_mended() {
        let key = |text: &str| text.parse::<KeyPath>().unwrap();
        let target = key("mount.1.target");
        for (old, written) in
            [("/run", "/run"), ("srv", "srv"), ("/proc/sys", "/proc/sys"), ("/x/../proc", "/x/../proc")]
        {
            let document = Document::parse(&format!("{OLD}\"{old}\"\n"), Path::new("f")).unwrap();
            assert_eq!(document.get(&target).unwrap().unwrap().as_str(), Some(written));
            let unfit = document.config().unfit();
            assert_eq!((unfit.len(), unfit[0].key.to_string().as_str()), (1, "mount.1.target"));
            let mut other = document.clone();
            other.set([(&key("description"), "mine")]).unwrap();
            assert_eq!(other.config().unfit(), unfit);
            let mut mended = document.clone();
            mended.set([(&target, "/srv")]).unwrap();
            assert!(mended.config().unfit().is_empty());
            let mut gone = document.clone();
            assert!(gone.unset(&key("mount.0")).unwrap() && gone.unset(&key("mount.0")).unwrap());
            assert!(gone.config().mount.is_empty());
            let refused = mended.set([(&target, "/dev")]).unwrap_err();
            assert!(refused.to_string().contains("mount.1.target") && refused.kind().exit_status() == 6, "{refused}");
            assert!(mended.config().unfit().is_empty());
        }
    }
}
