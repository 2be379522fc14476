//! A host without systemd: a child of `lxm start` is the supervisor, in a session and groups of its own.
//!
//! The supervisor runs in that child without an exec: all that it needs is loaded, and to load a program of
//! this size again takes a millisecond.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::force::{self, Stray};
use super::{ServiceManager, StartMode, StopMode};
use crate::cgroup::{ContainerCgroup, Hierarchies, stats};
use crate::client;
use crate::error::{Context, Error, Kind, Result};
use crate::proto::control::{Request, StopStage};
use crate::store::{BootRecord, Layout};
use crate::supervisor::{self, Manager, Started};
use crate::sys;
use crate::sys::clone::{SingleThreaded, clone};
use crate::sys::socket::Packets;
use crate::terminal;
use crate::types::ContainerName;

/// How long a supervisor may take to clean up after its guest.
const CLEARING: Duration = Duration::from_secs(20);

/// No service manager: the command line clones the supervisor, and the supervisor does the rest.
pub(crate) struct Bare;

impl ServiceManager for Bare {
    fn start(&self, layout: &Layout, name: &ContainerName, how: StartMode) -> Result<()> {
        start(layout, name, how)
    }

    fn stop(
        &self,
        layout: &Layout,
        name: &ContainerName,
        how: StopMode,
        tell: &dyn Fn(StopStage),
    ) -> Result<StopStage> {
        let ended = client::end(layout, name, &Request::Stop(how.message()), how.reply_timeout(), tell);
        let Err(refused) = ended else { return ended };
        if let (StopMode::Graceful { limit }, Kind::Conflict) = (how, refused.kind())
            && let Some(stray) = Stray::find(layout, name)?
            && stray.stop(limit.saturating_add(CLEARING))?
        {
            return Ok(StopStage::Exited);
        }
        force::end(layout, name, how, refused)
    }

    fn reboot(
        &self,
        layout: &Layout,
        name: &ContainerName,
        how: StopMode,
        tell: &dyn Fn(StopStage),
    ) -> Result<StopStage> {
        let privileged = layout.config(name)?.security.privileged;
        if BootRecord::read(layout, name)?.is_some_and(|record| record.privileged != privileged) {
            // It takes another supervisor (see `sys::reexec`).
            return Err(Error::conflict("`security.privileged` has been changed, which a reboot is not enough for")
                .hint(format!(
                    "`{}`, then `{}`",
                    layout.command(format_args!("stop {name}")),
                    layout.command(format_args!("start {name}"))
                )));
        }
        client::end(layout, name, &Request::Reboot(how.message()), how.reboot_reply_timeout(), tell)
    }
}

fn start(layout: &Layout, name: &ContainerName, StartMode { window, limit }: StartMode) -> Result<()> {
    if let Some(what) = sys::birth::for_good() {
        terminal::say(format_args!("warning: `{name}` has what this shell runs with, {what} in it"));
    }
    Stray::refuse(layout, name)?;
    let cgroup = ContainerCgroup::new(Hierarchies::detect()?, layout.cgroup(name));
    let group = cgroup.make_supervisor()?;
    let killed_for_memory = || stats::oom_kills(cgroup.hierarchies(), cgroup.group());
    let before = killed_for_memory();
    let (ours, theirs) = Packets::pair()?;
    let words = command_line(layout, name, &theirs, window)?;
    let privileged = layout.config(name).is_ok_and(|config| config.security.privileged);
    clone(SingleThreaded::check()?, 0, Some(group.as_fd()), move || {
        let left = leave_caller(layout, name, &theirs);
        let left = left.and_then(|()| if privileged { execute(&words, &theirs) } else { Ok(()) });
        if let Err(error) = left {
            let _ = theirs.send(&Started::Err(error), &[]);
            return 1;
        }
        // Without it ps(1) shows ours.
        let _ = sys::command_line::show(&words);
        supervisor::run(layout, name, Manager::command(theirs, window.0, window.1))
    })?;
    match ours.recv_within::<Started>(limit)? {
        Some((Started::Ok(_), _)) => Ok(()),
        Some((Started::Err(e), _)) => Err(e),
        None if killed_for_memory() > before => {
            Err(Error::failed(format!("start `{name}`: `limits.memory` is too small to start it"))
                .hint(format!("`{}` shows the limit", layout.command(format_args!("config get {name} limits.memory")))))
        }
        None => Err(Error::failed(format!("start `{name}`: its supervisor died"))
            .hint(format!("see `{}`", layout.log_dir(name).join("supervisor.log").display()))),
    }
}

/// What the supervisor is executed with, or would be.
fn command_line(
    layout: &Layout,
    name: &ContainerName,
    link: &Packets,
    (rows, cols): (u16, u16),
) -> Result<Vec<CString>> {
    let path = layout.containers().as_os_str().as_encoded_bytes().to_vec();
    let fd = link.as_fd().as_raw_fd();
    let words: [Vec<u8>; 11] = [
        "lxm".into(),
        "supervise".into(),
        name.to_string().into(),
        "--path".into(),
        path,
        "--command-fd".into(),
        fd.to_string().into(),
        "--rows".into(),
        rows.to_string().into(),
        "--cols".into(),
        cols.to_string().into(),
    ];
    words.into_iter().map(|word| CString::new(word).map_err(|_| Error::usage("a path holds a NUL byte"))).collect()
}

/// In the child: parts with the caller's terminal, directory and descriptors, its locks among them.
fn leave_caller(layout: &Layout, name: &ContainerName, link: &Packets) -> Result<()> {
    nix::unistd::setsid().context(|| "start a session")?;
    nix::unistd::chdir("/").context(|| "change to /")?;
    sys::birth::as_a_daemon()?;
    let dir = layout.log_dir(name);
    std::fs::create_dir_all(&dir).context(|| format!("make `{}`", dir.display()))?;
    let log = std::fs::File::options().append(true).create(true).open(dir.join("supervisor.log"));
    let log = log.context(|| format!("open `{}`", dir.join("supervisor.log").display()))?;
    let null = std::fs::File::open("/dev/null").context(|| "open /dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    drop((log, null));
    sys::creds::close_all_but(&[0, 1, 2, link.as_fd().as_raw_fd()])
}

/// In the child of a privileged container, whose supervisor runs from a sealed copy of this program
/// and so has to be executed (see [`sys::reexec`]). Returns only with an error.
fn execute(words: &[CString], link: &Packets) -> Result<()> {
    fcntl(link.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).context(|| "pass the socket on")?;
    let Err(e) = nix::unistd::execv(c"/proc/self/exe", words);
    Err(e).context(|| "execute the supervisor")
}
