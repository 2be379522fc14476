//! What the guest's init finds: the container interface, ids, capabilities, mounts, devices.
//!
//! The probe reports it from inside; the numbers are those of systemd's
//! CONTAINER_INTERFACE.md and of systemd-nspawn.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Guest, Sandbox, Trial, eventually};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe);
    vec![
        probe("contract::init_is_a_process_like_a_fresh_boot_s", init_is_like_a_fresh_boot_s),
        probe("contract::environment_tells_the_manager_and_nothing_of_the_host", environment),
        probe("contract::every_user_can_ping", ping),
        probe("contract::ids_are_a_range_of_its_own", ids_are_a_range_of_its_own),
        probe("contract::two_containers_never_share_ids", two_containers_never_share_ids),
        probe("contract::mounts_are_those_of_the_container_interface", mounts),
        probe("contract::devices_are_a_closed_list", devices),
        probe("contract::settings_of_the_host_cannot_be_written", settings_cannot_be_written),
        probe("contract::capabilities_are_those_of_nspawn", capabilities),
        probe("contract::configured_capabilities_are_added_and_dropped", configured_capabilities),
        probe("contract::system_calls_are_denied_or_unknown", system_calls),
        probe("contract::a_privileged_guest_has_the_host_s_ids_and_no_more_devices", privileged),
        probe("contract::cgroups_begin_at_the_guest", cgroups_begin_at_the_guest),
        probe("contract::configured_mounts_and_devices_are_there", configured_mounts_and_devices),
        probe("contract::every_boot_has_an_id_of_its_own", boot_ids),
    ]
}

/// Capabilities that systemd-nspawn keeps, and NET_ADMIN for a network of its own, by number.
const KEPT: [u32; 27] = [
    0, 1, 2, 3, 4, 5, 6, 7, // CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID
    8, 9, 10, 11, 12, 13, // SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW
    15, 18, 19, 21, 22, 23, 24, // IPC_OWNER SYS_CHROOT SYS_PTRACE SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE
    26, 27, 28, 29, 30, 31, // SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
];

fn mask(capabilities: &[u32]) -> u64 {
    capabilities.iter().fold(0, |mask, capability| mask | 1 << capability)
}

/// Starts `p` and gives what its init reports of this boot.
fn report_of_init(sandbox: &Sandbox) -> Value {
    sandbox.lxm(&["start", "p"]).ok();
    first_report(sandbox, "p")
}

/// What a probe that runs for the first time reports on its console.
pub fn first_report(sandbox: &Sandbox, name: &str) -> Value {
    report_of_boot(sandbox, name, 1)
}

/// The report of a boot, counted from 1 over the container's life.
fn report_of_boot(sandbox: &Sandbox, name: &str, boot: usize) -> Value {
    let mut found = None;
    eventually("the probe reports on its console", Duration::from_secs(10), || {
        let log = sandbox.console_log(name);
        let mut reports = log.lines().filter_map(|line| line.trim_end().strip_prefix("PROBE "));
        found = reports.nth(boot - 1).and_then(|line| serde_json::from_str(line).ok());
        found.is_some()
    });
    found.expect("a report was found")
}

/// What a process attached to the guest sees.
fn report_of_attached(sandbox: &Sandbox, more: &[&str]) -> Value {
    let mut args = vec!["attach", "p"];
    args.extend(more);
    args.extend(["--", "/bin/probe", "report"]);
    sandbox.lxm(&args).ok().json()
}

/// What the probe prints when it is attached with these arguments.
fn probe(sandbox: &Sandbox, args: &[&str]) -> String {
    let args: Vec<&str> = ["attach", "p", "--", "/bin/probe"].iter().chain(args).copied().collect();
    sandbox.lxm(&args).ok().line().to_owned()
}

fn text<'a>(report: &'a Value, key: &str) -> &'a str {
    report[key].as_str().unwrap_or_else(|| panic!("the report has no `{key}`"))
}

fn hex(report: &Value, key: &str) -> u64 {
    u64::from_str_radix(text(report, key), 16).unwrap_or_else(|e| panic!("{key}: {e}"))
}

fn init_is_like_a_fresh_boot_s(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let report = report_of_init(sandbox);
    for (key, expected) in [
        ("pid", "1"),
        ("parent", "0"),
        ("session", "1"),
        ("cwd", "/"),
        ("umask", "0022"),
        ("uid", "0\t0\t0\t0"),
        ("gid", "0\t0\t0\t0"),
        ("groups", ""),
        ("no_new_privs", "0"),
        ("signals_blocked", "0000000000000000"),
        ("hostname", "p"),
        ("console_is_terminal", "true"),
        ("container_manager", "lxm"),
    ] {
        assert_eq!(text(&report, key), expected, "{key}");
    }
    // SIGPIPE is ignored by the probe's own runtime; 32 and 33 are glibc's own, which its posix_spawn ignores
    // in every child and does not let a child change back.
    assert_eq!(hex(&report, "signals_ignored") & !(1 << 12 | 1 << 31 | 1 << 32), 0);
    assert_eq!(report["argv"], serde_json::json!(["/sbin/init"]));
    assert_eq!(report["links"], serde_json::json!(["lo"]));
    assert_eq!(report["processes"], serde_json::json!(["1"]));
    let descriptors = report["descriptors"].as_object().unwrap();
    let open: Vec<&String> = descriptors.keys().collect();
    assert_eq!(open, ["0", "1", "2"], "{descriptors:?}");
    assert!(text(&report, "host_os_release").contains("ID="));
    assert_eq!(text(&report, "container_uuid"), sandbox.lxm(&["config", "get", "p", "uuid"]).ok().line());
}

fn environment(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    sandbox.lxm(&["config", "set", "p", "environment.COLOUR", "green", "environment.HOME", "/srv"]).ok();
    let report = report_of_init(sandbox);
    let all = std::fs::read(format!("/proc/{}/environ", sandbox.leader("p"))).unwrap();
    let homes: Vec<_> = all.split(|byte| *byte == 0).filter(|line| line.starts_with(b"HOME=")).collect();
    assert_eq!(homes, [b"HOME=/srv"], "each name has one value, the setting's");
    let environment = &report["env"];
    let uuid = sandbox.lxm(&["config", "get", "p", "uuid"]).ok();
    for (name, expected) in [("container", "lxm"), ("container_uuid", uuid.line()), ("COLOUR", "green")] {
        assert_eq!(environment[name], expected, "{name}");
    }
    let names = environment.as_object().unwrap().keys();
    let known = ["COLOUR", "CREDENTIALS_DIRECTORY", "HOME", "LOGNAME", "NOTIFY_SOCKET", "PATH", "TERM", "USER"];
    let foreign: Vec<_> =
        names.filter(|name| !known.contains(&name.as_str()) && !name.starts_with("container")).collect();
    assert!(foreign.is_empty(), "{foreign:?} came from the host");
}

/// ICMP sockets are for all users, of guests with ids of their own and with the host's.
fn ping(sandbox: &Sandbox) {
    // socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)
    let call = ["/bin/probe", "syscall", "41", "2", "2", "1"];
    for (name, more) in [("p", &[][..]), ("q", &["--privileged"])] {
        sandbox.boot(name, Guest::Probe, more);
        let told = sandbox.lxm(&[&["exec", "--user", "1234:4321", name], &call[..]].concat()).ok();
        assert!(told.stdout.starts_with("ok "), "{told}");
    }
}

/// First id on the host, and how many, of a report.
fn range(report: &Value) -> (u64, u64) {
    let map = text(report, "uid_map");
    assert_eq!(map, text(report, "gid_map"));
    let fields: Vec<u64> = map.split_whitespace().map(|field| field.parse().unwrap()).collect();
    assert_eq!(fields.len(), 3, "more than one range: {map}");
    assert_eq!(fields[0], 0);
    (fields[1], fields[2])
}

fn ids_are_a_range_of_its_own(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let (first, count) = range(&report_of_init(sandbox));
    assert_eq!(count, 65536);
    assert!((524_288..=1_879_048_191).contains(&first), "{first} is none of the ids for containers");
    let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.leader("p"))).unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    assert_eq!(uid.split_whitespace().next(), Some(first.to_string().as_str()), "the host sees another id");
    // It stays the same over starts: files on shared mounts belong to it.
    sandbox.lxm(&["restart", "p"]).ok();
    assert_eq!(range(&report_of_boot(sandbox, "p", 2)).0, first);
}

fn two_containers_never_share_ids(sandbox: &Sandbox) {
    for name in ["p", "q"] {
        sandbox.create(name, Guest::Probe, &[]);
        sandbox.lxm(&["start", name]).ok();
    }
    let (p, q) = (range(&first_report(sandbox, "p")).0, range(&first_report(sandbox, "q")).0);
    assert!(p.abs_diff(q) >= 65536, "{p} and {q} overlap");
}

/// A line of mountinfo: options, propagation and type of what is mounted on `at` last.
fn mounted<'a>(report: &'a Value, at: &str) -> Option<Vec<&'a str>> {
    let mut lines = report["mounts"].as_array().unwrap().iter().rev().filter_map(Value::as_str);
    let found = lines.find(|line| line.split(' ').nth(4) == Some(at))?;
    Some(found.split(' ').collect())
}

fn mounts(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let report = report_of_init(sandbox);
    for (at, kind, options) in [
        ("/proc", "proc", "rw,nosuid,nodev,noexec"),
        ("/proc/sys", "proc", "ro,nosuid,nodev,noexec"),
        ("/proc/sys/net", "proc", "rw,nosuid,nodev,noexec"),
        ("/sys", "sysfs", "ro,nosuid,nodev,noexec"),
        ("/sys/fs/cgroup", "cgroup2", "rw,nosuid,nodev,noexec"),
        ("/dev", "tmpfs", "rw,nosuid"),
        ("/dev/pts", "devpts", "rw,nosuid,noexec"),
        ("/dev/shm", "tmpfs", "rw,nosuid,nodev"),
        ("/dev/mqueue", "mqueue", "rw,nosuid,nodev,noexec"),
        ("/dev/console", "devpts", "rw"),
        ("/run", "tmpfs", "rw,nosuid,nodev"),
        ("/run/host", "tmpfs", "ro,nosuid,nodev"),
    ] {
        let line = mounted(&report, at).unwrap_or_else(|| panic!("nothing is mounted on {at}"));
        let dash = line.iter().position(|field| *field == "-").unwrap();
        assert_eq!(line[dash + 1], kind, "{at}: {line:?}");
        assert!(line[5].starts_with(options), "{at}: {line:?}");
    }
    let masked = ["/proc/kcore", "/proc/keys", "/proc/sysrq-trigger", "/proc/timer_list"];
    for masked in masked.iter().filter(|path| std::path::Path::new(path).exists()) {
        assert!(mounted(&report, masked).is_some(), "{masked} is not masked");
    }
    let root = mounted(&report, "/").unwrap();
    assert!(root.iter().any(|field| field.starts_with("shared:")), "the root is not shared: {root:?}");
    let all = report["mounts"].to_string();
    assert!(!all.contains(sandbox.root().to_str().unwrap()), "mounts show where the host keeps it: {all}");
}

fn devices(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let report = report_of_init(sandbox);
    let devices = report["devices"].as_object().unwrap();
    for (name, expected) in [
        ("null", "char 1:3 666"),
        ("zero", "char 1:5 666"),
        ("full", "char 1:7 666"),
        ("random", "char 1:8 666"),
        ("urandom", "char 1:9 666"),
        ("tty", "char 5:0 666"),
        ("console", "char 136:"),
        ("ptmx", "link pts/ptmx"),
        ("fd", "link /proc/self/fd"),
        ("stdin", "link /proc/self/fd/0"),
        ("stdout", "link /proc/self/fd/1"),
        ("stderr", "link /proc/self/fd/2"),
    ] {
        let found = devices.get(name).and_then(Value::as_str).unwrap_or("nothing");
        assert!(found.starts_with(expected), "/dev/{name} is {found}");
    }
    for (name, what) in devices {
        let known = what.as_str().unwrap_or("");
        assert!(!known.starts_with("block"), "/dev/{name} is {known}");
        assert!(!["kmsg", "mem", "kmem", "port", "tty0", "tty1"].contains(&name.as_str()), "/dev/{name} is there");
    }
    for present in ["/dev/random", "/dev/full"] {
        assert_eq!(report["readable"][present], "ok", "{present}");
    }
    assert_eq!(report["writable"]["/dev/null"], "ok");
}

fn settings_cannot_be_written(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let report = report_of_init(sandbox);
    let writable = &report["writable"];
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/overcommit_memory",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/profiling",
        "/run/host/os-release",
    ] {
        assert_ne!(writable[path], "ok", "{path} can be written");
    }
    for path in
        ["/proc/sys/net/ipv4/ip_forward", "/proc/self/oom_score_adj", "/sys/fs/cgroup/cgroup.procs", "/", "/dev"]
    {
        assert_eq!(writable[path], "ok", "{path}");
    }
    for path in ["/dev/kmsg", "/dev/mem", "/proc/kmsg"] {
        assert_ne!(report["readable"][path], "ok", "{path} can be read");
    }
}

fn capabilities(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    for report in [report_of_init(sandbox), report_of_attached(sandbox, &[])] {
        assert_eq!(format!("{:x}", hex(&report, "cap_bounding")), format!("{:x}", mask(&KEPT)));
        assert_eq!(hex(&report, "cap_effective"), mask(&KEPT));
        assert_eq!(hex(&report, "cap_ambient"), 0);
    }
}

fn configured_capabilities(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    sandbox.lxm(&["config", "set", "p", "security.capabilities-add", "[\"sys_time\"]"]).ok();
    sandbox.lxm(&["config", "set", "p", "security.capabilities-drop", "[\"CAP_MKNOD\", \"net_raw\"]"]).ok();
    let expected = (mask(&KEPT) | 1 << 25) & !(1 << 27 | 1 << 13);
    assert_eq!(hex(&report_of_init(sandbox), "cap_bounding"), expected);
}

fn system_calls(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    assert_eq!(text(&report_of_init(sandbox), "seccomp"), "2");
    assert_eq!(text(&report_of_attached(sandbox, &[]), "seccomp"), "2");
    for (call, args, expected, what) in [
        ("246", vec![], "errno 1", "kexec_load"),
        ("304", vec![], "errno 1", "open_by_handle_at"),
        ("313", vec![], "errno 1", "finit_module"),
        ("298", vec![], "errno 1", "perf_event_open"),
        ("321", vec![], "errno 1", "bpf"),
        ("999", vec![], "errno 38", "a call that does not exist yet"),
        ("435", vec![], "errno 22", "clone3, without arguments"),
        ("41", vec!["16", "3", "9"], "errno 97", "a socket for the audit system"),
        ("39", vec![], "ok", "getpid"),
    ] {
        let args: Vec<&str> = ["syscall", call].into_iter().chain(args).collect();
        let told = probe(sandbox, &args);
        assert!(told.starts_with(expected), "{what}: {told}");
    }
}

fn privileged(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &["--privileged"]);
    let report = report_of_init(sandbox);
    assert_eq!(range(&report), (0, u64::from(u32::MAX)));
    let host = std::fs::read_to_string("/proc/self/status").unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    let host = u64::from_str_radix(host.trim(), 16).unwrap();
    assert_eq!(format!("{:x}", hex(&report, "cap_bounding")), format!("{:x}", mask(&KEPT) & host));
    assert_eq!(probe(sandbox, &["mknod", "/dev/another-null", "1", "3"]), "ok 0");
    assert_eq!(probe(sandbox, &["mknod", "/dev/disk", "254", "0"]), "errno 1");
    assert_eq!(sandbox.info("p", "privileged"), true);
    assert!(sandbox.lxm(&["list", "-f"]).ok().stdout.contains("PRIVILEGED"));
}

fn cgroups_begin_at_the_guest(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    for report in [report_of_init(sandbox), report_of_attached(sandbox, &[])] {
        for line in text(&report, "cgroup").lines() {
            let path = line.rsplit(':').next().unwrap();
            // Attached commands have a leaf of their own.
            assert!(["/", "/.lxm"].contains(&path), "the guest sees where it is: {line}");
        }
        let files = report["root_of_cgroups"].as_array().unwrap();
        assert!(files.iter().any(|file| file == "cgroup.procs"), "not a v2 tree: {files:?}");
    }
}

fn configured_mounts_and_devices(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let shared = sandbox.path("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("file"), "from the host").unwrap();
    let text = format!(
        "\n[[mount]]\nsource = \"{0}\"\ntarget = \"/mnt/shared\"\nread-only = true\nidmap = \"guest\"\n\
         \n[[mount]]\nsource = \"/nonexistent\"\ntarget = \"/mnt/none\"\noptional = true\n\
         \n[[device]]\npath = \"/dev/loop-control\"\n",
        shared.display()
    );
    let file = sandbox.layout().config_file(&"p".parse().unwrap());
    let config = std::fs::read_to_string(&file).unwrap() + &text;
    std::fs::write(&file, config).unwrap();
    let report = report_of_init(sandbox);
    assert!(mounted(&report, "/mnt/shared").is_some_and(|line| line[5].starts_with("ro")));
    assert_eq!(probe(sandbox, &["read", "/mnt/shared/file"]), "ok 13");
    assert_eq!(probe(sandbox, &["write", "/mnt/shared/file", "x"]), "errno 30");
    if std::path::Path::new("/dev/loop-control").exists() {
        let found = report["devices"]["loop-control"].as_str().unwrap_or("nothing");
        assert!(found.starts_with("char 10:237"), "/dev/loop-control is {found}");
    }
    // The same by the command line; one that every guest has is no trouble.
    let set = ["mount.2.source", "/nonexistent", "mount.2.target", "/mnt/x", "mount.2.optional", "true"];
    sandbox.lxm(&[&["config", "set", "p", "device.1.path", "/dev/null"][..], &set].concat()).ok();
    sandbox.lxm(&["restart", "p"]).ok();
    let null = report_of_boot(sandbox, "p", 2)["devices"]["null"].as_str().unwrap().to_owned();
    assert_eq!(null, report["devices"]["null"].as_str().unwrap());
}

fn boot_ids(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let first = text(&report_of_init(sandbox), "boot_id").to_owned();
    let host = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(first.len(), 36, "`{first}` is no UUID");
    assert_ne!(first, host.trim());
    sandbox.lxm(&["restart", "p"]).ok();
    assert_ne!(text(&report_of_boot(sandbox, "p", 2), "boot_id"), first);
}
