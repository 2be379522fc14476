//! A container's limits and devices as settings of its unit (systemd.resource-control(5)).

use crate::config::{Config, Limits};
use crate::error::{Context, Result};
use crate::types::device::{GUEST_DEVICES, GuestDevice, Node};

/// The processors that the machine has or may get, as a list.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// The settings of a unit that limit a guest, and those of the configuration that they are made of.
pub(crate) const LIMITS: [(&str, &str); 8] = [
    ("AllowedCPUs", "limits.cpuset"),
    ("CPUQuota", "limits.cpus"),
    ("CPUWeight", "limits.cpu-weight"),
    ("IOWeight", "limits.io-weight"),
    ("MemoryHigh", "limits.memory-high"),
    ("MemoryMax", "limits.memory"),
    ("MemorySwapMax", "limits.swap"),
    ("TasksMax", "limits.pids"),
];

/// The devices of every guest as a unit names them, beside those of `DevicePolicy=closed`, which has the
/// pseudo devices and the terminals' multiplexer.
pub(crate) fn devices() -> Vec<(String, String)> {
    let named = |device: &GuestDevice| match (device.node, device.minor) {
        (Node::IfOfHost, _) => Some(format!("/dev/{}", device.name)),
        // A driver's all, by its name in /proc/devices.
        (_, None) => Some(format!("char-{}", device.name)),
        _ => None,
    };
    GUEST_DEVICES.iter().filter_map(named).map(|device| (device, "rwm".to_owned())).collect()
}

/// What the configuration sets, as lines of a unit file. The unit has the default of the rest already.
pub(crate) fn lines(config: &Config) -> impl Iterator<Item = String> {
    let limits = &config.limits;
    let bytes = |size: Option<crate::types::Size>| size.map(|size| size.bytes().to_string());
    let value = |key: &str| match key {
        "AllowedCPUs" => limits.cpuset.as_ref().map(|list| list.replace(' ', "")),
        "CPUQuota" => limits.cpus.map(percent),
        "CPUWeight" => limits.cpu_weight.map(|weight| weight.to_string()),
        "IOWeight" => limits.io_weight.map(|weight| weight.to_string()),
        "MemoryHigh" => bytes(limits.memory_high),
        "MemoryMax" => bytes(limits.memory),
        "MemorySwapMax" => bytes(limits.swap),
        _ => Some(limits.pids).filter(|pids| *pids != Limits::default().pids).map(|pids| pids.to_string()),
    };
    let set: Vec<String> =
        LIMITS.iter().filter_map(|(key, _)| value(key).map(|value| format!("{key}={value}"))).collect();
    let device = |path: &std::path::Path| format!("DeviceAllow={} rwm", quoted(&path.to_string_lossy()));
    set.into_iter().chain(config.device.iter().map(move |entry| device(&entry.path)))
}

/// A share of processors, of which systemd takes hundredths of a percent.
fn percent(cpus: f64) -> String {
    let hundredths = (cpus * 10_000.0).round().max(1.0) as u64;
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

/// All processors.
pub(crate) fn possible() -> Result<String> {
    let list = std::fs::read_to_string(POSSIBLE).context(|| format!("read `{POSSIBLE}`"))?;
    Ok(list.trim().to_owned())
}

/// A path in the words of a unit file (systemd.syntax(7), "Quoting"; systemd.unit(5), "Specifiers").
pub(super) fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_configuration_does_not_set_is_not_said() {
        let lines = |text: &str| lines(&toml::from_str(text).unwrap()).collect::<Vec<_>>();
        assert!(lines("").is_empty());
        let text = "[limits]\nmemory = \"1GiB\"\ncpus = 1.5\ncpuset = \"0-3, 8\"\n[[device]]\npath = \"/dev/a b\"\n";
        let expected =
            ["AllowedCPUs=0-3,8", "CPUQuota=150.00%", "MemoryMax=1073741824", "DeviceAllow=\"/dev/a b\" rwm"];
        assert_eq!(lines(text), expected);
        assert_eq!((percent(0.25), percent(0.00001)), ("25.00%".into(), "0.01%".into()));
    }
}
