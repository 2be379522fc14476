//! What a supervisor keeps of root's rights, and why.

use caps::Capability;

use super::setup::Setup;
use crate::error::Result;
use crate::sys::privileges;

/// What it takes to boot a guest again, to enter it, and to clean up after it.
const KEPT: [Capability; 20] = [
    // Mounts, namespaces, cgroups and the device program of the next boot; entering the guest.
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_SYS_PTRACE,
    // The guest's ids, and the users of commands in it.
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_SETFCAP,
    // Confining what it starts, itself too.
    Capability::CAP_SETPCAP,
    Capability::CAP_AUDIT_CONTROL,
    // The guest's policy namespace, where the host has AppArmor.
    Capability::CAP_MAC_ADMIN,
    // Device nodes, mount points and groups of its own making that belong to the guest's ids.
    Capability::CAP_MKNOD,
    Capability::CAP_CHOWN,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_DAC_OVERRIDE,
    // An ephemeral guest's files go with it, fixed ones too.
    Capability::CAP_LINUX_IMMUTABLE,
    // Processes of the guest's ids are signalled.
    Capability::CAP_KILL,
    // Limits of its own, quotas, and whom the kernel kills first.
    Capability::CAP_SYS_RESOURCE,
    // Links, addresses and rules; the helpers that it starts bind low ports and speak in the host's name.
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
    Capability::CAP_NET_BIND_SERVICE,
];

/// Gives up the rest, before there is a guest. A supervisor of a privileged guest keeps all: what the
/// guest may have, it has from it, and its configuration may give it more when it boots again.
pub(super) fn drop_others(setup: &Setup) -> Result<()> {
    if setup.ids.is_none() {
        return Ok(());
    }
    privileges::bound(&KEPT)?;
    privileges::keep(&KEPT)
}
