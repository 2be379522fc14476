//! Numbers that the kernel takes in a range alone. Outside of it a start would fail, or, of a number
//! that is none (`nan`), do as it likes.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Processors' worth of time: a quota is at least a millisecond in each tenth of a second
/// (`min_cfs_quota_period`, kernel/sched/core.c), and no kernel has more processors.
pub(crate) const CPUS: RangeInclusive<f64> = 0.01..=8192.0;

/// Shares (`CGROUP_WEIGHT_MIN` and `_MAX`, include/linux/cgroup.h).
pub(crate) const WEIGHT: RangeInclusive<u64> = 1..=10_000;

pub(crate) fn cpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    within(&CPUS, f64::deserialize(deserializer)?)
}

pub(crate) fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    within(&WEIGHT, u64::deserialize(deserializer)?)
}

fn within<T: PartialOrd + Display, E: Error>(range: &RangeInclusive<T>, number: T) -> Result<Option<T>, E> {
    match range.contains(&number) {
        true => Ok(Some(number)),
        false => Err(E::custom(format!("{number} is not within {} and {}", range.start(), range.end()))),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn numbers_that_the_kernel_refuses_cannot_be_set() {
        for (key, good, bad) in [
            ("cpus", ["0.01", "2", "8192"], ["nan", "inf", "0"]),
            ("cpus", ["1.5", "1e2", "0.5"], ["-1", "0.001", "1e9"]),
            ("cpu-weight", ["1", "100", "10000"], ["0", "10001", "9223372036854775807"]),
            ("io-weight", ["1", "100", "10000"], ["0", "10001", "-1"]),
        ] {
            let parse = |value: &str| toml::from_str::<Config>(&format!("[limits]\n{key} = {value}\n"));
            for (value, fits) in good.map(|value| (value, true)).into_iter().chain(bad.map(|value| (value, false))) {
                assert_eq!(parse(value).is_ok(), fits, "{key} = {value}");
            }
        }
    }
}
