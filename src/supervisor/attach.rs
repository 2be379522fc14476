//! Commands run in the guest for `lxm attach`: children of the supervisor.
//!
//! They are cloned here rather than by the command line because here they are born in the guest's
//! groups: a process that joins them later waits for an RCU grace period in every v1 hierarchy.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use super::setup::Setup;
use super::user::User;
use crate::error::{Context, Error, Kind, Result};
use crate::inside::confine;
use crate::proto::control::{Attach, Reply};
use crate::sys;
use crate::sys::clone::{Child, SingleThreaded, clone};
use crate::sys::pidfd;
use crate::sys::socket::Packets;

/// Exit statuses for what is not the command's own, as env(1) and docker have them.
const NOT_RUN: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Starts `request` in the guest of `leader`; it answers `client` itself until it has executed.
pub fn spawn(
    setup: &Setup,
    leader: &OwnedFd,
    request: &Attach,
    client: Option<&Packets>,
    fds: Vec<OwnedFd>,
) -> Result<Child> {
    let group = setup.cgroup.open_attach(setup.ids)?;
    let own_pids = std::fs::File::open("/proc/self/ns/pid").context(|| "open our own pid namespace")?;
    let witness = SingleThreaded::check()?;
    // Changes where children are born, not where this process is; taken back at once.
    pidfd::enter(leader, libc::CLONE_NEWPID)?;
    let child = clone(witness, 0, Some(group.as_fd()), || {
        let (status, error) = match run(setup, leader, request, client, fds) {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        if let Some(client) = client {
            let _ = client.send(&Reply::NotRun { status, error }, &[]);
        }
        status
    });
    pidfd::enter(&own_pids, libc::CLONE_NEWPID)?;
    child
}

type Failure = (u8, Error);

/// In the child: enters the guest and becomes the command.
fn run(
    setup: &Setup,
    leader: &OwnedFd,
    request: &Attach,
    client: Option<&Packets>,
    fds: Vec<OwnedFd>,
) -> std::result::Result<std::convert::Infallible, Failure> {
    let ours = |e: Error| (NOT_RUN, e);
    // In a privileged guest a process may look into this one: nothing of the host's is to be found.
    let mut kept = vec![0, 1, 2, leader.as_raw_fd()];
    kept.extend(fds.iter().map(AsRawFd::as_raw_fd).chain(client.map(|client| client.as_fd().as_raw_fd())));
    sys::creds::close_all_but(&kept).map_err(ours)?;
    enter(setup, leader).map_err(ours)?;
    let user = User::find(request.user.as_deref()).map_err(ours)?;
    match (request.tty, client) {
        (true, Some(client)) => give_terminal(request, &user, client).map_err(ours)?,
        _ => take_descriptors(fds).map_err(ours)?,
    }
    let cwd = request.cwd.as_deref().unwrap_or(&user.home);
    if let Err(e) = nix::unistd::chdir(cwd) {
        // A home that does not exist is no reason not to log in; a directory that was asked for is.
        if request.cwd.is_some() {
            return Err(ours(Error::from(e).step(format!("change to directory `{cwd}`"))));
        }
        nix::unistd::chdir("/").context(|| "change to directory `/`").map_err(ours)?;
    }
    sys::signals::reset().context(|| "reset the signals").map_err(ours)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    confine(&setup.confinement).map_err(ours)?;
    become_user(&user).map_err(ours)?;
    sys::creds::close_on_exec_from(3).map_err(ours)?;
    execute(request, &user, &setup.config.environment)
}

/// Joins the guest: its namespaces and its root's ids.
fn enter(setup: &Setup, leader: &OwnedFd) -> Result<()> {
    let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWCGROUP;
    if setup.network == crate::inside::NetworkView::Own {
        namespaces |= libc::CLONE_NEWNET;
    }
    if setup.ids.is_some() {
        namespaces |= libc::CLONE_NEWUSER;
    }
    pidfd::enter(leader, namespaces)?;
    let root = (Uid::from_raw(0), Gid::from_raw(0));
    let take = || -> nix::Result<()> {
        nix::unistd::setgroups(&[])?;
        nix::unistd::setresgid(root.1, root.1, root.1)?;
        nix::unistd::setresuid(root.0, root.0, root.0)
    };
    take().context(|| "become the guest's root")?;
    sys::creds::die_with_parent(libc::SIGKILL)?;
    nix::unistd::setsid().context(|| "start a session")?;
    sys::creds::new_session_keyring();
    Ok(())
}

/// Opens a terminal of the guest's own devpts, so that `tty`, `screen` and `sudo` work in it, and
/// gives its master side to the client.
fn give_terminal(request: &Attach, user: &User, client: &Packets) -> Result<()> {
    let (master, slave, path) = sys::tty::open_pty("/dev/ptmx")?;
    sys::tty::set_window_size(&master, request.rows, request.cols)?;
    nix::unistd::chown(path.as_str(), Some(Uid::from_raw(user.uid)), None)
        .context(|| format!("give `{path}` to the user"))?;
    client.send(&Reply::Terminal, &[master.as_raw_fd()])?;
    rustix::process::ioctl_tiocsctty(&slave).context(|| "take the terminal")?;
    sys::tty::make_standard(&slave)
}

fn take_descriptors(fds: Vec<OwnedFd>) -> Result<()> {
    match <[OwnedFd; 3]>::try_from(fds) {
        Ok([input, output, error]) => {
            let standard = || -> rustix::io::Result<()> {
                rustix::stdio::dup2_stdin(&input)?;
                rustix::stdio::dup2_stdout(&output)?;
                rustix::stdio::dup2_stderr(&error)
            };
            standard().context(|| "take standard input and output")
        }
        // A command of our own (a guest's shutdown) has nobody to talk to.
        Err(fds) if fds.is_empty() => {
            let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())
                .context(|| "open /dev/null")?;
            sys::tty::make_standard(&null)
        }
        Err(_) => Err(Error::failed("three descriptors were expected")),
    }
}

fn become_user(user: &User) -> Result<()> {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let become_it = || -> nix::Result<()> {
        nix::unistd::setgroups(&groups)?;
        nix::unistd::setresgid(gid, gid, gid)?;
        nix::unistd::setresuid(uid, uid, uid)
    };
    become_it().context(|| format!("become user {uid}"))
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command's environment: the guest's default one, the container's, and what was asked for.
fn environment(
    request: &Attach,
    user: &User,
    container: &std::collections::BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: &str| {
        env.retain(|(known, _)| known != key);
        env.push((key.to_owned(), value.to_owned()));
    };
    if !request.clear_env {
        for (key, value) in [
            ("container", "lxm"),
            ("PATH", PATH),
            ("HOME", &user.home),
            ("USER", &user.name),
            ("LOGNAME", &user.name),
            ("SHELL", &user.shell),
        ] {
            set(key, value);
        }
        container.iter().for_each(|(key, value)| set(key, value));
    }
    for entry in &request.env {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(key, value);
    }
    env
}

/// Executes the command, looked for along the environment's PATH as a shell does.
fn execute(
    request: &Attach,
    user: &User,
    container: &std::collections::BTreeMap<String, String>,
) -> std::result::Result<std::convert::Infallible, Failure> {
    let c_string = |text: &str| CString::new(text).map_err(|_| (NOT_RUN, Error::usage("an argument holds a NUL byte")));
    let env = environment(request, user, container);
    let path = env.iter().find(|(key, _)| key == "PATH").map_or(PATH, |(_, value)| value);
    // A login shell's name starts with `-` (login(1)).
    let shell_name = format!("-{}", Path::new(&user.shell).file_name().unwrap_or_default().to_string_lossy());
    let (program, argv) = match request.command.split_first() {
        Some((program, _)) => (
            program.as_str(),
            request.command.iter().map(|arg| c_string(arg)).collect::<std::result::Result<Vec<_>, _>>()?,
        ),
        None => (user.shell.as_str(), vec![c_string(&shell_name)?]),
    };
    let env = env
        .iter()
        .map(|(key, value)| c_string(&format!("{key}={value}")))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let candidates: Vec<std::path::PathBuf> = match program.contains('/') {
        true => vec![program.into()],
        false => path.split(':').map(|dir| Path::new(dir).join(program)).collect(),
    };
    let mut worst = Errno::ENOENT;
    for candidate in candidates {
        let candidate = CString::new(candidate.as_os_str().as_bytes())
            .map_err(|_| (NOT_RUN, Error::usage("the command holds a NUL byte")))?;
        let Err(errno) = nix::unistd::execve(&candidate, &argv, &env);
        if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR) {
            worst = errno;
        }
    }
    let error = Error::from(worst).step(format!("execute `{program}`"));
    match worst {
        Errno::ENOENT => Err((NOT_FOUND, error.with_kind(Kind::NotFound))),
        _ => Err((NOT_EXECUTABLE, error)),
    }
}
