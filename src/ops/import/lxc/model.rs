//! What a configuration of LXC's says, while it is read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::interface::LxcInterface;
use crate::ops::import::foreign::Translated;
use crate::ops::import::table::{Setting, Taken};

/// A container of LXC's being read.
pub(super) struct Lxc {
    pub made: Translated,
    pub name: Option<String>,
    /// `lxc.rootfs.path`, and the backend of LXC 2.
    pub rootfs: String,
    pub backend: String,
    /// Lines of `lxc.idmap`.
    pub maps: Vec<String>,
    /// Where its files were: targets are also written below them.
    pub roots: Vec<PathBuf>,
    pub kept: Vec<String>,
    pub wanted: Vec<WantedDevice>,
    pub rules: Vec<Rule>,
    /// Of cgroup v1: a quota in microseconds, its period, and the limit of memory and swap together.
    pub quota: Option<f64>,
    pub period: Option<f64>,
    pub memory_and_swap: Option<u64>,
    pub interfaces: BTreeMap<u32, LxcInterface>,
}

/// A node, or a directory of nodes, that is bound below the guest's /dev.
#[derive(Debug)]
pub(super) struct WantedDevice {
    pub path: PathBuf,
    pub target: PathBuf,
    pub setting: Setting,
}

/// `c 10:200 rwm`: a device that the guest may use.
#[derive(Debug)]
pub(super) struct Rule {
    pub rule: String,
    pub setting: Setting,
}

/// What LXC does with a profile and further mounts, and lxm with one setting that an admin gives.
pub(super) fn nesting_is_asked_for() -> Taken {
    Taken::LostFor("`security.nesting` lets container managers run in the guest".to_owned())
}
