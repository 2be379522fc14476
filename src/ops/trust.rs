//! What of a configuration that others wrote gives a guest more than it would have otherwise.
//!
//! Archives, directories and snapshots bring configurations with them, and who makes one chooses what is in
//! it (CVE-2026-34178, CVE-2026-40226, CVE-2026-48751). What gives a guest more than a fresh `lxm create` does, or
//! than it has now, takes an admin's word. Every setting is named: a new one does not compile before.

mod excess;

use std::path::Path;

use excess::{Excess, beyond};

use crate::config::{
    Address, AppArmor, Boot, Config, Device, Document, IdMap, KeyPath, Limits, Mount, Network, NetworkType, Security,
    Snapshots, Storage, Syscalls,
};
use crate::error::Result;
use crate::store::Layout;
use crate::types::ContainerName;

/// What is not in question.
pub(super) struct Base<'a> {
    /// A fresh container's configuration, or the present one's.
    pub config: &'a Config,
    /// The text of the present one.
    pub document: Option<&'a Document>,
    /// How eth0 of a fresh container is wired, where it is compared with one.
    pub fresh: Option<&'a Network>,
}

/// Puts what gives more than `base` back to what it is there; returns what that was.
pub(super) fn restrict(document: &mut Document, base: &Base) -> Result<Vec<String>> {
    let excess = excess(document.config(), base);
    for (key, _) in &excess {
        document.take(key, base.document)?;
    }
    Ok(excess.into_iter().map(|(key, value)| format!("`{key}` ({value})")).collect())
}

/// The text of a configuration that the container had once, of `file`, with no more than it has now;
/// says what is left out. Where the present one cannot be read, nothing is known to be allowed but what a fresh one has.
pub(super) fn no_more_than_now(
    text: &str,
    file: &Path,
    layout: &Layout,
    name: &ContainerName,
) -> Result<(String, Vec<String>)> {
    let mut document = Document::parse(text, file)?;
    let present = super::config::document(layout, name).ok();
    let default = Config::default();
    let config = present.as_ref().map_or(&default, Document::config);
    let left_out = restrict(&mut document, &Base { config, document: present.as_ref(), fresh: None })?;
    Ok((document.to_string(), left_out))
}

/// What of `security` confines a guest less than a new container is: `privileged`, `syscalls (off)`.
pub(super) fn loosened(security: &Security) -> Vec<String> {
    let mut found = Excess(Vec::new());
    security_excess(&mut found, security, &Security::default());
    let setting = |(key, value): (KeyPath, String)| {
        let key = key.to_string().trim_start_matches("security.").to_owned();
        if value == "true" { key } else { format!("{key} ({value})") }
    };
    found.0.into_iter().map(setting).collect()
}

/// Settings that give more than `base`, with their values.
fn excess(config: &Config, base: &Base) -> Vec<(KeyPath, String)> {
    let Config {
        // They are its identity; an identity that exists here already is replaced by a new one.
        version: _,
        uuid: _,
        description: _,
        boot,
        security,
        limits,
        storage,
        snapshots,
        network,
        mount,
        device,
        // Its own init reads them, and nothing of the host's does.
        environment: _,
        credential: _,
    } = config;
    let mut found = Excess(Vec::new());
    boot_excess(&mut found, boot, &base.config.boot);
    security_excess(&mut found, security, &base.config.security);
    limits_excess(&mut found, limits, &base.config.limits);
    storage_excess(&mut found, storage, &base.config.storage);
    snapshots_excess(&mut found, snapshots, &base.config.snapshots);
    let mut fresh = base.fresh;
    for (name, network) in network {
        network_excess(&mut found, name, network, base, &mut fresh);
    }
    let mounts = mount.iter().filter(|mount| !base.config.mount.contains(mount));
    // Any mount is more than none, however it is mounted.
    let shown = |mount: &Mount| {
        let Mount { name: _, source, target, read_only: _, optional: _, recursive: _, suid: _, dev: _, idmap: _ } =
            mount;
        format!("{} at {target}", source.display())
    };
    found.list(&["mount"], mounts.map(shown));
    let devices = device.iter().filter(|device| !base.config.device.contains(device));
    found.list(&["device"], devices.map(|Device { name: _, path, mode: _ }| path.display().to_string()));
    found.0
}

fn boot_excess(found: &mut Excess, boot: &Boot, base: &Boot) {
    let Boot {
        autostart,
        autostart_after,
        requires,
        // How it says that it is ready, and which of its own programs it runs.
        ready: _,
        init: _,
        init_type: _,
        stop_signal: _,
        stop_timeout,
        wait_timeout,
    } = boot;
    found.flag(&["boot", "autostart"], *autostart, base.autostart);
    // They name other containers, which would be started for it.
    found.list(&["boot", "autostart-after"], beyond(autostart_after, &base.autostart_after));
    found.list(&["boot", "requires"], beyond(requires, &base.requires));
    // The host's shutdown and its boot wait so long for it.
    found.when(*stop_timeout > base.stop_timeout, &["boot", "stop-timeout"], stop_timeout);
    found.when(*wait_timeout > base.wait_timeout, &["boot", "wait-timeout"], wait_timeout);
}

fn security_excess(found: &mut Excess, security: &Security, base: &Security) {
    let Security {
        privileged,
        nesting,
        idmap,
        id_range_size,
        capabilities_add,
        capabilities_drop,
        syscalls,
        syscalls_allow,
        address_families,
        apparmor,
        selinux_label,
    } = security;
    found.flag(&["security", "privileged"], *privileged, base.privileged);
    found.flag(&["security", "nesting"], *nesting, base.nesting);
    // Ids of its choice may be those of another container, of a user of the host, or all there are.
    found.when(*idmap != IdMap::Auto && *idmap != base.idmap, &["security", "idmap"], idmap);
    found.when(
        *id_range_size > Some(*base.id_count().end()),
        &["security", "id-range-size"],
        security.id_count().end(),
    );
    found.list(&["security", "capabilities-add"], beyond(capabilities_add, &base.capabilities_add));
    let kept: Vec<String> = beyond(&base.capabilities_drop, capabilities_drop).collect();
    found.when(!kept.is_empty(), &["security", "capabilities-drop"], format!("without {}", kept.join(", ")));
    let leniency = |syscalls: Syscalls| match syscalls {
        Syscalls::Reduced => 0,
        Syscalls::Default => 1,
        Syscalls::Off => 2,
    };
    found.when(leniency(*syscalls) > leniency(base.syscalls), &["security", "syscalls"], syscalls.name());
    let calls = syscalls_allow.iter().filter(|group| !base.syscalls_allow.contains(group));
    found.list(&["security", "syscalls-allow"], calls.map(|group| group.name().to_owned()));
    let sockets = address_families.beyond(&base.address_families);
    found.list(&["security", "address-families"], sockets.into_iter());
    // Another profile, or another label, may be one that holds nothing.
    found.when(*apparmor != AppArmor::Default && *apparmor != base.apparmor, &["security", "apparmor"], apparmor);
    let label = selinux_label.as_ref().filter(|_| *selinux_label != base.selinux_label);
    found.list(&["security", "selinux-label"], label.into_iter().cloned());
}

fn limits_excess(found: &mut Excess, limits: &Limits, base: &Limits) {
    let Limits { memory, memory_high, swap, cpus, cpu_weight, cpuset, pids, io_weight } = limits;
    found.limit(&["limits", "memory"], memory, &base.memory);
    found.limit(&["limits", "memory-high"], memory_high, &base.memory_high);
    found.limit(&["limits", "swap"], swap, &base.swap);
    found.limit(&["limits", "cpus"], cpus, &base.cpus);
    let other_cpus = base.cpuset.is_some() && *cpuset != base.cpuset;
    found.when(other_cpus, &["limits", "cpuset"], cpuset.as_deref().unwrap_or("all"));
    found.when(*pids > base.pids, &["limits", "pids"], pids);
    // Unset is 100: more takes from the others.
    for (key, weight, base) in [("cpu-weight", cpu_weight, base.cpu_weight), ("io-weight", io_weight, base.io_weight)] {
        let weight = weight.unwrap_or(100);
        found.when(weight > base.unwrap_or(100), &["limits", key], weight);
    }
}

fn storage_excess(found: &mut Excess, storage: &Storage, base: &Storage) {
    let Storage { size } = storage;
    found.limit(&["storage", "size"], size, &base.size);
}

fn snapshots_excess(found: &mut Excess, snapshots: &Snapshots, base: &Snapshots) {
    let Snapshots { schedule, keep } = snapshots;
    // Each takes room that its own limit does not count.
    let scheduled = schedule.is_some() && schedule != &base.schedule;
    found.when(scheduled, &["snapshots", "schedule"], format!("{schedule:?}").to_lowercase());
    let keeps_more = base.keep.is_some_and(|base| keep.is_none_or(|keep| keep > base));
    found.when(keeps_more, &["snapshots", "keep"], keep.map_or("all".to_owned(), |keep| keep.to_string()));
}

fn network_excess(found: &mut Excess, name: &str, network: &Network, base: &Base, fresh: &mut Option<&Network>) {
    let Network {
        kind,
        bridge,
        parent,
        vlan,
        // One that another has is refused with the other's name.
        mac: _,
        ipv4,
        ipv6,
        // Used with an address of its own alone, and who asks for that.
        gateway: _,
        managed: _,
        mtu,
        allow_addresses,
        allow_macs,
        publish,
        isolated,
        ingress,
        egress,
    } = network;
    let present = base.config.network.get(name);
    let wired = |network: &Network| -> (NetworkType, Option<String>, Option<String>, Option<u16>) {
        let bridge = network.bridge.clone().or_else(|| base.fresh?.bridge.clone());
        (network.kind, bridge.filter(|_| network.kind == NetworkType::Veth), network.parent.clone(), network.vlan)
    };
    // A fresh container has one, by whatever name: each further one would take an address of the bridge's.
    let as_fresh = fresh.take_if(|fresh| wired(fresh) == wired(network)).is_some();
    if *kind != NetworkType::None && !as_fresh && present.map(wired) != Some(wired(network)) {
        // Left out and not put on another bridge: it may have been kept from what is there.
        let at = [bridge, parent].into_iter().flatten().next();
        let at = at.map(|at| format!(" on {at}")).unwrap_or_default();
        let vlan = vlan.map(|vlan| format!(", VLAN {vlan}")).unwrap_or_default();
        let kind = format!("{kind:?}").to_lowercase();
        found.when(true, &["network", name], format!("{kind}{at}{vlan}"));
        return;
    }
    let default = Network::default();
    let present = present.unwrap_or(&default);
    for (key, address, base) in [("ipv4", ipv4, present.ipv4), ("ipv6", ipv6, present.ipv6)] {
        // An address of its choice may be the one that a firewall trusts.
        let chosen = matches!(address, Address::Reserved(_) | Address::Static(_));
        found.when(chosen && *address != base, &["network", name, key], address);
    }
    // A bridge is as wide as its narrowest port.
    found.when(mtu.is_some() && *mtu != present.mtu, &["network", name, "mtu"], mtu.unwrap_or_default());
    found.list(&["network", name, "allow-addresses"], beyond(allow_addresses, &present.allow_addresses));
    found.list(&["network", name, "allow-macs"], beyond(allow_macs, &present.allow_macs));
    found.list(&["network", name, "publish"], beyond(publish, &present.publish));
    found.when(present.isolated && !isolated, &["network", name, "isolated"], isolated);
    for (key, rate, base) in [("ingress", ingress, &present.ingress), ("egress", egress, &present.egress)] {
        let rate_is = rate.as_deref().unwrap_or("unlimited");
        found.when(base.is_some() && rate != base, &["network", name, key], rate_is);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Network {
        Network { bridge: Some("lxmbr0".into()), ..Network::default() }
    }

    fn restricted(text: &str, present: Option<&str>) -> (Config, Vec<String>) {
        let mut document = Document::parse(text, Path::new("config.toml")).unwrap();
        let present = present.map(|text| Document::parse(text, Path::new("config.toml")).unwrap());
        let default = Config::default();
        let config = present.as_ref().map_or(&default, Document::config);
        let wired = fresh();
        let fresh = present.is_none().then_some(&wired);
        let told = restrict(&mut document, &Base { config, document: present.as_ref(), fresh }).unwrap();
        (document.config().clone(), told)
    }

    const MORE: &str = r#"version = 1
uuid = "2f1b1c62-5ec6-4a6e-8f5a-0a5f4f6d9f11"
snapshots.schedule = "hourly"
[boot]
autostart = true
autostart-after = ["db"]
requires = ["db"]
stop-timeout = "2h"
[security]
privileged = true
nesting = true
idmap = "1:2147483000"
id-range-size = 2147483000
capabilities-add = ["sys_admin"]
seccomp = "off"
syscalls-allow = ["io-uring"]
address-families = ["default", "VSOCK"]
apparmor = "off"
selinux-label = "unconfined_t"
[limits]
pids = 1000000
cpu-weight = 10000
io-weight = 10000
[network.eth0]
ipv4 = "10.0.3.7"
ipv6 = "fd00::7/64"
mtu = 68
allow-addresses = ["any"]
allow-macs = ["00:00:5e:00:01:0a"]
publish = ["22:22"]
[network.eth1]
type = "host"
[network.eth2]
bridge = "br0"
[network.eth3]
type = "physical"
parent = "eth0"
[network.eth4]
[[mount]]
source = "/etc"
target = "/mnt"
[[device]]
path = "/dev/sda"
"#;

    #[test]
    fn nothing_is_more_than_fresh_without_trust() {
        let (config, told) = restricted(MORE, None);
        let fresh = Config {
            uuid: "2f1b1c62-5ec6-4a6e-8f5a-0a5f4f6d9f11".into(),
            network: [("eth0".to_owned(), Network::default())].into(),
            ..Config::default()
        };
        assert_eq!(config, fresh);
        let all = told.join("\n");
        let expected = "syscalls` (off)|io-uring|VSOCK|apparmor|unconfined_t|1:2147483000|id-range-size|hourly|host)|\
                        physical on eth0|/etc at /mnt|22:22/tcp|`network.eth4`";
        for what in expected.split('|') {
            assert!(all.contains(what), "{what} in {all}");
        }
        assert_eq!(told.len(), 30, "{all}");
    }

    #[test]
    fn what_only_a_fresh_one_has_stays_as_it_is() {
        let less = "# mine\nversion = 1\ndescription = \"x\"\n[boot]\nready = \"started\"\ninit = \"/init\"\nstop-timeout = \"5s\"\n\
                    [security]\ncapabilities-drop = [\"net_raw\"]\n[limits]\nmemory = \"1GiB\"\ncpu-weight = 50\npids = 100\n\
                    [storage]\nsize = \"5GiB\"\n[network.eth0]\nbridge = \"lxmbr0\"\nmac = \"10:66:6a:00:00:01\"\nipv6 = \"none\"\n\
                    isolated = true\ningress = \"10Mbit\"\n[environment]\nLD_PRELOAD = \"x\"\n[credential]\na = \"b\"\n";
        let (config, told) = restricted(less, None);
        assert!(told.is_empty(), "{told:?}");
        assert_eq!(config, toml::from_str(less).unwrap());
    }

    #[test]
    fn a_snapshot_brings_back_what_the_container_has_and_no_more() {
        assert!(restricted(MORE, Some(MORE)).1.is_empty());
        let present = "version = 1\n[limits]\nmemory = \"1GiB\"\npids = 100\n[security]\nnesting = true\ncapabilities-drop = [\"net_raw\"]\n\
                       [storage]\nsize = \"1GiB\"\n[network.eth0]\ntype = \"none\"\n[[mount]]\nsource = \"/a\"\ntarget = \"/a\"\n";
        let before = "version = 1\n[limits]\nmemory = \"2GiB\"\n[security]\nnesting = true\n[network.eth0]\n\
                      publish = [\"1:1\"]\n[network.eth1]\nbridge = \"br0\"\n[[mount]]\nsource = \"/b\"\ntarget = \"/b\"\n";
        let (config, told) = restricted(before, Some(present));
        let wanted: Config = toml::from_str(present).unwrap();
        assert_eq!(config.limits, wanted.limits);
        assert_eq!((config.security, config.storage, config.mount), (wanted.security, wanted.storage, wanted.mount));
        assert_eq!(config.network, wanted.network);
        assert_eq!(told.len(), 7, "{told:?}");
    }
}
