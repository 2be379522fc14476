//! What a guest is confined by.

use std::fs;
use std::io::Read;
use std::path::Path;

use nix::unistd::Pid;

use crate::config::{CallGroup, Syscalls};
use crate::container::status::Observation;

/// What of it the configuration says, and what the kernel says of a running guest's init.
#[derive(Debug)]
pub(crate) struct Confined {
    /// Its root is not the host's.
    pub user_namespace: bool,
    pub nesting: bool,
    /// Capabilities added to those of every guest, and those taken from it.
    pub capabilities_added: Vec<String>,
    pub capabilities_dropped: Vec<String>,
    pub syscalls: &'static str,
    /// Groups of calls that are refused (`security.syscalls-allow` gives one back).
    pub refused_calls: Vec<&'static str>,
    /// Kinds of sockets that can be made; `all` where none is refused.
    pub address_families: Vec<String>,
    /// Devices beyond those that every guest has.
    pub devices: Vec<String>,
    pub running: Option<Running>,
}

/// As the kernel says.
#[derive(Debug)]
pub(crate) struct Running {
    /// Its init's bounding set: what no process of the guest can ever have more of.
    pub capabilities: Vec<String>,
    /// Programs that each system call passes.
    pub seccomp_filters: u64,
    pub no_new_privs: bool,
    /// The AppArmor label, `None` where the host has no AppArmor.
    pub apparmor: Option<String>,
    pub selinux: Option<String>,
    pub covers: Covers,
}

/// What its init sees nothing of, or cannot write to, in the kernel's file systems.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Covers {
    pub masked: Vec<String>,
    pub read_only: Vec<String>,
}

impl Covers {
    /// The most that is read of a mount table, which a guest may fill. What lxm mounts is at its head.
    const LONGEST: u64 = 1 << 20;

    fn of(leader: Pid) -> Option<Self> {
        let file = fs::File::open(format!("/proc/{leader}/mountinfo")).ok()?;
        let mut bytes = Vec::new();
        file.take(Self::LONGEST).read_to_end(&mut bytes).ok()?;
        // What a guest calls its mounts need not be text.
        Some(Self::read(&String::from_utf8_lossy(&bytes)))
    }

    /// Reads a table in the form of proc_pid_mountinfo(5).
    fn read(table: &str) -> Self {
        let mut covers = Covers::default();
        for line in table.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let &[_, _, _, root, point, options, ..] = fields.as_slice() else { continue };
            if !["/proc", "/sys"].iter().any(|top| Path::new(point).starts_with(top)) {
                continue;
            }
            let list = match () {
                () if root == "/null" => &mut covers.masked,
                () if options.split(',').any(|option| option == "ro") => &mut covers.read_only,
                () => continue,
            };
            list.push(point.to_owned());
        }
        covers.masked.sort();
        covers.read_only.sort();
        covers
    }
}

impl Confined {
    /// `None` where the configuration cannot be read.
    pub(crate) fn of(seen: &Observation) -> Option<Self> {
        let config = seen.config().ok()?;
        let security = &config.security;
        let allowed = match security.syscalls {
            Syscalls::Off => None,
            _ => security.address_families.allowed(),
        };
        let names = |allowed: std::collections::BTreeSet<_>| allowed.iter().map(ToString::to_string).collect();
        let refused = |group: &CallGroup| !security.allows(*group);
        Some(Confined {
            user_namespace: !seen.privileged()?,
            nesting: security.nesting,
            capabilities_added: security.capabilities_add.clone(),
            capabilities_dropped: security.capabilities_drop.clone(),
            syscalls: security.syscalls.name(),
            refused_calls: CallGroup::ALL.into_iter().filter(refused).map(CallGroup::name).collect(),
            address_families: allowed.map_or_else(|| vec!["all".to_owned()], names),
            devices: config.device.iter().map(|device| device.path.to_string_lossy().into_owned()).collect(),
            running: seen.leader().and_then(Running::of),
        })
    }
}

impl Running {
    /// `None` where the process is gone.
    fn of(leader: Pid) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{leader}/status")).ok()?;
        let field =
            |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
        let number = |key: &str| field(key).and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(Running {
            capabilities: capabilities(u64::from_str_radix(field("CapBnd")?, 16).ok()?),
            seccomp_filters: number("Seccomp_filters"),
            no_new_privs: number("NoNewPrivs") == 1,
            apparmor: label(leader, "apparmor/current"),
            covers: Covers::of(leader).unwrap_or_default(),
            selinux: if fs::exists("/sys/fs/selinux/enforce").unwrap_or(false) {
                label(leader, "current")
            } else {
                None
            },
        })
    }
}

/// The names of a mask's capabilities, without `CAP_`.
fn capabilities(mask: u64) -> Vec<String> {
    let has = |capability: &caps::Capability| mask & capability.bitmask() != 0;
    let mut names: Vec<String> = caps::all()
        .into_iter()
        .filter(has)
        .map(|capability| capability.to_string().trim_start_matches("CAP_").to_owned())
        .collect();
    names.sort();
    names
}

/// What a security module calls a process (proc_pid_attr(5)).
fn label(pid: Pid, file: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/attr/{file}")).ok()?;
    Some(text.trim_end_matches(['\n', '\0']).to_owned()).filter(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_are_distinguished_from_writable_mounts() {
        let table = "1 0 0:5 / / rw,relatime - ext4 /dev/a rw\n\
                     2 1 0:6 / /proc rw,nosuid - proc proc rw\n\
                     3 2 0:6 /sys /proc/sys ro,nosuid - proc proc rw\n\
                     4 3 0:6 /sys/net /proc/sys/net rw,nosuid - proc proc rw\n\
                     5 2 0:7 /null /proc/kcore rw,nosuid - tmpfs tmpfs rw\n\
                     6 1 0:8 / /sys ro,nosuid - sysfs sysfs rw\n\
                     7 1 0:8 / /system ro - sysfs sysfs rw\n\
                     half a line\n";
        let covers = Covers::read(table);
        assert_eq!(covers.masked, ["/proc/kcore"]);
        assert_eq!(covers.read_only, ["/proc/sys", "/sys"]);
    }
}
