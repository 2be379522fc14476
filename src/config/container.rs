//! `config.toml`: a container's settings, with their defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::defaults::is_default;
use super::{Mount, Network, Security, range};
use crate::types::{Signal, Size, Timeout};

/// A container's `config.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Version of this file's format; only 1 exists.
    pub version: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Identity of the container, made at create; the guest's machine-id comes from it.
    pub uuid: String,
    #[serde(skip_serializing_if = "is_default")]
    pub boot: Boot,
    #[serde(skip_serializing_if = "is_default")]
    pub security: Security,
    #[serde(skip_serializing_if = "is_default")]
    pub limits: Limits,
    #[serde(skip_serializing_if = "is_default")]
    pub storage: Storage,
    #[serde(skip_serializing_if = "is_default")]
    pub snapshots: Snapshots,
    /// By the interface's name in the guest, `eth0` first.
    pub network: BTreeMap<String, Network>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mount: Vec<Mount>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device: Vec<Device>,
    /// Environment of the guest's init.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// System credentials handed to a guest's systemd, by name (man systemd.system-credentials).
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "credentials")]
    pub credential: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            version: 1,
            description: String::new(),
            uuid: String::new(),
            boot: Boot::default(),
            security: Security::default(),
            limits: Limits::default(),
            storage: Storage::default(),
            snapshots: Snapshots::default(),
            network: BTreeMap::new(),
            mount: Vec::new(),
            device: Vec::new(),
            environment: BTreeMap::new(),
            credential: BTreeMap::new(),
        }
    }
}

/// Their names become names of files (systemd's credential_name_valid()).
fn credentials<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let credentials = BTreeMap::<String, String>::deserialize(deserializer)?;
    let is_name = |name: &str| {
        let is_plain = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
        !["", ".", ".."].contains(&name) && name.len() < 256 && name.chars().all(is_plain)
    };
    match credentials.keys().find(|name| !is_name(name)) {
        None => Ok(credentials),
        Some(name) => {
            Err(serde::de::Error::custom(format!("`{}` is not the name of a credential", name.escape_default())))
        }
    }
}

/// `[boot]`: how it starts and stops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Boot {
    /// Whether a bare host starts it at boot; on a systemd host the enabled unit is the truth.
    pub autostart: bool,
    /// Containers to be ready before this one starts at boot.
    pub autostart_after: Vec<String>,
    /// As `autostart-after`, and it runs with them alone: they are started first, and it is stopped before one of them.
    pub requires: Vec<String>,
    pub ready: ReadyCondition,
    /// How long a graceful stop may take before it is forced.
    pub stop_timeout: Timeout,
    /// How long a start with the host waits for what is not there yet: bridges and links, sources of mounts,
    /// devices. A start by hand does not wait.
    pub wait_timeout: Timeout,
    /// The signal that asks its init to power off; unset means the one that this kind of init understands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<Signal>,
    /// The guest's init; unset means `/sbin/init`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// What kind of init it is, where the root file system does not show it.
    pub init_type: Init,
}

impl Default for Boot {
    fn default() -> Self {
        Boot {
            autostart: false,
            autostart_after: Vec::new(),
            requires: Vec::new(),
            ready: ReadyCondition::Booted,
            stop_timeout: Timeout::from_secs(60),
            wait_timeout: Timeout::from_secs(60),
            stop_signal: None,
            init: None,
            init_type: Init::Auto,
        }
    }
}

/// When a container counts as started for what waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadyCondition {
    /// Its init has been executed.
    Started,
    /// Its init has said `READY=1`, or runs and cannot say it.
    Booted,
}

/// The kind of init, which decides the signals it understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    Auto,
    Systemd,
    Sysvinit,
    Busybox,
    Openrc,
    Runit,
    Procd,
    S6,
    Dinit,
    Finit,
    /// A program that ends on SIGTERM.
    Other,
}

/// `[limits]`; unset means unlimited but for `pids`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Above this the guest is slowed and reclaimed from (cgroup v2 only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<Size>,
    /// Processors' worth of time, 0.01 to 8192; `1.5` is one and a half.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "range::cpus")]
    pub cpus: Option<f64>,
    /// 1 to 10000, 100 being the default share.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "range::weight")]
    pub cpu_weight: Option<u64>,
    /// Processors it may run on, as the kernel writes lists (`0-1,4`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<String>,
    /// Most processes and threads at once.
    pub pids: u64,
    /// 1 to 10000, 100 being the default share.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "range::weight")]
    pub io_weight: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory: None,
            memory_high: None,
            swap: None,
            cpus: None,
            cpu_weight: None,
            cpuset: None,
            // As systemd's units for containers: a fork bomb in a guest must not fill the host's pid space.
            pids: 16_384,
            io_weight: None,
        }
    }
}

/// `[storage]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Storage {
    /// Most bytes that the root file system may hold, where the backend can limit it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
}

/// `[snapshots]`: the schedule of automatic snapshots.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Snapshots {
    /// Unset means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// How many automatic snapshots to keep; unset keeps all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

/// How often a snapshot is made: once in each hour, day, week (from Monday) or month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    Hourly,
    Daily,
    Weekly,
    Monthly,
}

/// `[[device]]`: a device node of the host given to the guest, with the right to use it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Device {
    /// What it is called in the names of its settings: `device.serial.path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub path: PathBuf,
    /// Octal permissions in the guest; unset keeps the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_documented_example_is_read_and_survives_writing() {
        let text = r#"
            version = 1
            description = "web server"
            uuid = "2f1b1c62-5ec6-4a6e-8f5a-0a5f4f6d9f11"
            [boot]
            autostart-after = ["db"]
            requires = []
            ready = "booted"
            stop-timeout = "60s"
            wait-timeout = "60s"
            init = "/sbin/init"
            [security]
            privileged = false
            nesting = false
            idmap = "auto"
            capabilities-add = []
            capabilities-drop = []
            syscalls = "default"
            syscalls-allow = ["io-uring"]
            address-families = ["default", "CAN"]
            apparmor = "default"
            selinux-label = "system_u:system_r:container_t:s0"
            [limits]
            memory = "2GiB"
            memory-high = "1800MiB"
            swap = "0"
            cpus = 1.5
            cpu-weight = 100
            cpuset = "0-1"
            pids = 4096
            io-weight = 100
            [network.eth0]
            type = "veth"
            bridge = "lxmbr0"
            mac = "10:66:6a:00:00:01"
            ipv4 = "dhcp"
            ipv6 = "auto"
            publish = ["8080:80"]
            [[mount]]
            source = "/srv/www"
            target = "/var/www"
            read-only = true
            [[device]]
            path = "/dev/ttyUSB0"
            mode = "0660"
            [environment]
            LANG = "C.UTF-8"
        "#;
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.limits.memory.unwrap().bytes(), 2 << 30);
        assert_eq!(config.mount[0].target.as_path(), Path::new("/var/www"));
        let again: Config = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }
}
