//! What of the kernel a guest can reach: sockets, system calls, capabilities.
//!
//! The means of each attack are shown in the same trial: what a guest is refused, the next one, from
//! which the protection was taken, gets.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr as UnixSocketAddr, UnixListener};
use std::process::Command;
use std::time::Duration;

use crate::support::{Guest, Need, Sandbox, Trial, command};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe);
    let busybox = |name, body| Trial::new(name, body).guest(Guest::Busybox);
    vec![
        probe("escape::surface::address_families", address_families),
        probe("escape::surface::protocols_that_load_modules", protocols),
        busybox("escape::surface::sockets_of_32_bit_programs", socketcall).needs(Need::Tool("gcc")),
        probe("escape::surface::io_uring", io_uring),
        probe("escape::surface::reduced_calls", reduced_calls),
        busybox("escape::surface::filters_hold_attached_commands", attached).needs(Need::Tool("gcc")),
        busybox("escape::surface::cve_2022_29162_inheritable_capabilities", inheritable),
        busybox("escape::surface::cve_2022_0492_release_agent", release_agent),
        busybox("escape::surface::cve_2020_15257_abstract_sockets", abstract_sockets),
        busybox("escape::surface::cve_2026_30892_user_names", user_names),
        Trial::new("escape::surface::reduced_bookworm_boots_whole", |s| boots_whole(s, Guest::Bookworm))
            .guest(Guest::Bookworm)
            .limit(300),
        Trial::new("escape::surface::reduced_trixie_boots_whole", |s| boots_whole(s, Guest::Trixie))
            .guest(Guest::Trixie)
            .limit(300),
        probe("escape::surface::confinement_is_shown", shown),
    ]
}

/// Starts a guest of the probe with these settings.
fn start(sandbox: &Sandbox, name: &str, guest: Guest, settings: &[(&str, &str)]) {
    sandbox.create(name, guest, &[]);
    for (key, value) in settings {
        sandbox.lxm(&["config", "set", name, &format!("security.{key}"), value]).ok();
    }
    sandbox.lxm(&["start", name]).ok();
}

/// What the kernel answers a system call of the guest's root: `ok VALUE` or `errno NUMBER`.
fn call(sandbox: &Sandbox, name: &str, number: libc::c_long, args: &[libc::c_long]) -> String {
    let mut words: Vec<String> = ["attach", name, "--", "/sbin/init", "syscall"].map(String::from).into();
    words.push(number.to_string());
    words.extend(args.iter().map(ToString::to_string));
    sandbox.lxm(&words).ok().line().to_owned()
}

fn socket(sandbox: &Sandbox, name: &str, family: i32, kind: i32, protocol: i32) -> String {
    let [family, kind, protocol] = [family, kind, protocol].map(libc::c_long::from);
    call(sandbox, name, libc::SYS_socket, &[family, kind, protocol])
}

fn errno(number: i32) -> String {
    format!("errno {number}")
}

const DGRAM: i32 = libc::SOCK_DGRAM;
const STREAM: i32 = libc::SOCK_STREAM;
const RAW: i32 = libc::SOCK_RAW;
const NETLINK_XFRM: i32 = 6;

fn address_families(sandbox: &Sandbox) {
    start(sandbox, "a", Guest::Probe, &[]);
    start(sandbox, "open", Guest::Probe, &[("address-families", "all")]);
    let mut reached = Vec::new();
    for family in (0..=46).filter(|family| ![1, 2, 10, 16, 17].contains(family)) {
        for kind in [STREAM, DGRAM, RAW, libc::SOCK_SEQPACKET] {
            assert_eq!(socket(sandbox, "a", family, kind, 0), errno(libc::EAFNOSUPPORT), "{family} {kind}");
        }
        if [STREAM, RAW].iter().any(|kind| socket(sandbox, "open", family, *kind, 0).starts_with("ok")) {
            reached.push(family);
        }
    }
    assert!(!reached.is_empty(), "this kernel has no other family, so that nothing was shown");
    for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
        assert!(socket(sandbox, "a", family, STREAM, 0).starts_with("ok"), "{family}");
        assert!(socket(sandbox, "a", family, DGRAM | libc::SOCK_CLOEXEC, 0).starts_with("ok"), "{family}");
    }
    assert!(socket(sandbox, "a", libc::AF_PACKET, RAW, 0).starts_with("ok"));
    for protocol in [libc::NETLINK_ROUTE, libc::NETLINK_NETFILTER, libc::NETLINK_GENERIC, libc::NETLINK_KOBJECT_UEVENT]
    {
        assert!(socket(sandbox, "a", libc::AF_NETLINK, RAW, protocol).starts_with("ok"), "{protocol}");
    }
    // A socket pair is a way to the same code.
    let pair = |name, family: i32| call(sandbox, name, libc::SYS_socketpair, &[family.into(), STREAM.into(), 0, 0]);
    assert_eq!(pair("a", reached[0]), errno(libc::EAFNOSUPPORT));
    assert_ne!(pair("open", reached[0]), errno(libc::EAFNOSUPPORT));
    assert_eq!(pair("a", libc::AF_UNIX), errno(libc::EFAULT));
    // What an admin names is there, and what he does not is not.
    start(sandbox, "own", Guest::Probe, &[("address-families", &format!("UNIX,{}", name_of(reached[0])))]);
    assert!([STREAM, RAW].iter().any(|kind| socket(sandbox, "own", reached[0], *kind, 0).starts_with("ok")));
    assert_eq!(socket(sandbox, "own", libc::AF_INET, STREAM, 0), errno(libc::EAFNOSUPPORT));
}

fn name_of(family: i32) -> &'static str {
    match family {
        libc::AF_ALG => "ALG",
        libc::AF_VSOCK => "AF_VSOCK",
        libc::AF_XDP => "xdp",
        libc::AF_CAN => "CAN",
        other => panic!("name family {other} here"),
    }
}

fn protocols(sandbox: &Sandbox) {
    start(sandbox, "a", Guest::Probe, &[]);
    let open = "default,NETLINK_XFRM,NETLINK_AUDIT,IPPROTO_UDPLITE,IPPROTO_SCTP";
    start(sandbox, "open", Guest::Probe, &[("address-families", open)]);
    let mut reached = 0;
    let mut refused = |family: i32, kind: i32, protocol: i32, answer: i32| {
        assert_eq!(socket(sandbox, "a", family, kind, protocol), errno(answer), "{family} {kind} {protocol}");
        reached += usize::from(socket(sandbox, "open", family, kind, protocol).starts_with("ok"));
    };
    refused(libc::AF_NETLINK, RAW, NETLINK_XFRM, libc::EPROTONOSUPPORT);
    refused(libc::AF_NETLINK, DGRAM | libc::SOCK_CLOEXEC, NETLINK_XFRM, libc::EPROTONOSUPPORT);
    refused(libc::AF_NETLINK, RAW, libc::NETLINK_AUDIT, libc::EAFNOSUPPORT);
    for family in [libc::AF_INET, libc::AF_INET6] {
        refused(family, DGRAM, libc::IPPROTO_UDPLITE, libc::EPROTONOSUPPORT);
        refused(family, STREAM, libc::IPPROTO_SCTP, libc::EPROTONOSUPPORT);
        refused(family, libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK, libc::IPPROTO_SCTP, libc::EPROTONOSUPPORT);
    }
    assert!(reached >= 3, "{reached} of these are there without the filter");
    for protocol in [1, 8, 18, 20, 21, 22] {
        assert_eq!(socket(sandbox, "a", libc::AF_NETLINK, RAW, protocol), errno(libc::EPROTONOSUPPORT), "{protocol}");
    }
    // Raw sockets are IP's own, and an everyday protocol is not in the way.
    assert!(socket(sandbox, "a", libc::AF_INET, RAW, libc::IPPROTO_SCTP).starts_with("ok"));
    assert!(socket(sandbox, "a", libc::AF_INET, STREAM, libc::IPPROTO_TCP).starts_with("ok"));
    assert!(socket(sandbox, "a", libc::AF_INET, DGRAM, libc::IPPROTO_UDP).starts_with("ok"));
}

/// A 32-bit program without a C library: socketcall(SYS_SOCKET, {FAMILY, SOCK_SEQPACKET, 0}) as the C
/// library of Debian's and Fedora's 32-bit programs makes it; its exit status is the errno.
const SOCKETCALL: &str = r#"
static int call(int number, int a, const void *b) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b) : "memory");
    return result;
}
void _start(void) {
    volatile unsigned arguments[3] = {FAMILY, 5, 0};
    int result = call(102, 1, (const void *)arguments);
    call(1, result < 0 ? -result : 0, 0);
}
"#;

/// Compiles a C program that needs nothing.
pub(super) fn compile(sandbox: &Sandbox, name: &str, source: &str, options: &[&str]) -> String {
    let (file, program) = (sandbox.path(format!("{name}.c")), sandbox.path(name));
    fs::write(&file, source).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-nostdlib", "-static", "-no-pie", "-fno-pie", "-fno-stack-protector", "-O1"]).args(options);
    gcc.arg("-o").arg(&program).arg(&file);
    command::bounded(gcc, b"", Duration::from_secs(60)).ok();
    program.to_string_lossy().into_owned()
}

fn socketcall(sandbox: &Sandbox) {
    let program =
        |family: &str| compile(sandbox, &format!("f{family}"), SOCKETCALL, &["-m32", &format!("-DFAMILY={family}")]);
    // UNIX, which every guest has, and VSOCK.
    let programs = [program("1"), program("40")];
    let status = |name: &str, program: &str| {
        sandbox.lxm(&["push", program, &format!("{name}:/run/socketcall")]).ok();
        sandbox.lxm(&["attach", name, "--", "chmod", "755", "/run/socketcall"]).ok();
        sandbox.lxm(&["attach", name, "--", "/run/socketcall"]).status
    };
    start(sandbox, "a", Guest::Busybox, &[]);
    start(sandbox, "open", Guest::Busybox, &[("address-families", "default,SOCKETCALL")]);
    for program in &programs {
        assert_eq!(status("a", program), libc::EAFNOSUPPORT);
    }
    // The means: no filter sees the family behind the pointer.
    assert_eq!(status("open", &programs[0]), 0);
    assert_eq!(status("open", &programs[1]), 0, "this kernel has no vsock");
}

fn io_uring(sandbox: &Sandbox) {
    start(sandbox, "a", Guest::Probe, &[]);
    start(sandbox, "open", Guest::Probe, &[("syscalls-allow", "io-uring")]);
    for number in [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
        assert_eq!(call(sandbox, "a", number, &[1, 0]), errno(libc::EPERM));
        // It is looked at, and its null pointer or bad descriptor refused.
        let answer = call(sandbox, "open", number, &[1, 0]);
        assert!(![errno(libc::EPERM), errno(libc::ENOSYS)].contains(&answer), "{number}: {answer}");
    }
}

/// Calls that `reduced` refuses: number, arguments, the answer then.
const REDUCED: [(libc::c_long, &[libc::c_long], i32); 8] = [
    // UFFD_USER_MODE_ONLY, which needs no capability.
    (libc::SYS_userfaultfd, &[1], libc::EPERM),
    // KEYCTL_GET_KEYRING_ID of the session keyring.
    (libc::SYS_keyctl, &[0, -3, 0], libc::ENOSYS),
    (libc::SYS_add_key, &[0, 0, 0, 0], libc::ENOSYS),
    (libc::SYS_request_key, &[0, 0, 0, 0], libc::ENOSYS),
    (libc::SYS_unshare, &[libc::CLONE_NEWUSER as libc::c_long], libc::EPERM),
    (libc::SYS_clone, &[libc::CLONE_NEWUSER as libc::c_long | libc::CLONE_NEWNET as libc::c_long], libc::EPERM),
    (libc::SYS_clone3, &[0, 0], libc::ENOSYS),
    (libc::SYS_fsopen, &[0, 0], libc::ENOSYS),
];

fn reduced_calls(sandbox: &Sandbox) {
    start(sandbox, "a", Guest::Probe, &[("syscalls", "reduced")]);
    start(sandbox, "open", Guest::Probe, &[]);
    start(sandbox, "some", Guest::Probe, &[("syscalls", "reduced"), ("syscalls-allow", "keyring,user-namespaces")]);
    for (number, args, answer) in REDUCED {
        assert_eq!(call(sandbox, "a", number, args), errno(answer), "{number}");
        // It would be a second probe.
        if number != libc::SYS_clone {
            assert_ne!(call(sandbox, "open", number, args), errno(answer), "{number} is there by default");
        }
    }
    assert!(call(sandbox, "some", libc::SYS_keyctl, &[0, -3, 0]).starts_with("ok"));
    assert_eq!(call(sandbox, "some", libc::SYS_unshare, &[libc::CLONE_NEWUSER as libc::c_long]), "ok 0");
    assert_eq!(call(sandbox, "some", libc::SYS_userfaultfd, &[1]), errno(libc::EPERM));
    // Other namespaces are the guest's to make.
    assert_eq!(call(sandbox, "a", libc::SYS_unshare, &[libc::CLONE_NEWUTS as libc::c_long]), "ok 0");
}

/// A 64-bit program that makes the system call through the 32-bit entry too: io_uring_setup, then a
/// socket of AF_VSOCK by socket(2). Its exit status is 0 if both are refused.
const OTHER_ENTRY: &str = r#"
static int call(int number, int a, int b, int c) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}
void _start(void) {
    int ring = call(425, 1, 0, 0), vsock = call(359, 40, 1, 0);
    call(1, ring == -1 && vsock == -97 ? 0 : 1, 0, 0);
}
"#;

fn attached(sandbox: &Sandbox) {
    let program = compile(sandbox, "entry", OTHER_ENTRY, &[]);
    start(sandbox, "a", Guest::Busybox, &[]);
    start(sandbox, "open", Guest::Busybox, &[("syscalls", "off")]);
    let status = |name: &str| {
        sandbox.lxm(&["push", &program, &format!("{name}:/run/entry")]).ok();
        sandbox.lxm(&["attach", name, "--", "chmod", "755", "/run/entry"]).ok();
        sandbox.lxm(&["attach", name, "--", "/run/entry"]).status
    };
    assert_eq!((status("a"), status("open")), (0, 1));
}

fn inheritable(sandbox: &Sandbox) {
    start(sandbox, "a", Guest::Busybox, &[]);
    for process in ["self", "1"] {
        let status = sandbox.lxm(&["attach", "a", "--", "cat", &format!("/proc/{process}/status")]).ok().stdout;
        for line in ["CapInh:\t0000000000000000", "CapAmb:\t0000000000000000"] {
            assert!(status.contains(line), "{process}: {status}");
        }
        assert!(!status.contains("CapEff:\t0000000000000000"), "{status}");
    }
}

fn release_agent(sandbox: &Sandbox) {
    start(sandbox, "a", Guest::Busybox, &[]);
    // Hierarchies of version 1 that the host has may be mounted, at the guest's own group: the file is in
    // the root of each alone, and is for those who have power over the host.
    let script = "for c in cpu memory devices freezer cpuset pids none,name=systemd none,name=lxm; do
        d=/run/v1/$c; mkdir -p $d && mount -t cgroup -o $c x $d && dirs=\"$dirs $d\"; done
        for d in /sys/fs/cgroup $dirs; do
        ls $d/release_agent && echo found; echo /bin/true >$d/release_agent && echo written; done; echo looked in $dirs";
    let outcome = sandbox.lxm(&["attach", "a", "--", "sh", "-c", script]).ok();
    assert!(!outcome.stdout.contains("found") && !outcome.stdout.contains("written"), "{outcome}");
    // The means: where the host has such a hierarchy, the guest gets at it, and its root has the file.
    for controller in outcome.line().split(' ').filter_map(|dir| dir.strip_prefix("/run/v1/")) {
        let own = sandbox.path(controller);
        fs::create_dir(&own).unwrap();
        let of_host = command::run("mount", &["-t", "cgroup", "-o", controller, "x", &own.to_string_lossy()]);
        assert_eq!(of_host.status, 0, "{of_host}");
        command::run("umount", &[&*own.to_string_lossy()]).ok();
    }
}

fn abstract_sockets(sandbox: &Sandbox) {
    // Abstract sockets go by the network namespace, which this guest shares with its host.
    sandbox.create("a", Guest::Busybox, &[]);
    sandbox.lxm(&["config", "set", "a", "network.eth0.type", "host"]).ok();
    let abstract_ones = |text: &str| text.lines().filter(|line| line.contains(" @")).count();
    let name = UnixSocketAddr::from_abstract_name("lxm-trial").unwrap();
    let ours = UnixListener::bind_addr(&name).unwrap();
    sandbox.lxm(&["start", "a"]).ok();
    let seen = sandbox.lxm(&["attach", "a", "--", "cat", "/proc/net/unix"]).ok().stdout;
    assert!(seen.contains("@lxm-trial"), "the guest does not see its host's: {seen}");
    assert_eq!(abstract_ones(&seen), 1, "{seen}");
    drop(ours);
    let control = fs::metadata(sandbox.path("run/lxm/a/control.sock")).unwrap();
    assert_eq!((control.mode() & 0o7777, control.uid()), (0o600, 0));
}

fn user_names(sandbox: &Sandbox) {
    start(sandbox, "a", Guest::Busybox, &[]);
    // crun took `--user=1` for a name, then for the number of root (CVE-2026-30892).
    for user in ["", "-1", "+0", " 0", "0x0", "4294967296", "4294967295", "0 0", "1:", ":0", "root:root:0", "\u{660}"] {
        let outcome = sandbox.lxm(&["attach", "a", "--user", user, "--", "id", "-u"]);
        assert!(outcome.status != 0 && outcome.stdout.is_empty(), "`{user}`: {outcome}");
    }
    assert_eq!(sandbox.lxm(&["attach", "a", "--user", "1", "--", "id", "-u"]).ok().line(), "1");
}

/// The reduced calls are enough for a distribution's whole boot.
fn boots_whole(sandbox: &Sandbox, guest: Guest) {
    sandbox.create("web", guest, &[]);
    sandbox.lxm(&["config", "set", "web", "security.syscalls", "reduced"]).ok();
    sandbox.lxm_with(&["start", "web", "--wait", "booted", "--timeout", "200s"], b"", Duration::from_secs(220)).ok();
    let wait = ["attach", "web", "--", "systemctl", "is-system-running", "--wait"];
    let outcome = sandbox.lxm_with(&wait, b"", Duration::from_secs(120));
    let failed = sandbox.lxm(&["attach", "web", "--", "systemctl", "--failed", "--plain", "--no-legend"]).stdout;
    assert_eq!((outcome.line(), failed.as_str()), ("running", ""), "{}", sandbox.console_log("web"));
    // It is the reduced set that it ran with.
    let nested = sandbox.lxm(&["attach", "web", "--", "unshare", "--user", "true"]);
    assert!(nested.status != 0 && nested.stderr.contains("not permitted"), "{nested}");
}

fn shown(sandbox: &Sandbox) {
    start(sandbox, "a", Guest::Probe, &[("capabilities-drop", "mknod"), ("syscalls", "reduced")]);
    let info = sandbox.info("a", "confinement");
    assert_eq!(info["user_namespace"], true);
    assert_eq!(info["syscalls"], "reduced");
    let words = |key: &str| -> Vec<String> {
        info[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let capabilities = words("capabilities");
    assert!(capabilities.contains(&"SYS_ADMIN".to_owned()) && !capabilities.contains(&"MKNOD".to_owned()));
    assert!(words("address_families").contains(&"NETLINK_ROUTE".to_owned()));
    assert!(words("refused_calls").contains(&"io-uring".to_owned()));
    start(sandbox, "b", Guest::Probe, &[("syscalls", "off")]);
    let without = sandbox.info("b", "confinement")["seccomp_filters"].as_u64().unwrap();
    assert_eq!(info["seccomp_filters"], without + 1, "{info}");
    assert!(words("masked").contains(&"/proc/keys".to_owned()), "{info}");
    assert!(words("read_only").contains(&"/sys".to_owned()), "{info}");
    assert_eq!((words("capabilities_dropped"), words("capabilities_added")), (vec!["mknod".to_owned()], Vec::new()));
    let shows = |lines: &[&str]| {
        let text = sandbox.lxm(&["info", "a"]).ok().stdout;
        lines.iter().for_each(|line| assert!(text.contains(line), "{line}\n{text}"));
    };
    shows(&["Syscalls:       reduced", "Sockets:        UNIX INET INET6 NETLINK PACKET", "Capabilities:   "]);
    shows(&[
        " Changed:       without mknod\n",
        "Masked:         /proc/kallsyms",
        "Read-only:      ",
        "AppArmor:       ",
    ]);
    sandbox.lxm(&["config", "set", "a", "security.address-families", ""]).ok();
    shows(&["Sockets:        none\n"]);
}
