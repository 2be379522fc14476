//! The probe: a static program that is the init of a root file system with little else in it,
//! and that says what it sees. The suite compiles it by itself (`rustc`, C library linked in).
//!
//! As PID 1 it prints `PROBE {json}` on its console, says READY=1, and then does what signals and
//! lines typed on the console tell it. By any other name it does what its first argument says.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int, c_long, c_uint, c_ulong};
use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write as _};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::{env, fs, io};

#[repr(C)]
struct SignalSet([c_ulong; 16]);

#[repr(C)]
struct WindowSize {
    rows: u16,
    cols: u16,
    pixels: [u16; 2],
}

unsafe extern "C" {
    fn sigfillset(set: *mut SignalSet) -> c_int;
    fn sigprocmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn sigwait(set: *const SignalSet, signal: *mut c_int) -> c_int;
    fn raise(signal: c_int) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn reboot(command: c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn mknod(path: *const c_char, mode: c_uint, device: c_ulong) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
}

const SIG_SETMASK: c_int = 2;
const SIGINT: c_int = 2;
const SIGHUP: c_int = 1;
const SIGCHLD: c_int = 17;
const SIGWINCH: c_int = 28;
const SIGRTMIN: c_int = 34;
const WNOHANG: c_int = 1;
const TIOCGWINSZ: c_ulong = 0x5413;
const S_IFCHR: c_uint = 0o020000;
const POWER_OFF: c_int = 0x4321_fedc;
const RESTART: c_int = 0x0123_4567;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        return init();
    }
    let args: Vec<String> = env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<i64>().expect("a number");
    match args[1..] {
        [] => println!("shell {}", args[0]),
        ["report"] => println!("{}", report()),
        ["exit", status] => return ExitCode::from(number(status) as u8),
        ["signal", signal] => {
            // SAFETY: raise takes a number and touches no memory of ours.
            unsafe { raise(number(signal) as c_int) };
        }
        ["both"] => {
            println!("to output");
            eprintln!("to error");
        }
        ["talk"] => {
            println!("ready");
            drop(io::copy(&mut io::stdin(), &mut io::stdout()));
        }
        ["cat"] => drop(io::copy(&mut io::stdin(), &mut io::stdout())),
        ["size"] => println!("{}", window_size()),
        ["sleep", seconds] => std::thread::sleep(std::time::Duration::from_secs(number(seconds) as u64)),
        ["poweroff"] => println!("poweroff: {}", restart(POWER_OFF)),
        ["reboot"] => println!("reboot: {}", restart(RESTART)),
        ["read", path] => println!("{}", told(fs::read(path).map(|bytes| bytes.len()))),
        ["write", path, text] => println!(
            "{}",
            told(fs::OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes())))
        ),
        ["mknod", path, major, minor] => {
            let path = CString::new(path).expect("no NUL in a path");
            let device = (number(major) << 8 | number(minor)) as c_ulong;
            // SAFETY: `path` is NUL-terminated and outlives the call.
            println!("{}", told(done(unsafe { mknod(path.as_ptr(), S_IFCHR | 0o666, device) } as c_long)));
        }
        ["syscall", call, ref rest @ ..] => {
            let mut given = [0; 4];
            for (slot, text) in given.iter_mut().zip(rest) {
                *slot = number(text);
            }
            let [a, b, c, d] = given;
            // SAFETY: only for calls that the suite chooses: with these numbers they are refused, or read no memory.
            println!("{}", told(done(unsafe { syscall(number(call), a, b, c, d) })));
        }
        _ => {
            eprintln!("probe: cannot {:?}", &args[1..]);
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn done(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `ok VALUE`, or `errno NUMBER`.
fn told<T: std::fmt::Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("ok {value:?}"),
        Err(e) => format!("errno {}", e.raw_os_error().unwrap_or(-1)),
    }
}

fn restart(command: c_int) -> String {
    // SAFETY: reboot takes a number; where it works this process ends.
    told(done(unsafe { reboot(command) } as c_long))
}

fn window_size() -> String {
    let mut size = WindowSize { rows: 0, cols: 0, pixels: [0; 2] };
    // SAFETY: TIOCGWINSZ writes one `struct winsize`, which `WindowSize` is laid out as.
    match done(unsafe { ioctl(0, TIOCGWINSZ, &raw mut size) } as c_long) {
        Ok(_) => format!("{} rows {} cols", size.rows, size.cols),
        Err(e) => format!("no terminal: {e}"),
    }
}

/// PID 1: report, then obey.
fn init() -> ExitCode {
    // Before anything here changes what is to be seen.
    let report = report();
    let mut all = SignalSet([0; 16]);
    // SAFETY: `SignalSet` is as large as glibc's sigset_t, 1024 bits; both calls only fill or read it.
    unsafe {
        sigfillset(&raw mut all);
        sigprocmask(SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
    println!("PROBE {report}");
    notify("READY=1\nSTATUS=Probing.");
    std::thread::spawn(obey_console);
    loop {
        let mut signal = 0;
        // SAFETY: both pointers are to locals that outlive the call.
        unsafe { sigwait(&raw const all, &raw mut signal) };
        match signal {
            SIGCHLD => {
                // SAFETY: a null status is allowed, and WNOHANG returns at once.
                while unsafe { waitpid(-1, std::ptr::null_mut(), WNOHANG) } > 0 {}
            }
            SIGHUP | SIGWINCH => println!("PROBE-SIGNAL {signal}"),
            _ if env::var_os("PROBE_STUBBORN").is_some() => println!("PROBE-SIGNAL {signal} and so what"),
            _ => {
                println!("PROBE-SIGNAL {signal}");
                let again = signal == SIGINT || signal == SIGRTMIN + 5;
                println!("PROBE-FAILED {}", restart(if again { RESTART } else { POWER_OFF }));
            }
        }
    }
}

fn notify(message: &str) {
    let Some(address) = env::var_os("NOTIFY_SOCKET") else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(message.as_bytes(), address));
    if let Err(e) = sent {
        println!("PROBE-NOTIFY {e}");
    }
}

fn obey_console() {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["poweroff"] => println!("PROBE-FAILED {}", restart(POWER_OFF)),
            ["reboot"] => println!("PROBE-FAILED {}", restart(RESTART)),
            ["exit", status] => std::process::exit(status.parse().expect("a number")),
            ["crash"] => std::process::abort(),
            ["fill", lines] => (0..lines.parse().expect("a number")).for_each(|n: u32| println!("line {n} of many")),
            ["size"] => println!("PROBE-SIZE {}", window_size()),
            _ => println!("PROBE-HEARD {line}"),
        }
    }
}

/// All that can be seen from inside, as one line of JSON.
fn report() -> String {
    let status = read("/proc/self/status");
    let mut json = Object::new();
    for (key, name) in [
        ("cap_effective", "CapEff"),
        ("cap_permitted", "CapPrm"),
        ("cap_bounding", "CapBnd"),
        ("cap_ambient", "CapAmb"),
        ("seccomp", "Seccomp"),
        ("no_new_privs", "NoNewPrivs"),
        ("signals_blocked", "SigBlk"),
        ("signals_ignored", "SigIgn"),
        ("uid", "Uid"),
        ("gid", "Gid"),
        ("groups", "Groups"),
        ("umask", "Umask"),
        ("parent", "PPid"),
    ] {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        json.text(key, line.unwrap_or("").trim());
    }
    json.text("pid", &std::process::id().to_string());
    // proc_pid_stat(5): after the name come state, ppid, pgrp, session, tty.
    let stat = read("/proc/self/stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    json.text("session", fields.get(3).unwrap_or(&""));
    json.text("controlling_terminal", fields.get(4).unwrap_or(&""));
    json.list("argv", env::args());
    json.object("env", env::vars());
    json.text("cwd", &env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default());
    json.object("descriptors", links_in("/proc/self/fd"));
    json.text("console_is_terminal", &io::stdout().is_terminal().to_string());
    for (key, path) in [
        ("uid_map", "/proc/self/uid_map"),
        ("gid_map", "/proc/self/gid_map"),
        ("cgroup", "/proc/self/cgroup"),
        ("hostname", "/proc/sys/kernel/hostname"),
        ("boot_id", "/proc/sys/kernel/random/boot_id"),
        ("limits", "/proc/self/limits"),
        ("oom_score_adj", "/proc/self/oom_score_adj"),
        ("machine_id", "/etc/machine-id"),
        ("host_os_release", "/run/host/os-release"),
        ("container_manager", "/run/host/container-manager"),
        ("container_uuid", "/run/host/container-uuid"),
        ("systemd_container", "/run/systemd/container"),
    ] {
        json.text(key, read(path).trim());
    }
    json.list("mounts", read("/proc/self/mountinfo").lines().map(String::from));
    json.list("links", names("/sys/class/net"));
    json.list("root_of_cgroups", names("/sys/fs/cgroup"));
    json.list("processes", names("/proc").into_iter().filter(|name| name.parse::<u32>().is_ok()));
    json.object("devices", devices());
    json.object("writable", WRITABLE.iter().map(|path| (path.to_string(), openable(path, true))));
    json.object("readable", READABLE.iter().map(|path| (path.to_string(), openable(path, false))));
    json.end()
}

/// Opened for writing, without writing anything.
const WRITABLE: &[&str] = &[
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sysrq-trigger",
    "/proc/irq/default_smp_affinity",
    "/proc/self/oom_score_adj",
    "/sys/kernel/profiling",
    "/sys/fs/cgroup/cgroup.procs",
    "/dev/null",
    "/dev/tty",
    "/run/host/os-release",
    "/",
    "/dev",
];

const READABLE: &[&str] = &[
    "/proc/kcore",
    "/proc/kallsyms",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/kmsg",
    "/dev/kmsg",
    "/dev/mem",
    "/dev/random",
    "/dev/full",
    "/dev/fuse",
    "/dev/net/tun",
];

/// How opening a path ends: `ok`, or `errno NUMBER`. A directory is asked for a new file in it.
fn openable(path: &str, write: bool) -> String {
    let result = if fs::metadata(path).is_ok_and(|data| data.is_dir()) {
        let file = format!("{path}/.probe");
        fs::write(&file, "").and_then(|()| fs::remove_file(&file))
    } else {
        fs::OpenOptions::new().read(!write).write(write).open(path).map(drop)
    };
    result.map_or_else(|e| format!("errno {}", e.raw_os_error().unwrap_or(-1)), |()| "ok".into())
}

fn read(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn links_in(dir: &str) -> BTreeMap<String, String> {
    let target = |name: &String| fs::read_link(format!("{dir}/{name}")).map(|path| path.display().to_string());
    // The directory itself is open while it is read, and closed by the time its link is.
    names(dir).into_iter().filter_map(|name| target(&name).ok().map(|target| (name, target))).collect()
}

/// `/dev`, two levels deep: `char 1:3 666 0:0`, `link TARGET`, `directory`.
fn devices() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let inner = names("/dev").into_iter().flat_map(|name| {
        let below = names(&format!("/dev/{name}")).into_iter().map(move |inner| format!("{name}/{inner}"));
        below.collect::<Vec<_>>()
    });
    for name in names("/dev").into_iter().chain(inner) {
        let path = format!("/dev/{name}");
        let Ok(data) = fs::symlink_metadata(&path) else { continue };
        let kind = data.file_type();
        let (major, minor) = (data.rdev() >> 8 & 0xfff, data.rdev() & 0xff);
        let text = if kind.is_symlink() {
            format!("link {}", fs::read_link(&path).unwrap_or_default().display())
        } else if kind.is_dir() {
            "directory".into()
        } else if kind.is_char_device() {
            format!("char {major}:{minor} {:o} {}:{}", data.mode() & 0o7777, data.uid(), data.gid())
        } else if kind.is_block_device() {
            format!("block {major}:{minor}")
        } else {
            "file".into()
        };
        found.insert(name, text);
    }
    found
}

/// Writes one JSON object, member by member.
struct Object(String);

impl Object {
    fn new() -> Self {
        Object("{".into())
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        let _ = write!(self.0, "{}:", quoted(key));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.push_str(&quoted(value));
    }

    fn list(&mut self, key: &str, values: impl IntoIterator<Item = String>) {
        self.key(key);
        let values: Vec<String> = values.into_iter().map(|value| quoted(&value)).collect();
        let _ = write!(self.0, "[{}]", values.join(","));
    }

    fn object(&mut self, key: &str, members: impl IntoIterator<Item = (String, String)>) {
        self.key(key);
        let members: Vec<String> = members.into_iter().map(|(k, v)| format!("{}:{}", quoted(&k), quoted(&v))).collect();
        let _ = write!(self.0, "{{{}}}", members.join(","));
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if (c as u32) < 0x20 => drop(write!(out, "\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
