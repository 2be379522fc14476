//! Walking the groups that a guest has made, as deep as it liked.
//!
//! A guest chooses names and depth, so a path may be longer than the kernel takes (PATH_MAX), and a
//! descriptor for each level is more than a process may have: one descriptor goes down by name and up
//! by `..`, which is safe because no group ever gets another parent.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How long the last process of a group may be dead but not yet reaped.
const BUSY: Duration = Duration::from_secs(2);

/// Calls `leave` with the parent and the name of every group below `top`, the deepest first. Goes on
/// after a failure and gives the first; a missing `top` has none.
fn walk(top: &Path, mut leave: impl FnMut(&OwnedFd, &CStr) -> rustix::io::Result<()>) -> Result<()> {
    let mut dir = match rustix::fs::open(top, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.context(|| format!("open cgroup `{}`", top.display()))?,
    };
    let mut first: Option<(CString, Errno)> = None;
    // The way down to `dir`, and what is to be seen yet at each level.
    let mut way: Vec<CString> = Vec::new();
    let mut waiting = vec![children(&dir)?];
    while let Some(names) = waiting.last_mut() {
        if let Some(name) = names.pop() {
            match rustix::fs::openat(&dir, &*name, DIRECTORY, Mode::empty()) {
                Ok(below) => {
                    waiting.push(children(&below)?);
                    way.push(name);
                    dir = below;
                }
                Err(Errno::NOENT) => {}
                Err(e) => drop(first.get_or_insert((name, e))),
            }
            continue;
        }
        waiting.pop();
        let Some(name) = way.pop() else { break };
        dir = rustix::fs::openat(&dir, c"..", DIRECTORY, Mode::empty()).context(|| "go up in the cgroups")?;
        if let Err(e) = leave(&dir, &name) {
            first.get_or_insert((name, e));
        }
    }
    match first {
        None => Ok(()),
        Some((name, e)) => {
            Err(Error::from(e).step(format!("cgroup `{}` below `{}`", name.to_string_lossy(), top.display())))
        }
    }
}

/// The names of the groups in a group.
fn children(dir: &OwnedFd) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).context(|| "read a cgroup")? {
        let entry = entry.context(|| "read a cgroup")?;
        if entry.file_type() == FileType::Directory && !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// The processes in a v2 group and in those below it.
pub(super) fn processes(top: &Path) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    let mut read = |text: std::io::Result<String>| {
        // A group that is gone has none.
        found.extend(text.unwrap_or_default().lines().filter_map(|line| line.parse::<i32>().ok()));
    };
    read(std::fs::read_to_string(top.join("cgroup.procs")));
    walk(top, |parent, name| {
        let group = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
        let file = rustix::fs::openat(&group, c"cgroup.procs", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        read(std::io::read_to_string(File::from(file)));
        Ok(())
    })?;
    Ok(found)
}

/// Removes the groups below `top` and then `top`; a missing one is removed already.
pub(super) fn remove(top: &Path) -> Result<()> {
    let deadline = Instant::now() + BUSY;
    let below = walk(top, |parent, name| {
        while_busy(deadline, || match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        })
    });
    let own = while_busy(deadline, || match std::fs::remove_dir(top) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO)),
    });
    below.and(own.context(|| format!("remove cgroup `{}`", top.display())))
}

/// The last process may be dead but not yet reaped: its group is busy for a moment.
fn while_busy(deadline: Instant, remove: impl Fn() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    loop {
        match remove() {
            Err(Errno::BUSY) if Instant::now() < deadline => std::thread::sleep(Duration::from_micros(500)),
            other => return other,
        }
    }
}

/// Thaws a group of the v1 freezer and those below it: what is frozen there does not even die of
/// SIGKILL (freezer-subsystem.rst). A parent's THAWED does not thaw a child that froze itself.
pub(super) fn thaw_v1(top: &Path) -> Result<()> {
    if !top.join("freezer.state").exists() {
        return Ok(());
    }
    super::write_control(top.join("freezer.state"), "THAWED").context(|| format!("thaw `{}`", top.display()))?;
    walk(top, |parent, name| {
        let group = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
        let state = rustix::fs::openat(&group, c"freezer.state", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&state, b"THAWED").map(drop)
    })
}
