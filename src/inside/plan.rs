//! What the guest's first process gets: computed before it exists, or sent to it.

use std::ffi::CString;

use serde::{Deserialize, Serialize};

use super::Confinement;
use crate::error::Error;

/// All that the child needs to know, computed before the clone.
#[derive(Debug)]
pub(crate) struct BootPlan {
    pub hostname: String,
    /// The init's path in the guest.
    pub init: CString,
    pub environment: Vec<CString>,
    /// The guest has ids of its own (a user namespace).
    pub mapped: bool,
    /// The highest id of a group that the guest has.
    pub last_group: u32,
    pub network: NetworkView,
    /// Container managers may run inside: they need an unmasked /proc and /sys to be visible.
    pub nesting: bool,
    /// The guest loads AppArmor profiles of its own: it sees the files that take them.
    pub own_policy: bool,
    /// UUID of the container, shown in /run/host/container-uuid.
    pub uuid: String,
    /// This boot's own random id, in place of the host's.
    pub boot_id: String,
    /// Text of the host's os-release, shown in /run/host/os-release.
    pub host_os_release: String,
    /// System credentials by name.
    pub credentials: Vec<(String, String)>,
    /// The guest's readiness is reported to a socket at /run/host/notify.
    pub notify: bool,
    pub confinement: Confinement,
    pub rows: u16,
    pub cols: u16,
}

/// Which network the guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetworkView {
    /// A network namespace of its own.
    Own,
    /// The host's.
    Host,
}

/// From the supervisor to the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum ToChild {
    /// Descriptors: detached mounts of the root file system and of /dev.
    Root,
    /// Descriptor: a detached mount to attach at `target` in the guest.
    Bind { target: String, directory: bool },
    /// All mounts have been given.
    Complete,
    /// Everything outside is in place: execute init.
    Release,
}

/// From the child to the supervisor; end of file after `Prepared` means that init runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum FromChild {
    /// All is mounted. Descriptors: the console's master side, its slave side, and the notify socket if
    /// asked for.
    Prepared,
    Failed(Error),
}
