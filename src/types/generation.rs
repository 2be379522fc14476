use serde::{Deserialize, Serialize};

/// A process, told apart from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Generation {
    pub pid: i32,
    /// Clock ticks from boot to its start: field 22 of /proc/PID/stat.
    pub start_time: u64,
}
