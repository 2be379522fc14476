//! The capabilities that a guest keeps.

use caps::{CapSet, Capability};

use crate::error::{Error, Kind, Result};

/// The capabilities a guest's processes can ever have: its bounding set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CapabilitySet {
    kept: Vec<Capability>,
    /// All others that the kernel knows, listed while /proc is still the host's: an attached
    /// command is confined where the guest could have put another.
    dropped: Vec<Capability>,
    /// Those that the configuration takes away.
    refused: Vec<Capability>,
}

/// What systemd-nspawn keeps (src/nspawn/nspawn.c), with NET_ADMIN for a network of its own.
///
/// Not here: what is not namespaced and changes the host (SYS_MODULE, SYS_RAWIO, SYS_TIME, SYSLOG,
/// MAC_*, WAKE_ALARM, BLOCK_SUSPEND, AUDIT_READ, PERFMON, BPF, CHECKPOINT_RESTORE).
const DEFAULT: [Capability; 27] = [
    Capability::CAP_AUDIT_CONTROL,
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_IPC_OWNER,
    Capability::CAP_KILL,
    Capability::CAP_LEASE,
    Capability::CAP_LINUX_IMMUTABLE,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_BROADCAST,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_BOOT,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_SYS_NICE,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_SYS_RESOURCE,
    Capability::CAP_SYS_TTY_CONFIG,
];

/// Whether a guest has it unless its configuration takes it away.
pub(crate) fn is_kept_by_default(capability: Capability) -> bool {
    DEFAULT.contains(&capability)
}

impl CapabilitySet {
    /// The default set with the names in `add` added and those in `drop` taken away.
    ///
    /// A name is `sys_time`, `SYS_TIME` or `CAP_SYS_TIME`; an unknown one is a `Kind::Config` error.
    pub(crate) fn new(add: &[String], drop: &[String], own_network: bool) -> Result<Self> {
        let mut set: Vec<Capability> = DEFAULT.to_vec();
        if !own_network {
            // With the host's network it would be power over the host's.
            set.retain(|capability| *capability != Capability::CAP_NET_ADMIN);
        }
        for name in add {
            let capability = parse(name)?;
            if !set.contains(&capability) {
                set.push(capability);
            }
        }
        let refused = drop.iter().map(|name| parse(name)).collect::<Result<Vec<_>>>()?;
        set.retain(|kept| !refused.contains(kept));
        let mut dropped: Vec<_> = caps::runtime::thread_all_supported().into_iter().collect();
        dropped.retain(|capability| !set.contains(capability));
        Ok(CapabilitySet { kept: set, dropped, refused })
    }

    /// Keeps `capability` too, unless the configuration drops it by name.
    pub(crate) fn keep(&mut self, capability: Capability) {
        if !self.refused.contains(&capability) && !self.kept.contains(&capability) {
            self.kept.push(capability);
            self.dropped.retain(|dropped| *dropped != capability);
        }
    }

    /// Takes everything else out of this process's bounding set, and so from all it executes.
    pub(crate) fn limit_this_process(&self) -> Result<()> {
        let fail = |e: caps::errors::CapsError| Error::failed(e.to_string()).step("drop capabilities");
        for capability in &self.dropped {
            caps::drop(None, CapSet::Bounding, *capability).map_err(fail)?;
        }
        caps::clear(None, CapSet::Inheritable).map_err(fail)
    }
}

fn parse(name: &str) -> Result<Capability> {
    crate::config::capability(name).ok_or_else(|| {
        Error::new(Kind::Config, format!("`{name}` is not a capability"))
            .hint("see capabilities(7); for example `sys_time`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_added_and_dropped_by_any_of_their_names() {
        let add = ["sys_time".to_owned(), "CAP_SYSLOG".to_owned()];
        let set = CapabilitySet::new(&add, &["net_raw".to_owned()], true).unwrap();
        assert!(set.kept.contains(&Capability::CAP_SYS_TIME) && set.kept.contains(&Capability::CAP_SYSLOG));
        assert!(!set.kept.contains(&Capability::CAP_NET_RAW) && !set.kept.contains(&Capability::CAP_SYS_MODULE));
        assert_eq!(CapabilitySet::new(&["fly".to_owned()], &[], true).unwrap_err().kind(), Kind::Config);
        assert!(!CapabilitySet::new(&[], &[], false).unwrap().kept.contains(&Capability::CAP_NET_ADMIN));
    }
}
