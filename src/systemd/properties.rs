//! A container's limits and devices as properties of its unit (systemd.resource-control(5)).

use zbus::{OwnedVariant, Variant};

use crate::config::{Config, Limits};
use crate::error::{Context, Error, Result};
use crate::types::device::{GUEST_DEVICES, GuestDevice, Node};

/// One property: its D-Bus name, the name of its drop-in file, its value or none.
#[derive(Debug)]
pub(crate) struct Property {
    pub name: &'static str,
    /// The name in unit files, which `systemctl show` and the runtime drop-ins use.
    pub key: &'static str,
    /// As D-Bus wants it.
    pub value: OwnedVariant,
    /// Whether the configuration sets it; if not, `value` is the default.
    pub set: bool,
}

/// "No limit" and "no weight" are the largest number (org.freedesktop.systemd1(5)).
const UNSET: u64 = u64::MAX;

/// The processors that the machine has or may get, as a list.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

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

/// All properties that the configuration decides.
pub(crate) fn of(config: &Config) -> Result<Vec<Property>> {
    let limits = &config.limits;
    let bytes = |size: Option<crate::types::Size>| size.map(|size| size.bytes());
    // Per second of real time, in microseconds.
    let quota = limits.cpus.map(|cpus| (cpus * 1e6) as u64);
    // The unit has the default already.
    let pids = Some(limits.pids).filter(|pids| *pids != Limits::default().pids);
    let cpus = match &limits.cpuset {
        Some(list) => cpu_mask(list)?,
        // Without a list, systemd leaves a running group with the processors that it has.
        None => cpu_mask(std::fs::read_to_string(POSSIBLE).context(|| format!("read `{POSSIBLE}`"))?.trim())?,
    };
    let mut devices = devices();
    devices.extend(config.device.iter().map(|device| (device.path.to_string_lossy().into_owned(), "rwm".to_owned())));
    let number = |name, key, number: Option<u64>, unset: u64| {
        let value = owned(Variant::from(number.unwrap_or(unset)))?;
        Ok::<_, Error>(Property { name, key, value, set: number.is_some() })
    };
    let given = !config.device.is_empty();
    // By the names of their drop-ins: in any other order systemd believes that they have changed.
    Ok(vec![
        Property { name: "AllowedCPUs", key: "AllowedCPUs", set: limits.cpuset.is_some(), value: owned(cpus.into())? },
        number("CPUQuotaPerSecUSec", "CPUQuota", quota, UNSET)?,
        number("CPUWeight", "CPUWeight", limits.cpu_weight, UNSET)?,
        // A list that is added to: an empty one first.
        Property {
            name: "DeviceAllow",
            key: "DeviceAllow",
            set: given,
            value: owned(Vec::<(String, String)>::new().into())?,
        },
        Property { name: "DeviceAllow", key: "DeviceAllow", set: given, value: owned(devices.into())? },
        number("IOWeight", "IOWeight", limits.io_weight, UNSET)?,
        number("MemoryHigh", "MemoryHigh", bytes(limits.memory_high), UNSET)?,
        number("MemoryMax", "MemoryMax", bytes(limits.memory), UNSET)?,
        number("MemorySwapMax", "MemorySwapMax", bytes(limits.swap), UNSET)?,
        number("TasksMax", "TasksMax", pids, Limits::default().pids)?,
    ])
}

fn owned(value: Variant<'_>) -> Result<OwnedVariant> {
    value.try_into_owned().map_err(|e| Error::failed(e.to_string()))
}

/// The processors as bits, the first in the lowest bit of the first byte.
fn cpu_mask(list: &str) -> Result<Vec<u8>> {
    let mut mask = Vec::new();
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|cpu| *cpu < 8192);
        let (Some(from), Some(to)) = (number(from), number(to)) else {
            return Err(Error::config(format!("`limits.cpuset` has `{part}`, which is not a processor or a range")));
        };
        for cpu in from..=to {
            mask.resize(mask.len().max(cpu / 8 + 1), 0);
            mask[cpu / 8] |= 1 << (cpu % 8);
        }
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_bits() {
        for (list, mask) in [("0", vec![1]), ("0-1,9", vec![3, 2]), ("7-8", vec![0x80, 1])] {
            assert_eq!(cpu_mask(list).unwrap(), mask, "{list}");
        }
        assert!(cpu_mask("a-b").is_err());
    }

    #[test]
    fn what_the_configuration_does_not_set_is_known_to_be_unset() {
        let config: Config = toml::from_str("[limits]\nmemory = \"1GiB\"\ncpus = 1.5").unwrap();
        let all = of(&config).unwrap();
        let find = |key: &str| all.iter().find(|property| property.key == key).unwrap();
        assert_eq!(u64::try_from(find("MemoryMax").value.clone()).unwrap(), 1 << 30);
        assert_eq!(u64::try_from(find("CPUQuota").value.clone()).unwrap(), 1_500_000);
        assert!(!find("IOWeight").set);
        assert_eq!(u64::try_from(find("IOWeight").value.clone()).unwrap(), u64::MAX);
    }
}
