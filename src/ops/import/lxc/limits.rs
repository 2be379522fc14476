//! `lxc.cgroup2` and `lxc.cgroup`: what a guest may use of a controller, and which devices.

use super::model::{Lxc, Rule};
use crate::config::range;
use crate::ops::import::table::{Setting, Taken};
use crate::types::Size;

/// Takes over one file of a control group.
pub(super) fn control(lxc: &mut Lxc, setting: &Setting) -> Taken {
    let (key, value) = (&setting.key, setting.value.as_str());
    let Some(file) = key.strip_prefix("lxc.cgroup2.").or_else(|| key.strip_prefix("lxc.cgroup.")) else {
        return Taken::Lost;
    };
    match file {
        // lxm's own list is closed.
        "devices.deny" => return Taken::Over,
        "devices.allow" => {
            lxc.rules.push(Rule { rule: value.to_owned(), setting: setting.clone() });
            return Taken::Over;
        }
        _ => {}
    }
    match limit(lxc, file, value) {
        Some(()) => Taken::Over,
        None if KNOWN.contains(&file) => Taken::LostFor(format!("`limits` cannot be `{value}`")),
        None => Taken::LostFor("`limits` has no such setting".to_owned()),
    }
}

const KNOWN: [&str; 18] = [
    "memory.max",
    "memory.limit_in_bytes",
    "memory.high",
    "memory.swap.max",
    "memory.memsw.limit_in_bytes",
    "pids.max",
    "cpuset.cpus",
    "cpu.weight",
    "cpu.shares",
    "cpu.max",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "io.weight",
    "io.bfq.weight",
    "blkio.weight",
    "blkio.bfq.weight",
    "devices.allow",
    "devices.deny",
];

fn limit(lxc: &mut Lxc, file: &str, value: &str) -> Option<()> {
    let limits = &mut lxc.made.config.limits;
    let weight = |weight: u64| Some(weight).filter(|weight| range::WEIGHT.contains(weight));
    match file {
        "memory.max" | "memory.limit_in_bytes" => limits.memory = size(value)?,
        "memory.high" => limits.memory_high = size(value)?,
        "memory.swap.max" => limits.swap = size(value)?,
        "memory.memsw.limit_in_bytes" => lxc.memory_and_swap = size(value)?.map(|size| size.bytes()),
        "pids.max" => limits.pids = value.parse().ok()?,
        "cpuset.cpus" => limits.cpuset = Some(value.to_owned()),
        "cpu.weight" => limits.cpu_weight = Some(weight(value.parse().ok()?)?),
        // 1024 shares are a weight of 100.
        "cpu.shares" => {
            limits.cpu_weight = Some((value.parse::<u64>().ok()?.saturating_mul(100) / 1024).clamp(1, 10_000))
        }
        "cpu.max" => {
            let mut fields = value.split_whitespace();
            let quota = fields.next()?;
            let period = fields.next().map_or(Some(100_000.0), |period| period.parse().ok())?;
            if quota != "max" {
                limits.cpus = Some(cpus(quota.parse().ok()?, period)?);
            }
        }
        "cpu.cfs_quota_us" => lxc.quota = Some(value.parse().ok()?).filter(|quota| *quota >= 0.0),
        "cpu.cfs_period_us" => lxc.period = Some(value.parse().ok()?),
        "io.weight" | "io.bfq.weight" => {
            limits.io_weight = Some(weight(value.strip_prefix("default ").unwrap_or(value).parse().ok()?)?);
        }
        // 500 is the middle of version 1, as 100 is of version 2.
        "blkio.weight" | "blkio.bfq.weight" => {
            limits.io_weight = Some(weight((value.parse::<u64>().ok()?.saturating_mul(100) / 500).max(1))?);
        }
        _ => return None,
    }
    Some(())
}

fn cpus(quota: f64, period: f64) -> Option<f64> {
    Some(quota / period).filter(|cpus| range::CPUS.contains(cpus))
}

/// Makes one limit of what version 1 of control groups has two for; gives the notes.
pub(super) fn finish(lxc: &mut Lxc) -> Vec<String> {
    let mut notes = Vec::new();
    let limits = &mut lxc.made.config.limits;
    if let Some(quota) = lxc.quota {
        match cpus(quota, lxc.period.unwrap_or(100_000.0)) {
            Some(cpus) => limits.cpus = Some(cpus),
            None => notes.push(format!("not taken over: `cpu.cfs_quota_us = {quota}`: `limits.cpus` cannot be that")),
        }
    }
    if let Some(both) = lxc.memory_and_swap {
        let memory = limits.memory.map_or(both, |memory| memory.bytes());
        limits.memory.get_or_insert(Size::from_bytes(memory.min(both)));
        limits.swap = Some(Size::from_bytes(both.saturating_sub(memory)));
    }
    notes
}

/// Bytes, with a suffix of one letter or none; `-1` and `max` are no limit.
fn size(value: &str) -> Option<Option<Size>> {
    if matches!(value, "-1" | "max") {
        return Some(None);
    }
    let (number, unit) = match value.char_indices().last()? {
        (at, 'K' | 'k') => (&value[..at], 10),
        (at, 'M' | 'm') => (&value[..at], 20),
        (at, 'G' | 'g') => (&value[..at], 30),
        (at, 'T' | 't') => (&value[..at], 40),
        _ => (value, 0),
    };
    let bytes = number.parse::<u64>().ok()?.checked_mul(1 << unit)?;
    (bytes <= Size::MOST).then(|| Some(Size::from_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Limits;
    use crate::ops::import::lxc::{lines::parse, read};

    fn limits(text: &str) -> (Limits, Vec<String>) {
        let mut lxc = read(parse(text).unwrap(), Path::new("/none")).unwrap();
        let notes = finish(&mut lxc);
        (lxc.made.config.limits, [lxc.made.notes, notes].concat())
    }

    #[test]
    fn limits_of_both_versions_are_the_same() {
        let (two, notes) = limits(
            "lxc.cgroup2.memory.max = 512M\nlxc.cgroup2.memory.swap.max = 1g\nlxc.cgroup2.cpu.max = 150000 100000\n\
             lxc.cgroup2.cpu.weight = 50\nlxc.cgroup2.io.weight = default 20\n",
        );
        assert!(notes.is_empty(), "{notes:?}");
        let (one, notes) = limits(
            "lxc.cgroup.memory.limit_in_bytes = 536870912\nlxc.cgroup.memory.memsw.limit_in_bytes = 1536M\n\
             lxc.cgroup.cpu.cfs_quota_us = 150000\nlxc.cgroup.cpu.shares = 512\nlxc.cgroup.blkio.weight = 100\n",
        );
        assert!(notes.is_empty(), "{notes:?}");
        assert_eq!(one, two);
        assert_eq!((two.cpus, two.swap), (Some(1.5), Some(Size::from_bytes(1 << 30))));
    }

    #[test]
    fn no_limit_is_none_and_what_is_unknown_is_told() {
        let unlimited = "lxc.cgroup2.memory.max = max\nlxc.cgroup.memory.limit_in_bytes = -1\nlxc.cgroup2.cpu.max = max 100000\n\
                         lxc.cgroup.cpu.cfs_quota_us = -1\n";
        assert_eq!(limits(unlimited), (Limits::default(), Vec::new()));
        for lost in [
            "lxc.cgroup2.cpu.max = nan inf",
            "lxc.cgroup2.rdma.max = 1",
            "lxc.cgroup2.pids.max = max",
            "lxc.cgroup.cpu.cfs_quota_us = 1",
            "lxc.cgroup2.memory.max = 99999999999G",
            "lxc.cgroup2.cpu.weight = 0",
        ] {
            let (limits, notes) = limits(lost);
            assert_eq!((limits, notes.len()), (Limits::default(), 1), "{lost}");
        }
    }
}
