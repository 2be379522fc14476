//! A container's limits and devices as properties of its unit (systemd.resource-control(5)).

use zbus::{OwnedVariant, Variant};

use crate::config::{Config, Limits};
use crate::error::{Error, Result};

/// One property: its D-Bus name, the name of its drop-in file, its value or none.
#[derive(Debug)]
pub struct Property {
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

/// The devices that every guest may use beside those of `DevicePolicy=closed`.
const DEVICES: [(&str, &str); 3] = [("/dev/net/tun", "rwm"), ("/dev/fuse", "rwm"), ("char-pts", "rwm")];

/// All properties that the configuration decides.
pub fn of(config: &Config) -> Result<Vec<Property>> {
    let limits = &config.limits;
    let bytes = |size: Option<crate::types::Size>| size.map(|size| size.bytes());
    // Per second of real time, in microseconds.
    let quota = limits.cpus.map(|cpus| (cpus * 1e6) as u64);
    let numbers = [
        ("MemoryMax", "MemoryMax", bytes(limits.memory)),
        ("MemoryHigh", "MemoryHigh", bytes(limits.memory_high)),
        ("MemorySwapMax", "MemorySwapMax", bytes(limits.swap)),
        ("CPUQuotaPerSecUSec", "CPUQuota", quota),
        ("CPUWeight", "CPUWeight", limits.cpu_weight),
        ("IOWeight", "IOWeight", limits.io_weight),
        ("TasksMax", "TasksMax", Some(limits.pids)),
    ];
    let mut all = Vec::new();
    for (name, key, number) in numbers {
        let value = owned(Variant::from(number.unwrap_or(UNSET)))?;
        all.push(Property { name, key, value, set: number.is_some() });
    }
    let cpus = cpu_mask(limits)?;
    all.push(Property { name: "AllowedCPUs", key: "AllowedCPUs", set: !cpus.is_empty(), value: owned(cpus.into())? });
    let mut devices: Vec<(String, String)> = DEVICES.map(|(node, access)| (node.to_owned(), access.to_owned())).into();
    devices.extend(config.device.iter().map(|device| (device.path.to_string_lossy().into_owned(), "rw".to_owned())));
    all.push(Property { name: "DevicePolicy", key: "DevicePolicy", value: owned("closed".into())?, set: true });
    // The setting is a list that is added to: an empty one first.
    let none: Vec<(String, String)> = Vec::new();
    all.push(Property { name: "DeviceAllow", key: "DeviceAllow", value: owned(none.into())?, set: true });
    all.push(Property { name: "DeviceAllow", key: "DeviceAllow", value: owned(devices.into())?, set: true });
    Ok(all)
}

fn owned(value: Variant<'_>) -> Result<OwnedVariant> {
    value.try_into_owned().map_err(|e| Error::failed(e.to_string()))
}

/// The processors as bits, the first in the lowest bit of the first byte.
fn cpu_mask(limits: &Limits) -> Result<Vec<u8>> {
    let mut mask = Vec::new();
    for part in limits.cpuset.iter().flat_map(|list| list.split(',')) {
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
            let limits = Limits { cpuset: Some(list.into()), ..Limits::default() };
            assert_eq!(cpu_mask(&limits).unwrap(), mask, "{list}");
        }
        assert!(cpu_mask(&Limits::default()).unwrap().is_empty());
        let wrong = Limits { cpuset: Some("a-b".into()), ..Limits::default() };
        assert!(cpu_mask(&wrong).is_err());
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
