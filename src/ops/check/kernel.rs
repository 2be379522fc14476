//! What the kernel has: options, file systems, namespaces, security modules.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{CheckResult, CheckVerdict};

/// Linux 6.1, the kernel of Debian 12.
const FLOOR: (u32, u32) = (6, 1);

/// What the running kernel was built with, as far as that can be known.
pub(super) struct KernelConfig {
    /// `BRIDGE`, without `CONFIG_`, built in or as a module; `None` where no file tells.
    options: Option<BTreeSet<String>>,
    /// Modules that can be loaded or are built in, without `.ko` and with `_` for `-`.
    modules: BTreeSet<String>,
}

impl KernelConfig {
    pub(super) fn read() -> Self {
        let release = release();
        let text = read_gzip("/proc/config.gz")
            .or_else(|| fs::read_to_string(format!("/boot/config-{release}")).ok())
            .or_else(|| fs::read_to_string(format!("/lib/modules/{release}/config")).ok());
        let list = |file: &str| fs::read_to_string(format!("/lib/modules/{release}/{file}")).unwrap_or_default();
        let mut modules = modules_in(&list("modules.builtin"));
        modules.extend(modules_in(&list("modules.dep")));
        KernelConfig { options: text.as_deref().map(options_in), modules }
    }

    /// Whether the kernel has a feature: by its option, by its module, or loaded already.
    ///
    /// A module that the configuration names but that is not installed is not there.
    fn has(&self, option: &str, module: &str) -> Option<bool> {
        let is_module = self.options.as_ref().map(|options| options.contains(&format!("{option}=m")));
        if Path::new("/sys/module").join(module).exists() || self.modules.contains(module) {
            return Some(true);
        }
        match is_module? {
            true => Some(false),
            false => Some(self.options.as_ref()?.contains(&format!("{option}=y"))),
        }
    }

    /// A check of a feature that a module brings.
    pub(super) fn module(
        &self,
        section: &'static str,
        option: &str,
        module: &str,
        without: CheckVerdict,
        for_what: &str,
    ) -> CheckResult {
        let id = module.replace('_', "-");
        match self.has(option, module) {
            Some(true) => CheckResult::ok(section, id, for_what),
            Some(false) => {
                let remedy = format!("install a kernel with CONFIG_{option}, or its modules and `modprobe {module}`");
                CheckResult::not(without, section, id, format!("not possible: {for_what}"), remedy)
            }
            None => {
                let remedy = format!("the kernel's configuration cannot be read; try `modprobe {module}`");
                CheckResult::not(CheckVerdict::Unknown, section, id, for_what, remedy)
            }
        }
    }
}

fn release() -> String {
    nix::sys::utsname::uname().map(|uname| uname.release().to_string_lossy().into_owned()).unwrap_or_default()
}

fn read_gzip(file: &str) -> Option<String> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(fs::File::open(file).ok()?), &mut text).ok()?;
    Some(text)
}

/// The options set in a kernel's configuration, as `BRIDGE=y`.
fn options_in(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_prefix("CONFIG_")).map(str::to_owned).collect()
}

/// The modules of modules.builtin or modules.dep: `kernel/net/bridge/bridge.ko.xz: …`.
fn modules_in(list: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let file = line.split(':').next()?.rsplit('/').next()?;
        Some(file.split(".ko").next()?.replace('-', "_"))
    };
    list.lines().filter_map(name).collect()
}

pub(super) fn checks(config: &KernelConfig) -> Vec<CheckResult> {
    let mut checks = vec![version(&release()), rights()];
    checks.extend(["mnt", "pid", "net", "uts", "ipc", "cgroup"].map(namespace));
    checks.push(user_namespaces());
    checks.push(if Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        CheckResult::ok("kernel", "seccomp", "filters of system calls")
    } else {
        missing("seccomp", "no filters of system calls", "install a kernel with CONFIG_SECCOMP_FILTER")
    });
    checks.extend(confinement());
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    checks.push(if filesystems.lines().any(|line| line.trim_start_matches("nodev").trim() == "devpts") {
        CheckResult::ok("kernel", "devpts", "terminals of its own for each guest")
    } else {
        missing("devpts", "no terminals", "install a kernel with CONFIG_UNIX98_PTYS")
    });
    checks.push(config.module(
        "kernel",
        "CGROUP_BPF",
        "cgroup_bpf",
        CheckVerdict::Missing,
        "the closed list of devices",
    ));
    checks.push(config.module("kernel", "TUN", "tun", CheckVerdict::Lacks, "tunnels (VPN) in guests"));
    checks.push(config.module("kernel", "FUSE_FS", "fuse", CheckVerdict::Lacks, "FUSE file systems in guests"));
    checks
}

fn missing(id: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> CheckResult {
    CheckResult::not(CheckVerdict::Missing, "kernel", id, detail, remedy)
}

fn version(release: &str) -> CheckResult {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= FLOOR => CheckResult::ok("kernel", "version", release),
        _ => missing(
            "version",
            format!("Linux {release}; lxm needs {}.{}", FLOOR.0, FLOOR.1),
            "install a newer kernel: those of Debian 12 and Ubuntu 24.04 are new enough",
        ),
    }
}

/// Capabilities that lxm's own work takes, by number (capabilities(7)); a container around the host
/// may have taken some away.
const RIGHTS: [(u32, &str); 10] = [
    (0, "CHOWN"),
    (1, "DAC_OVERRIDE"),
    (3, "FOWNER"),
    (6, "SETGID"),
    (7, "SETUID"),
    (8, "SETPCAP"),
    (12, "NET_ADMIN"),
    (19, "SYS_PTRACE"),
    (21, "SYS_ADMIN"),
    (27, "MKNOD"),
];

fn rights() -> CheckResult {
    if !nix::unistd::geteuid().is_root() {
        return CheckResult::not(
            CheckVerdict::Unknown,
            "kernel",
            "rights",
            "not root: some of this is unknown",
            "run it with `sudo`",
        );
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    let lacking = |(number, _): &&(u32, &str)| mask.is_some_and(|mask| mask & 1 << number == 0);
    let lacking: Vec<&str> = RIGHTS.iter().filter(lacking).map(|(_, name)| *name).collect();
    if lacking.is_empty() {
        return CheckResult::ok("kernel", "rights", "root with the capabilities it takes");
    }
    missing(
        "rights",
        format!("root without {}", lacking.join(", ")),
        "if this host is a container, its manager must grant them",
    )
}

fn namespace(name: &str) -> CheckResult {
    let id = format!("{name}ns");
    if Path::new("/proc/self/ns").join(name).symlink_metadata().is_ok() {
        return CheckResult::ok("kernel", id, format!("{name} namespaces"));
    }
    let option = if name == "mnt" { "NAMESPACES".to_owned() } else { format!("{}_NS", name.to_uppercase()) };
    missing(id, format!("no {name} namespaces"), format!("install a kernel with CONFIG_{option}"))
}

/// A kernel may have them and an admin may have turned them off.
fn user_namespaces() -> CheckResult {
    let limit = fs::read_to_string("/proc/sys/user/max_user_namespaces").ok().and_then(|text| text.trim().parse().ok());
    match limit {
        Some(0) => missing(
            "userns",
            "user namespaces are turned off: no unprivileged containers",
            "`sysctl user.max_user_namespaces=15000`",
        ),
        Some(n) => CheckResult::ok("kernel", "userns", format!("unprivileged containers, at most {n} user namespaces")),
        None => missing("userns", "no user namespaces", "install a kernel with CONFIG_USER_NS"),
    }
}

/// What of the host's own settings stands behind a guest's confinement.
fn confinement() -> Vec<CheckResult> {
    let setting = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
    let mut checks = vec![security_module()];
    checks.extend(setting("unprivileged_bpf_disabled").map(|value| match value.trim() {
        "0" => CheckResult::not(
            CheckVerdict::Lacks,
            "kernel",
            "bpf",
            "users without rights can load BPF programs, which has been a way into the kernel",
            "`sysctl kernel.unprivileged_bpf_disabled=1`",
        ),
        _ => CheckResult::ok("kernel", "bpf", "only root loads BPF programs"),
    }));
    checks.extend(setting("yama/ptrace_scope").map(|value| match value.trim() {
        "0" => CheckResult::ok("kernel", "ptrace-scope", "each process may look into all others of its user"),
        _ => CheckResult::ok("kernel", "ptrace-scope", "processes look into their own children alone (yama)"),
    }));
    checks.push(module_loading(setting("modules_disabled").as_deref()));
    checks
}

/// Guests have the kernel load modules by mounting, by making links and by rules of a firewall.
fn module_loading(disabled: Option<&str>) -> CheckResult {
    match disabled.map(str::trim) {
        None => CheckResult::ok("kernel", "module-loading", "the kernel takes no modules"),
        Some("1") => CheckResult::ok("kernel", "module-loading", "closed (kernel.modules_disabled)"),
        Some(_) => CheckResult::ok(
            "kernel",
            "module-loading",
            "open: a guest's requests may load modules of file systems, links and firewalls",
        ),
    }
}

fn security_module() -> CheckResult {
    use crate::sys::apparmor;
    if fs::exists("/sys/fs/selinux/enforce").unwrap_or(false) {
        return CheckResult::ok("kernel", "lsm", "SELinux; `security.selinux-label` labels a guest");
    }
    let not = |detail: &str, remedy: &str| CheckResult::not(CheckVerdict::Lacks, "kernel", "lsm", detail, remedy);
    if !apparmor::is_enabled() {
        return not(
            "neither AppArmor nor SELinux: guests run without a profile",
            "install a kernel with AppArmor, or boot with `apparmor=1 security=apparmor`",
        );
    }
    match apparmor::PROFILES.iter().all(|profile| apparmor::is_loaded(profile)) {
        true => CheckResult::ok("kernel", "lsm", "AppArmor, with the profiles of lxm"),
        false if !nix::unistd::geteuid().is_root() => {
            CheckResult::not(CheckVerdict::Unknown, "kernel", "lsm", "AppArmor", "run it with `sudo`")
        }
        false => not(
            "AppArmor is on, the profiles of lxm are not loaded: guests run without",
            "`apt install apparmor`, then `apparmor_parser -r /etc/apparmor.d/lxm-containers`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_from_6_1_on_will_do() {
        for (release, verdict) in [
            ("6.1.0-18-amd64", CheckVerdict::Ok),
            ("6.18.44-fc-v669", CheckVerdict::Ok),
            ("7.0", CheckVerdict::Ok),
            ("6.0.9", CheckVerdict::Missing),
            ("5.15.0-91-generic", CheckVerdict::Missing),
            ("", CheckVerdict::Missing),
        ] {
            assert_eq!(version(release).verdict, verdict, "{release}");
        }
    }

    #[test]
    fn features_are_built_in_or_modules_that_are_there() {
        let config = KernelConfig {
            options: Some(options_in("CONFIG_IN=y\nCONFIG_GONE=m\nCONFIG_THERE=m\n# CONFIG_OFF is not set\n")),
            modules: modules_in("kernel/x/there-it.ko.xz: kernel/y.ko\n"),
        };
        for (option, module, wanted) in
            [("IN", "no_in", true), ("GONE", "no_gone", false), ("THERE", "there_it", true), ("OFF", "no_off", false)]
        {
            assert_eq!(config.has(option, module), Some(wanted), "{option}");
        }
        let unknown = KernelConfig { options: None, modules: BTreeSet::new() };
        assert_eq!(unknown.has("IN", "no_in"), None);
    }
}
