//! `[security]`: ids, capabilities, system calls, profiles.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::IdMap;
use crate::error::{Error, Kind};
use crate::types::{AddressFamilies, IdRange};

/// What containers in a guest and the users of rootless ones have for ids of their own: each takes [`IdRange::LEN`].
pub(crate) const NESTING_IDS: u32 = 16 * IdRange::LEN;

/// `[security]`: what a guest may do, and what it is confined by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Security {
    /// Root in the guest is root of the host.
    pub privileged: bool,
    /// Lets container managers run inside.
    pub nesting: bool,
    pub idmap: IdMap,
    /// How many ids the guest has, from 0 on; unset is [`IdRange::LEN`], with `nesting` up to [`NESTING_IDS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_range_size: Option<u32>,
    /// Capabilities by name (`sys_time` or `CAP_SYS_TIME`) beyond the default set.
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    /// Which system calls the guest's programs have; `seccomp` is its name in older files.
    #[serde(alias = "seccomp")]
    pub syscalls: Syscalls,
    /// Groups of calls that `syscalls` refuses and this guest is to have.
    pub syscalls_allow: Vec<CallGroup>,
    /// Which sockets the guest's programs can make.
    pub address_families: AddressFamilies,
    /// The AppArmor profile, on hosts that have AppArmor.
    pub apparmor: AppArmor,
    /// The SELinux label of the guest's processes, on hosts that have SELinux; unset leaves it to the
    /// host's policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
}

impl Default for Security {
    fn default() -> Self {
        Security {
            privileged: false,
            nesting: false,
            idmap: IdMap::Auto,
            id_range_size: None,
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            syscalls: Syscalls::Default,
            syscalls_allow: Vec::new(),
            address_families: AddressFamilies::default(),
            apparmor: AppArmor::Default,
            selinux_label: None,
        }
    }
}

impl Security {
    /// The ids that a guest has whose container's own range is `own`; a privileged one has the host's.
    pub(crate) fn ids(&self, own: IdRange) -> Option<IdRange> {
        match (self.privileged, self.idmap) {
            (true, _) => None,
            (false, IdMap::Auto) => Some(own),
            (false, IdMap::Fixed(range)) => Some(range),
        }
    }

    /// How many ids the guest has: from the least that it takes to the most that are of use to it.
    pub(crate) fn id_count(&self) -> RangeInclusive<u32> {
        match (self.id_range_size, self.nesting) {
            (Some(size), _) => size..=size,
            (None, true) => IdRange::LEN..=NESTING_IDS,
            (None, false) => IdRange::LEN..=IdRange::LEN,
        }
    }

    /// Whether the filter lets the calls of `group` through.
    pub fn allows(&self, group: CallGroup) -> bool {
        use CallGroup::{Bpf, IoUring, Keyring, MountApi, UserNamespaces, Userfaultfd};
        let by_level = match (self.syscalls, group) {
            (Syscalls::Off, _) => true,
            // A ring opens sockets by itself (IORING_OP_SOCKET), past the filter of `address-families`.
            (_, IoUring) => false,
            (_, Bpf) => self.nesting,
            (Syscalls::Default, Userfaultfd | Keyring | MountApi | UserNamespaces) => true,
            (Syscalls::Reduced, Userfaultfd | Keyring) => false,
            // Container managers make these.
            (Syscalls::Reduced, MountApi | UserNamespaces) => self.nesting,
        };
        by_level || self.syscalls_allow.contains(&group)
    }
}

/// `security.syscalls`: how much of the kernel's calls the guest's programs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Syscalls {
    /// What ordinary guests use.
    Default,
    /// Without what a server seldom needs and attacks often came through.
    Reduced,
    /// No filter at all, of sockets neither; only for guests that are trusted as the host is.
    Off,
}

impl Syscalls {
    pub fn name(self) -> &'static str {
        match self {
            Syscalls::Default => "default",
            Syscalls::Reduced => "reduced",
            Syscalls::Off => "off",
        }
    }
}

/// Calls that belong together and that a guest may be given back (`security.syscalls-allow`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallGroup {
    /// io_uring(7).
    IoUring,
    /// bpf(2); `nesting` has it.
    Bpf,
    /// userfaultfd(2).
    Userfaultfd,
    /// keyctl(2), add_key(2), request_key(2).
    Keyring,
    /// User namespaces made in the guest.
    UserNamespaces,
    /// fsopen(2) and its kin; mount(2) stays.
    MountApi,
}

impl CallGroup {
    pub const ALL: [CallGroup; 6] = [
        CallGroup::IoUring,
        CallGroup::Bpf,
        CallGroup::Userfaultfd,
        CallGroup::Keyring,
        CallGroup::UserNamespaces,
        CallGroup::MountApi,
    ];

    pub fn name(self) -> &'static str {
        match self {
            CallGroup::IoUring => "io-uring",
            CallGroup::Bpf => "bpf",
            CallGroup::Userfaultfd => "userfaultfd",
            CallGroup::Keyring => "keyring",
            CallGroup::UserNamespaces => "user-namespaces",
            CallGroup::MountApi => "mount-api",
        }
    }
}

/// `security.apparmor`: the profile of the guest's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppArmor {
    /// lxm's own profile for this kind of guest, if it is loaded.
    Default,
    /// None.
    Off,
    /// A loaded profile of the admin's.
    Profile(String),
}

impl std::str::FromStr for AppArmor {
    type Err = Error;

    fn from_str(s: &str) -> crate::error::Result<Self> {
        match s {
            "default" => Ok(AppArmor::Default),
            "off" => Ok(AppArmor::Off),
            // It is written to /proc/self/attr/apparmor/exec behind `exec `, up to the end of the line.
            name if !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic()) => {
                Ok(AppArmor::Profile(name.to_owned()))
            }
            name => Err(Error::new(Kind::Config, format!("`{}` is not the name of a profile", name.escape_default()))
                .hint("it is `default`, `off`, or a profile that `aa-status` shows")),
        }
    }
}

impl std::fmt::Display for AppArmor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            AppArmor::Default => "default",
            AppArmor::Off => "off",
            AppArmor::Profile(name) => name,
        })
    }
}

crate::types::serde_as_text!(AppArmor);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_calls_is_refused_and_given_back_by_name() {
        let of = |syscalls, nesting, allow: &[CallGroup]| Security {
            syscalls,
            nesting,
            syscalls_allow: allow.to_vec(),
            ..Security::default()
        };
        let allowed = |security: Security| CallGroup::ALL.into_iter().filter(|g| security.allows(*g)).count();
        assert_eq!(allowed(of(Syscalls::Off, false, &[])), 6);
        assert_eq!(allowed(of(Syscalls::Default, false, &[])), 4);
        assert_eq!(allowed(of(Syscalls::Default, true, &[])), 5);
        assert_eq!(allowed(of(Syscalls::Reduced, false, &[])), 0);
        assert_eq!(allowed(of(Syscalls::Reduced, true, &[])), 3);
        assert!(of(Syscalls::Reduced, false, &[CallGroup::Keyring]).allows(CallGroup::Keyring));
    }

    #[test]
    fn a_profile_is_one_word() {
        for text in ["", "a b", "a\nb", "é"] {
            assert_eq!(text.parse::<AppArmor>().unwrap_err().kind(), Kind::Config, "{text}");
        }
        assert_eq!("mine".parse::<AppArmor>().unwrap(), AppArmor::Profile("mine".to_owned()));
    }
}
