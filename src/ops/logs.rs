//! Reading a console's log, which its supervisor writes: a file and its rotated older half.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::client;
use crate::error::{Context, Kind, Result};
use crate::proto::control::{Reply, Request};
use crate::store::Layout;
use crate::sys::socket::Packets;
use crate::types::ContainerName;

pub(crate) use crate::systemd::unit::show_journal;

/// Which part of the log is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    LastLines(usize),
}

/// Gives what the log holds to `show`, then what is added until the container has stopped if `follow` says
/// so. `show` says whether it wants more.
pub(crate) fn logs(
    layout: &Layout,
    name: &ContainerName,
    part: Part,
    follow: bool,
    show: &mut dyn FnMut(&[u8]) -> Result<bool>,
) -> Result<()> {
    layout.require(name)?;
    let path = layout.console_log(name);
    // Before the first look, so that nothing comes in between unseen.
    let mut changes = if follow { LogWatch::watch(layout, name)? } else { None };
    let mut current = open(&path)?;
    let mut text = read(&mut open(&path.with_extension("log.1"))?)?;
    text.extend(read(&mut current)?);
    let wanted = match part {
        Part::All => &text[..],
        Part::LastLines(n) => last_lines(&text, n),
    };
    let mut more = show(wanted)?;
    while let Some(changes) = changes.as_mut().filter(|_| more) {
        // Looked at first: what it wrote before it ended is still to be read then.
        let ended = changes.supervisor_ended;
        more = show(&read(&mut current)?)?;
        let newer = open(&path)?;
        let is_same = |a: &File, b: &File| a.metadata().ok().map(|m| m.ino()) == b.metadata().ok().map(|m| m.ino());
        match (&current, newer) {
            (Some(old), Some(newer)) if is_same(old, &newer) => {}
            // Rotated, or made only now: from its begin.
            (_, Some(newer)) => {
                current = Some(newer);
                continue;
            }
            (_, None) => {}
        }
        if ended {
            return Ok(());
        }
        changes.wait()?;
    }
    Ok(())
}

/// What a follower waits for: a change of the log, and the end of the container.
struct LogWatch {
    log: OwnedFd,
    supervisor: Packets,
    supervisor_ended: bool,
}

impl LogWatch {
    /// `None` where the container does not run: nothing will come.
    fn watch(layout: &Layout, name: &ContainerName) -> Result<Option<Self>> {
        let supervisor = match client::ask(layout, name, &Request::Watch) {
            Err(e) if e.kind() == Kind::Conflict => return Ok(None),
            other => other?,
        };
        let dir = layout.log_dir(name);
        let watch = || -> rustix::io::Result<OwnedFd> {
            let log = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            // The directory, because a rotation puts another file in the log's place.
            inotify::add_watch(&log, &dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
            Ok(log)
        };
        let log = watch().context(|| format!("watch `{}`", dir.display()))?;
        Ok(Some(LogWatch { log, supervisor, supervisor_ended: false }))
    }

    fn wait(&mut self) -> Result<()> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [readable(self.log.as_fd()), readable(self.supervisor.as_fd())];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context(|| "wait for the log"),
        }
        let told = fds[1].any().unwrap_or(false);
        // What has changed does not matter, only that something has.
        let mut events = [0; 4096];
        while let Ok(1..) = rustix::io::read(&self.log, &mut events) {}
        if told {
            self.supervisor_ended = self.supervisor.recv::<Reply>()?.is_none();
        }
        Ok(())
    }
}

fn open(path: &PathBuf) -> Result<Option<File>> {
    match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some).context(|| format!("open `{}`", path.display())),
    }
}

/// What comes after what was read before.
fn read(file: &mut Option<File>) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    if let Some(file) = file {
        let at = file.stream_position()?;
        file.read_to_end(&mut text).context(|| "read the console's log")?;
        file.seek(SeekFrom::Start(at + text.len() as u64))?;
    }
    Ok(text)
}

/// The last `n` lines; one without an end yet counts.
fn last_lines(text: &[u8], n: usize) -> &[u8] {
    if n == 0 {
        return &[];
    }
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let start = ends.map(|(at, _)| at + 1).nth(n - 1).unwrap_or(0);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole() {
        for (text, n, wanted) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\n", 1, "a\n"),
            ("a\n", 0, ""),
            ("", 3, ""),
            ("\n\n", 1, "\n"),
        ] {
            assert_eq!(last_lines(text.as_bytes(), n), wanted.as_bytes(), "{text:?} {n}");
        }
    }

    #[test]
    fn the_older_half_of_a_log_comes_first_and_following_ends() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let name: ContainerName = "web".parse().unwrap();
        std::fs::create_dir_all(layout.container(&name)).unwrap();
        std::fs::write(layout.origin_file(&name), "").unwrap();
        std::fs::create_dir_all(layout.log_dir(&name)).unwrap();
        std::fs::write(layout.console_log(&name).with_extension("log.1"), "old\n").unwrap();
        std::fs::write(layout.console_log(&name), "new\n").unwrap();
        let mut shown = Vec::new();
        let mut show = |bytes: &[u8]| {
            shown.extend_from_slice(bytes);
            Ok(true)
        };
        logs(&layout, &name, Part::All, true, &mut show).unwrap();
        assert_eq!(shown, b"old\nnew\n");
    }
}
