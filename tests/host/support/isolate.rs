//! Runs one trial in a process of its own, on what looks to it like a bare host of its own.
//!
//! libtest-mimic runs trials in threads, and namespaces belong to whole processes, so this program
//! executes itself again, thrice over, each time with a *role* as first argument:
//!
//! - `enclosure`: makes the cgroups and enters new namespaces; its death ends all below it;
//! - `reaper`: PID 1 in there; mounts what a host has and reaps orphans, as PID 1 of a host does;
//! - `trial`: runs the function and the leak check.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, wait};

use super::{Sandbox, Trial, command, pace::Deadline};

/// On a real file system, since a tmpfs lacks much of one.
const PLACE: &str = "/var/tmp";

/// The name of the trial's cgroup in each hierarchy, and of its `LXM_ROOT` below [`PLACE`].
const ENCLOSURE: &str = "LXM_TEST_ENCLOSURE";

/// Runs a trial to its end or its time limit, from the process that libtest-mimic runs in.
pub fn run(trial: &Trial) -> Result<(), String> {
    for guest in &trial.guests {
        guest.prepare()?;
    }
    // Short, since a control socket's path below it should fit in 108 bytes (unix(7)).
    let mut root = tempfile::Builder::new()
        .prefix("lxm.")
        .tempdir_in(PLACE)
        .map_err(|e| format!("make a directory in {PLACE}: {e}"))?;
    let name = root.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let told = supervise(trial, &name);
    sweep_cgroups(&name);
    if told.is_err() && std::env::var_os("LXM_TEST_KEEP").is_some() {
        root.disable_cleanup(true);
        eprintln!("kept {}", root.path().display());
        return told;
    }
    let path = root.path().to_owned();
    root.close().map_err(|e| format!("remove {}: {e}", path.display()))?;
    told
}

/// Where the trial's `LXM_ROOT` is.
fn root_of(enclosure: &str) -> PathBuf {
    Path::new(PLACE).join(enclosure)
}

fn supervise(trial: &Trial, enclosure: &str) -> Result<(), String> {
    let log = root_of(enclosure).join("trial.log");
    let open = || fs::File::options().create(true).append(true).open(&log);
    let output = open().and_then(|a| Ok((a, open()?))).map_err(|e| format!("open {}: {e}", log.display()))?;
    let mut child = role("enclosure", trial.name)
        .env(ENCLOSURE, enclosure)
        .stdin(Stdio::null())
        .stdout(output.0)
        .stderr(output.1)
        .spawn()
        .map_err(|e| format!("run this program again: {e}"))?;
    let status = command::wait(&mut child, trial.limit);
    if status.is_none() {
        child.kill().ok();
        child.wait().ok();
    }
    let said = || fs::read_to_string(&log).unwrap_or_default();
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{status}\n{}", said())),
        None => Err(format!("did not end within {:?}\n{}", trial.limit, said())),
    }
}

fn role(role: &str, trial: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args([role, trial]).env_remove("RUST_BACKTRACE");
    command
}

/// Does what the command line asks for when it names a role; `None` when it names none.
pub fn run_role(trials: &[Trial]) -> Option<ExitCode> {
    let mut args = std::env::args().skip(1);
    let (role, name) = (args.next()?, args.next()?);
    let enclosure = std::env::var(ENCLOSURE).ok()?;
    let trial = trials.iter().find(|trial| trial.name == name)?;
    let told = match role.as_str() {
        "enclosure" => enclose(trial, &enclosure),
        "reaper" => reap(trial),
        "trial" => Ok(ExitCode::from(u8::from(!Sandbox::run(trial, root_of(&enclosure))))),
        _ => return None,
    };
    Some(told.unwrap_or_else(|e| {
        eprintln!("harness, {role} of {name}: {e}");
        ExitCode::from(70)
    }))
}

/// Makes the trial's cgroups and namespaces, and runs its PID 1 in them.
fn enclose(trial: &Trial, name: &str) -> io::Result<ExitCode> {
    // One hierarchy may be mounted in several places, and its groups are the same in each.
    let mut seen = BTreeSet::new();
    let (hierarchies, again): (Vec<_>, Vec<_>) =
        cgroup_mounts()?.into_iter().partition(|mount| seen.insert((mount.kind.clone(), mount.options.clone())));
    for hierarchy in &hierarchies {
        enter_cgroup(&hierarchy.at.join(name))?;
    }
    let new = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(new)?;
    for hierarchy in hierarchies.iter().filter(|hierarchy| hierarchy.kind == "cgroup2") {
        // A cgroup2 with processes in it cannot hand controllers to its children, and this one
        // plays the root, which can (cgroups(7), "no internal processes").
        enter_cgroup(&hierarchy.at.join(name).join("harness"))?;
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    for hierarchy in again {
        umount2(&hierarchy.at, MntFlags::MNT_DETACH)?;
    }
    mount_sys(&hierarchies)?;
    let status = role("reaper", trial.name).status()?;
    Ok(ExitCode::from(command::status_of(status) as u8))
}

/// One mount of a cgroup hierarchy on the machine.
struct CgroupMount {
    at: PathBuf,
    /// `cgroup` or `cgroup2`.
    kind: String,
    /// What a mount of the same hierarchy is asked for by: `memory`, `none,name=systemd`.
    options: String,
}

fn cgroup_mounts() -> io::Result<Vec<CgroupMount>> {
    const GENERIC: [&str; 7] = ["rw", "ro", "nsdelegate", "memory_recursiveprot", "relatime", "xattr", "favordynmods"];
    let mut mounts = Vec::new();
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        // See proc_pid_mountinfo(5): mount point is field 5; type and options follow the dash.
        let Some((head, tail)) = line.split_once(" - ") else { continue };
        let (Some(at), Some(kind)) = (head.split(' ').nth(4), tail.split(' ').next()) else { continue };
        let is_cgroup = kind == "cgroup" || kind == "cgroup2";
        // The same hierarchy may be mounted again elsewhere.
        if !is_cgroup || !Path::new(at).starts_with("/sys/fs/cgroup") {
            continue;
        }
        let options: Vec<&str> = tail.split(' ').nth(2).unwrap_or("").split(',').collect();
        let mut wanted: Vec<&str> = options.into_iter().filter(|option| !GENERIC.contains(option)).collect();
        if wanted.iter().any(|option| option.starts_with("name=")) {
            wanted.insert(0, "none");
        }
        let options = if kind == "cgroup2" { String::new() } else { wanted.join(",") };
        mounts.push(CgroupMount { at: at.into(), kind: kind.into(), options });
    }
    mounts.sort_by(|a, b| a.at.cmp(&b.at));
    Ok(mounts)
}

fn enter_cgroup(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        // A new v1 cpuset is empty, and an empty one takes no process.
        let parent = dir.parent().unwrap_or(dir).join(file);
        if let (true, Ok(value)) = (dir.join("cpuset.sched_load_balance").exists(), fs::read(parent)) {
            fs::write(dir.join(file), value)?;
        }
    }
    fs::write(dir.join("cgroup.procs"), "0")
}

/// Mounts a sysfs that shows the new network namespace, and the cgroup trees from our own root.
fn mount_sys(hierarchies: &[CgroupMount]) -> io::Result<()> {
    umount2("/sys", MntFlags::MNT_DETACH)?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), "/sys", Some("sysfs"), plain, None::<&str>)?;
    let top = Path::new("/sys/fs/cgroup");
    if hierarchies.iter().any(|hierarchy| hierarchy.at != top) {
        mount(Some("tmpfs"), top, Some("tmpfs"), plain, Some("mode=755"))?;
    }
    for CgroupMount { at, kind, options } in hierarchies {
        if at != top {
            fs::create_dir_all(at)?;
        }
        mount(Some(kind.as_str()), at, Some(kind.as_str()), plain, Some(options.as_str()))?;
    }
    Ok(())
}

/// PID 1 of the trial's pid namespace.
fn reap(trial: &Trial) -> io::Result<ExitCode> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), plain, None::<&str>)?;
    let trial = role("trial", trial.name).spawn()?;
    loop {
        let (pid, status) = match wait()? {
            WaitStatus::Exited(pid, status) => (pid, status),
            WaitStatus::Signaled(pid, signal, _) => (pid, 128 + signal as i32),
            _ => continue,
        };
        if pid.as_raw() == trial.id() as i32 {
            return Ok(ExitCode::from(status as u8));
        }
    }
}

/// Removes the trial's cgroups; what is still in them dies with the trial's PID 1.
fn sweep_cgroups(name: &str) {
    let deadline = Deadline::after(Duration::from_secs(5));
    for hierarchy in cgroup_mounts().unwrap_or_default() {
        let dir = hierarchy.at.join(name);
        fs::write(dir.join("cgroup.kill"), "1").ok();
        while dir.exists() && !deadline.has_passed() {
            remove_cgroups(&dir);
            std::thread::sleep(Duration::from_millis(5));
        }
        if dir.exists() {
            eprintln!("harness: cannot remove {}", dir.display());
        }
    }
}

fn remove_cgroups(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    fs::remove_dir(dir).ok();
}
