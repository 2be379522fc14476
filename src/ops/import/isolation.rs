//! Whether a configuration that was made of another program's gives more than that one's text says.
//!
//! The text is read here a second time, and otherwise: line by line, without the rules of any format. So it
//! allows too much where settings take one another back, and never too little.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use super::nspawn;
use crate::config::{Config, NetworkType, Security, capability};

/// What a text could at most mean.
#[derive(Default)]
pub(super) struct Said {
    host_network: bool,
    default_bridge: bool,
    /// Words that could name a link.
    links: BTreeSet<String>,
    /// Lines of mounts, and whether they may be written to.
    mounts: Vec<(String, bool)>,
    added: HashSet<caps::Capability>,
    dropped: HashSet<caps::Capability>,
    label: bool,
}

/// What of `config` is more than `said`, if anything.
pub(super) fn exceeds(config: &Config, said: &Said) -> Option<String> {
    let Security { capabilities_add, capabilities_drop, selinux_label, .. } = &config.security;
    let fresh = Security {
        capabilities_add: capabilities_add.clone(),
        capabilities_drop: capabilities_drop.clone(),
        selinux_label: selinux_label.clone().filter(|_| said.label),
        ..Security::default()
    };
    if config.security != fresh {
        return Some(format!("security: {:?}", config.security));
    }
    if let Some(name) = capabilities_add.iter().find(|name| capability(name).is_none_or(|c| !said.added.contains(&c))) {
        return Some(format!("capability {name}"));
    }
    let dropped: HashSet<_> = capabilities_drop.iter().filter_map(|name| capability(name)).collect();
    if let Some(kept) = said.dropped.difference(&dropped).next() {
        return Some(format!("capability {kept}, which was dropped"));
    }
    for (name, network) in &config.network {
        let is_said = match (network.kind, network.bridge.as_ref().or(network.parent.as_ref())) {
            (NetworkType::None, _) => true,
            (NetworkType::Host, _) => said.host_network,
            (NetworkType::Veth, None) => said.default_bridge,
            (_, Some(link)) => said.links.contains(link),
            (_, None) => false,
        };
        if !is_said {
            return Some(format!("interface {name}: {network:?}"));
        }
    }
    let is_said = |path: &Path, writes: bool| {
        let path = path.to_string_lossy();
        said.mounts.iter().any(|(line, is_writable)| line.contains(path.as_ref()) && (*is_writable || !writes))
    };
    if let Some(mount) = config.mount.iter().find(|mount| !is_said(&mount.source, !mount.read_only)) {
        return Some(format!("mount {mount:?}"));
    }
    // A directory of devices is said by its name alone.
    let is_device_said =
        |path: &Path| path.ancestors().take_while(|at| *at != Path::new("/dev")).any(|at| is_said(at, false));
    config.device.iter().find(|device| !is_device_said(&device.path)).map(|device| format!("device {device:?}"))
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| c.is_whitespace() || "=:'\",".contains(c)).filter(|word| !word.is_empty()).map(str::to_owned)
}

fn capabilities(text: &str) -> HashSet<caps::Capability> {
    words(text).filter_map(|word| capability(&word)).collect()
}

pub(super) fn said_by_lxc(text: &str) -> Said {
    let mut said = Said { label: true, ..Said::default() };
    let is_plain = !text.contains("lxc.cap.keep") && !text.contains("lxc.include");
    let mut was_emptied = false;
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        let bare = value.trim_matches(['"', '\'']);
        match key.rsplit('.').next().unwrap_or_default() {
            "type" => said.host_network |= bare == "none",
            "link" => {
                said.default_bridge |= bare == "lxcbr0";
                said.links.extend([bare, value].map(str::to_owned));
            }
            "entry" => {
                let line = ["\\040", "\\011", "\\012", "\\134"].iter().zip([" ", "\t", "\n", "\\"]);
                let line = line.fold(value.to_owned(), |line, (escape, c)| line.replace(escape, c));
                said.mounts.push((line, !words(value).any(|word| word == "ro")));
            }
            "drop" | "keep" if bare.is_empty() => was_emptied = true,
            "drop" if key == "lxc.cap.drop" => said.dropped.extend(bare.split_whitespace().filter_map(capability)),
            _ => {}
        }
    }
    if !is_plain || was_emptied {
        said.dropped.clear();
    }
    said
}

pub(super) fn said_by_nspawn(text: &str) -> Said {
    let mut said = Said::default();
    for (key, value) in nspawn::assignments(text) {
        let value = value.as_str();
        match key.rsplit('.').next().unwrap_or_default() {
            "Private" => {
                said.host_network |=
                    ["no", "n", "0", "false", "f", "off"].contains(&value.to_ascii_lowercase().as_str());
            }
            "VirtualEthernet" | "Port" => said.default_bridge = true,
            "Zone" => drop(said.links.insert(format!("vz-{value}"))),
            "Bridge" => drop(said.links.insert(value.to_owned())),
            "Interface" | "MACVLAN" | "IPVLAN" => {
                let words = value.split(|c: char| c.is_whitespace() || c == ':');
                said.links.extend(words.map(str::to_owned));
            }
            "Bind" | "BindReadOnly" => said.mounts.push((value.replace('\\', ""), key == "Files.Bind")),
            "Capability" => said.added.extend(capabilities(value)),
            _ => {}
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::import::device_nodes::some_device;
    use crate::ops::import::{fuzz, lxc};

    #[test]
    fn what_is_more_than_said_is_seen() {
        let said = said_by_lxc("lxc.net.0.link = br1\nlxc.mount.entry = /srv mnt none bind,ro\nlxc.cap.drop = mknod\n");
        let config =
            |text: &str| toml::from_str::<Config>(&format!("security.capabilities-drop = ['mknod']\n{text}")).unwrap();
        assert_eq!(
            exceeds(
                &config("network.eth0.bridge = 'br1'\nmount = [{source = '/srv', target = '/mnt', read-only = true}]"),
                &said
            ),
            None
        );
        for more in [
            "security.privileged = true",
            "security.nesting = true",
            "security.capabilities-add = ['sys_time']",
            "network.eth0.type = 'veth'",
            "network.eth0.bridge = 'br2'",
            "network.eth0.type = 'host'",
            "mount = [{source = '/srv', target = '/mnt'}]",
            "mount = [{source = '/etc', target = '/mnt', read-only = true}]",
            "device = [{path = '/dev/kvm'}]",
        ] {
            assert!(exceeds(&config(more), &said).is_some(), "{more}");
        }
        assert!(exceeds(&Config::default(), &said).unwrap().contains("MKNOD"));
    }

    /// Marsaglia's xorshift, from a fixed seed: what fails once fails again.
    fn chance() -> impl FnMut(usize) -> usize {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        }
    }

    fn keys(file: &str) -> Vec<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let keys = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(' ').next());
        keys.map(str::to_owned).collect()
    }

    const VALUES: [&str; 48] = [
        "",
        "0",
        "1",
        "yes",
        "no",
        "none",
        "empty",
        "veth",
        "macvlan",
        "ipvlan",
        "phys",
        "vlan",
        "br0",
        "lxcbr0",
        "eth1",
        "eth1:lan0",
        "eth1 eth2",
        "7",
        "4095",
        "10.0.3.7/24",
        "10.0.3.7",
        "fd00::7/64",
        "auto",
        "00:16:3e:xx:xx:xx",
        "router",
        "private",
        "host0",
        "/srv mnt none bind,ro 0 0",
        "/srv mnt none rbind",
        "/srv/a\\040b mnt none bind",
        "/dev/console dev/console none bind",
        "/dev/fuse",
        "/srv:/mnt",
        "/srv\\:x:/mnt:rootidmap",
        "/dev/console",
        "/proc:/mnt",
        "a *:* rwm",
        "c 5:1 rwm",
        "mknod",
        "CAP_SYS_TIME all",
        "chown setuid",
        "A=b c",
        "\"A=b c\" 'B=d'",
        "512M",
        "max",
        "150000 100000",
        "u 0 100000 65536",
        "pick",
    ];

    /// Those that matter most, with values that they can have.
    const LIKELY: [(&str, &str, &[&str]); 6] = [
        (
            "lxc.mount.entry",
            "Files.Bind",
            &[
                "/srv mnt none bind,ro 0 0",
                "/srv/a\\040b mnt none rbind",
                "/srv:/mnt",
                "/srv\\:x:/mnt:rootidmap",
                "/etc",
            ],
        ),
        (
            "lxc.mount.entry",
            "Files.BindReadOnly",
            &["DEVICE dev/x none bind", "DEVICE", "/dev/fuse dev/fuse none bind"],
        ),
        ("lxc.net.0.type", "Network.Private", &["veth", "none", "no", "yes", "macvlan", "phys", "empty"]),
        ("lxc.net.0.link", "Network.Bridge", &["br0", "lxcbr0", "eth1", "a b"]),
        ("lxc.network.type", "Network.MACVLAN", &["veth", "none", "eth1 eth2", "eth1:lan0"]),
        ("lxc.cap.drop", "Exec.Capability", &["mknod", "CAP_SYS_TIME all", "chown setuid", "sys_time"]),
    ];

    #[test]
    fn settings_by_chance_are_never_less_isolated() {
        let mut chance = chance();
        let (lxc_keys, nspawn_keys) = (keys("lxc.keys"), keys("nspawn.keys"));
        let device = some_device().unwrap_or("/dev/null".into()).display().to_string();
        let (mut with_mounts, mut with_links) = (0, 0);
        for _ in 0..3000 {
            let (mut lxc, mut nspawn) = (String::new(), String::new());
            for _ in 0..=chance(10) {
                let (lxc_key, nspawn_key, value) = if chance(2) == 0 {
                    let (lxc, nspawn, values) = LIKELY[chance(LIKELY.len())];
                    (lxc, nspawn, values[chance(values.len())])
                } else {
                    (
                        lxc_keys[chance(lxc_keys.len())].as_str(),
                        nspawn_keys[chance(nspawn_keys.len())].as_str(),
                        VALUES[chance(VALUES.len())],
                    )
                };
                let value = value.replace("DEVICE", &device);
                let lxc_key = lxc_key.replace("lxc.net.0.", &format!("lxc.net.{}.", chance(2)));
                // Files of this host are not part of it.
                if !["lxc.include", "lxc.mount", "lxc.mount.fstab"].contains(&lxc_key.as_str()) {
                    lxc.push_str(&format!("{lxc_key} = {value}\n"));
                }
                let (section, key) = nspawn_key.split_once('.').unwrap();
                nspawn.push_str(&format!("[{section}]\n{key}={value}\n"));
            }
            fuzz::lxc(lxc.as_bytes());
            fuzz::nspawn(nspawn.as_bytes());
            let made = lxc::translated(&lxc).map(|made| made.config).unwrap_or_default();
            with_mounts += usize::from(!made.mount.is_empty());
            with_links += usize::from(made.network.values().any(|network| network.kind != NetworkType::None));
        }
        assert!(with_mounts > 100 && with_links > 100, "only {with_mounts} had a mount, and {with_links} a link");
    }
}
