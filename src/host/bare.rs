//! A host without systemd: `lxm start` itself starts the supervisor, in a session and groups of its own.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};

use super::{Host, Start, Stop};
use crate::attach::control;
use crate::cgroup::{ContainerCgroup, Hierarchies};
use crate::error::{Context, Error, Result};
use crate::proto::control::{Request, Rung};
use crate::store::Layout;
use crate::supervisor::Started;
use crate::sys;
use crate::sys::clone::{SingleThreaded, clone};
use crate::sys::socket::Packets;
use crate::types::ContainerName;

/// No service manager: the command line clones the supervisor, and the supervisor does the rest.
pub struct Bare;

impl Host for Bare {
    fn start(&self, layout: &Layout, name: &ContainerName, how: Start) -> Result<()> {
        start(layout, name, how)
    }

    fn stop(&self, layout: &Layout, name: &ContainerName, how: Stop, tell: &dyn Fn(Rung)) -> Result<Rung> {
        control::end(layout, name, &Request::Stop(how.message()), tell)
    }

    fn reboot(&self, layout: &Layout, name: &ContainerName, how: Stop, tell: &dyn Fn(Rung)) -> Result<Rung> {
        control::end(layout, name, &Request::Reboot(how.message()), tell)
    }
}

fn start(layout: &Layout, name: &ContainerName, Start { window: (rows, cols), limit }: Start) -> Result<()> {
    let cgroup = ContainerCgroup::new(Hierarchies::detect()?, layout.cgroup(name));
    let group = cgroup.make_supervisor()?;
    let (ours, theirs) = Packets::pair()?;
    let arguments = arguments(layout, name, &theirs, rows, cols)?;
    clone(SingleThreaded::check()?, 0, Some(group.as_fd()), || become_supervisor(&arguments, &theirs, layout, name))?;
    drop(theirs);
    match ours.recv_within::<Started>(limit)? {
        Some((Started::Ok(_), _)) => Ok(()),
        Some((Started::Err(e), _)) => Err(e),
        None => Err(Error::failed(format!("start `{name}`: its supervisor died"))
            .hint(format!("see `{}`", layout.log_dir(name).join("supervisor.log").display()))),
    }
}

fn arguments(layout: &Layout, name: &ContainerName, link: &Packets, rows: u16, cols: u16) -> Result<Vec<CString>> {
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

/// In the child: executes this program again as the supervisor, apart from the caller's terminal.
fn become_supervisor(arguments: &[CString], link: &Packets, layout: &Layout, name: &ContainerName) -> u8 {
    let run = || -> Result<std::convert::Infallible> {
        nix::unistd::setsid().context(|| "start a session")?;
        nix::unistd::chdir("/").context(|| "change to /")?;
        let dir = layout.log_dir(name);
        std::fs::create_dir_all(&dir).context(|| format!("make `{}`", dir.display()))?;
        let log = std::fs::File::options().append(true).create(true).open(dir.join("supervisor.log"));
        let log = log.context(|| format!("open `{}`", dir.join("supervisor.log").display()))?;
        let null = std::fs::File::open("/dev/null").context(|| "open /dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&log)?;
        rustix::stdio::dup2_stderr(&log)?;
        sys::creds::close_on_exec_from(3)?;
        fcntl(link.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).context(|| "pass the socket on")?;
        nix::unistd::execv(c"/proc/self/exe", arguments).context(|| "execute the supervisor")
    };
    let Err(error) = run();
    let _ = link.send(&Started::Err(error), &[]);
    1
}
